"""Super-sampled images that agree with the input they were made from.

Shapes: b batch, c channels, s side of the LR image, k scale.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn


class Consistency(nn.Module):
    """Projects images (b, c, k*s, k*s) onto those whose bicubic reductions are the LR images (b, c, s, s).

    The reduction D is linear, so everything that it keeps of the true image is known, up to its rounding to uint8,
    and a network only has to learn what it loses. With the pseudo-inverse D+, x becomes x + D+ (y - D x), the nearest
    such image by least squares: what back-projection (Irani & Peleg 1991,
    https://doi.org/10.1016/1049-9652(91)90045-L) converges to, and Bahat & Michaeli 2020 (arXiv:1912.01839) build into
    networks. Computed in float32 or float64, even under autocast.

    Args:
        size: s.
        scale: k.
    """

    reduce: Tensor  # s ks
    restore: Tensor  # ks s

    def __init__(self, size: int, scale: int) -> None:
        super().__init__()
        reduce = reduction(size, scale)
        self.register_buffer("reduce", reduce.float(), persistent=False)
        self.register_buffer("restore", torch.linalg.pinv(reduce).float(), persistent=False)

    def forward(self, image: Tensor, lr: Tensor) -> Tensor:
        size = len(self.reduce)
        assert lr.shape[-2:] == (size, size), f"LR images must have {size}x{size} pixels, not {tuple(lr.shape[-2:])}"
        dtype = torch.promote_types(image.dtype, torch.float32)
        image, lr, reduce, restore = (x.to(dtype) for x in (image, lr, self.reduce, self.restore))
        with torch.autocast(image.device.type, enabled=False):
            return image + restore @ (lr - reduce @ image @ reduce.mT) @ restore.mT


def reduction(size: int, scale: int) -> Tensor:
    """(s, k*s) float64: one side's share in Pillow's antialiased bicubic reduction, from Pillow itself."""
    side = scale * size
    unit = Image.fromarray(np.eye(side, dtype=np.float32))
    return torch.from_numpy(np.array(unit.resize((side, size), Image.Resampling.BICUBIC), np.float64))
