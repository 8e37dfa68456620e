"""Super-sampled images that agree with what they were made from.

Legend of the shapes: b batch, c channels, s side of the LR image, k scale.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn


class Consistency(nn.Module):
    """Moves images (b, c, k*s, k*s) to the nearest ones whose bicubic reductions are the LR images (b, c, s, s).

    The reduction is linear, so all that it keeps of the true image is known, up to its rounding to uint8, and need not
    be learned; only what it loses is left to a network. With D the reduction and D+ its pseudo-inverse, x becomes
    x + D+ (y - D x), the nearest by least squares: what back-projection (Irani & Peleg 1991,
    https://doi.org/10.1016/1049-9652(91)90045-L) comes to, and Bahat & Michaeli 2020 (arXiv:1912.01839) build into
    networks. Computed in float32 at least, within autocast, too.

    Args:
        size: s.
        scale: k.
        enlarge: (k*s, s), enlarges the LR image along either side. If given, `forward` adds the enlarged LR image to
            `image` first; otherwise `image` is whole.
    """

    enlarge: Tensor | None

    reduce: Tensor  # s ks
    restore: Tensor  # ks s

    def __init__(self, size: int, scale: int, enlarge: Tensor | None = None) -> None:
        super().__init__()
        reduce = reduction(size, scale)
        self.register_buffer("reduce", reduce.float(), persistent=False)
        self.register_buffer("restore", torch.linalg.pinv(reduce).float(), persistent=False)
        self.register_buffer("enlarge", enlarge, persistent=False)

    def forward(self, image: Tensor, lr: Tensor) -> Tensor:
        size = len(self.reduce)
        assert lr.shape[-2:] == (size, size), f"LR images must have {size}x{size} pixels, not {tuple(lr.shape[-2:])}"
        dtype = torch.promote_types(image.dtype, torch.float32)
        known, reduce, restore = (x.to(dtype) for x in (lr.flatten(0, 1), self.reduce, self.restore))
        found = image.flatten(0, 1).to(dtype, copy=True)  # b*c ks ks
        with torch.autocast(image.device.type, enabled=False):
            if self.enlarge is not None:
                add_stretched(found, self.enlarge.to(dtype), known)
            add_stretched(found, restore, known - reduce @ found @ reduce.mT)
        return found.view(image.shape)


def add_stretched(image: Tensor, matrix: Tensor, small: Tensor) -> None:
    """Adds matrix (m, n) @ small (b*c, n, n) @ matrix.mT to image (b*c, m, m) in place, within the last product."""
    image.baddbmm_(matrix @ small, matrix.mT.expand(len(small), -1, -1))


def reduction(size: int, scale: int) -> Tensor:
    """(s, k*s) float64: one side's share in Pillow's antialiased bicubic reduction, from Pillow itself."""
    side = scale * size
    unit = Image.fromarray(np.eye(side, dtype=np.float32))
    return torch.from_numpy(np.array(unit.resize((side, size), Image.Resampling.BICUBIC), np.float64))
