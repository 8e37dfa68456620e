"""The super-sampler: what is missing beside an up-sampled copy of the input.

Legend of the shapes: b batch, w width (channels), s input side, k scale, n tokens, d embedding width.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vitpipe.nn.consistency import Consistency
from vitpipe.nn.convolution import Convolutions, ResidualBlock, convolution, stem
from vitpipe.nn.encoder import Encoder
from vitpipe.nn.patches import unpatchify


class SuperSampler(nn.Module):
    """LR image (b, 3, s, s) to HR image (b, 3, k*s, k*s), both on [-1, 1].

    A convolution stem at input resolution, the ViT encoder on patches of its features, back to
    pixels and added to the stem, convolutions again so that no patch border shows, and a
    pixel-shuffle tail (Shi et al. 2016, arXiv:1609.05158). The last layer starts at zero: an
    untrained model gives exactly the up-sampled input, the `skip`, or with `consistent` the nearest image to that.

    Args:
        size: s, a multiple of `patch`; with `consistent` inputs can have no other size.
        consistent: whether every output, reduced as Pillow's bicubic does, is the input again (`Consistency`).
        mirrored: whether the convolutions treat mirrored images alike (`MirroredConv2d`).
        encoder: what `Encoder` takes besides.
    """

    def __init__(
        self,
        *,
        size: int,
        scale: int,
        patch: int,
        skip: str,
        width: int,
        blocks: int,
        dim: int,
        expansion: int = 1,
        mirrored: bool = False,
        consistent: bool = False,
        **encoder: Any,
    ) -> None:
        super().__init__()
        self.scale, self.skip = scale, skip
        self.stem = stem(3, width, blocks, expansion, nn.ReLU, mirrored)
        self.encoder = Encoder(size=size, patch=patch, channels=width, dim=dim, **encoder)
        self.readout = nn.Linear(dim, width * patch * patch)
        self.tail = Convolutions(*(ResidualBlock(width, nn.ReLU, expansion, mirrored) for _ in range(blocks)))
        self.last = convolution(width, 3 * scale * scale, mirrored, run_out=scale)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        self.consistency = Consistency(size, scale, enlargement(size, scale, skip)) if consistent else None

    def forward(self, lr: Tensor) -> Tensor:
        features = self.stem(lr)  # b w s s
        tokens = self.encoder(features)  # b n d
        patch = self.encoder.patch
        seen = unpatchify(self.readout(tokens), patch, lr.shape[-1] // patch)  # b w s s
        missing = pixel_shuffle(self.last(self.tail(features + seen)), self.scale)  # b 3 ks ks
        if self.consistency is None:
            return upsample(lr, self.scale, self.skip) + missing
        return self.consistency(missing, lr)


def pixel_shuffle(x: Tensor, scale: int) -> Tensor:
    """(b, c * k^2, s, s) to (b, c, k*s, k*s), torch's own but for the order in memory: columns are last.

    torch leaves channels last where they were, and most of what follows is slower so on images of three channels.
    """
    return rearrange(x, "b (c i j) h w -> b c (h i) (w j)", i=scale, j=scale).contiguous()


def self_ensemble(model: Callable[[Tensor], Tensor], lr: Tensor) -> tuple[Tensor, Tensor]:
    """HR images (b, 3, k*s, k*s) of LR images (b, 3, s, s); and their mean with those of mirrored ones, mirrored back.

    All are float32 on [-1, 1], not clipped. The mean is the self-ensemble of Lim et al. 2017 (arXiv:1707.02921) with
    two of its eight transformations, as faces are neither turned nor upside down. It takes a second pass; a model
    that treats mirrored images alike gains nothing.
    """
    own, other = model(lr).float(), model(lr.flip(-1)).float().flip(-1)
    return own, (own + other) / 2


def upsample(lr: Tensor, scale: int, method: str) -> Tensor:
    """Enlarges (b, c, s, s) to (b, c, scale*s, scale*s) by nearest, bilinear or bicubic interpolation.

    Bicubic is Keys' kernel with a = -0.5, as Pillow and Matlab have it (`antialias=True` chooses it in torch
    and changes nothing else when enlarging; without, torch takes a = -0.75).
    """
    if method == "nearest":
        return F.interpolate(lr, scale_factor=scale, mode="nearest")
    return F.interpolate(lr.float().contiguous(), scale_factor=scale, mode=method, align_corners=False, antialias=True)


def enlargement(size: int, scale: int, method: str) -> Tensor:
    """(k*s, s): what `upsample` does along one side. For few pixels the product is faster than the interpolation."""
    pixels = torch.eye(size)[:, None, :, None]  # s images, one pixel wide, in which one pixel is 1
    return upsample(pixels, scale, method)[:, 0, :, 0].T.contiguous()
