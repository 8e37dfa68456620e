"""Patches: contiguous squares of an image, in row-major order, and the exact inverse.

Shapes: b batch, c channels, p side of a patch, h rows and w columns of patches.
"""

from einops import rearrange
from torch import Tensor


def patchify(images: Tensor, patch: int) -> Tensor:
    """Images (b, c, h*p, w*p) to tokens (b, h*w, c*p*p). Token i * w + j is the patch in row i, column j."""
    height, width = images.shape[-2:]
    assert height % patch == width % patch == 0, f"patch {patch} must divide the image {height}x{width}"
    pixels = images.permute(0, 2, 3, 1)  # the result is the same, faster for images that are channels-last in memory
    return rearrange(pixels, "b (h p1) (w p2) c -> b (h w) (c p1 p2)", p1=patch, p2=patch)


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """The exact inverse of `patchify`, given the patches as a grid (b, h, w, c*p*p); channels-last in memory."""
    pixels = rearrange(patches, "b h w (c p1 p2) -> b (h p1) (w p2) c", p1=patch, p2=patch)
    return pixels.permute(0, 3, 1, 2)
