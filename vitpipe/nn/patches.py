"""Patches: contiguous squares of an image, in row-major order, and the way back.

Legend of the shapes: b batch, c channels, p side of a patch, r rows and q columns of patches.
"""

from einops import rearrange
from torch import Tensor


def patchify(images: Tensor, patch: int) -> Tensor:
    """(b, c, r*p, q*p) images as (b, r*q, c*p*p) tokens. Token r_i * q + q_j is the patch in row r_i, column q_j."""
    height, width = images.shape[-2:]
    assert height % patch == width % patch == 0, f"patch {patch} must divide the image {height}x{width}"
    pixels = images.permute(0, 2, 3, 1)  # as channels-last images lie in memory, and so will their gradient
    return rearrange(pixels, "b (r p1) (q p2) c -> b (r q) (c p1 p2)", p1=patch, p2=patch)


def unpatchify(tokens: Tensor, patch: int, columns: int) -> Tensor:
    """The exact inverse of `patchify`, given how many patches lie in a row; channels last in memory."""
    pixels = rearrange(tokens, "b (r q) (c p1 p2) -> b (r p1) (q p2) c", p1=patch, p2=patch, q=columns)
    return pixels.permute(0, 3, 1, 2)
