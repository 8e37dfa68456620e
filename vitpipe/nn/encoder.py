"""The Vision Transformer encoder (Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929).

Legend of the shapes: b batch, n tokens, d embedding width, c channels, p side of a patch.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vitpipe.nn.attention import Attention
from vitpipe.nn.patches import patchify


class Block(nn.Module):
    """Pre-norm transformer block: attention, then a two-layer MLP, each added to its input. (b, n, d) to itself."""

    def __init__(self, *, dim: int, heads: int, mlp: float, projection: bool, bias: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim=dim, heads=heads, projection=projection, bias=bias)
        self.norm2 = nn.LayerNorm(dim)
        hidden = int(dim * mlp)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    """Images or feature maps in, one vector per token out: (b, c, s, s) to (b, n, d), n = (s / patch)^2.

    Args:
        size: side s of the input in pixels; `patch` must divide it.
        channels: channels c of the input.
        position: none, learned (one vector per token) or sincos (fixed, 2-D, nothing for the class token).
        projection: whether attention ends in an output projection.
        bias: whether queries, keys and values have a bias.
        norm: whether the last block is followed by a layer norm.
        token: whether a class token goes before the patches; then n is one more, and it is token 0.
    """

    def __init__(
        self,
        *,
        size: int,
        patch: int,
        channels: int,
        dim: int,
        depth: int,
        heads: int,
        mlp: float,
        position: str,
        projection: bool = True,
        bias: bool = True,
        norm: bool = True,
        token: bool = False,
    ) -> None:
        super().__init__()
        assert size % patch == 0, f"patch {patch} must divide the input size {size}"
        self.patch = patch
        self.grid = size // patch
        self.embed = nn.Linear(channels * patch * patch, dim)
        self.token = nn.Parameter(torch.randn(1, dim) * 0.02) if token else None
        self.position: Tensor | None
        if position == "learned":
            self.position = nn.Parameter(torch.randn(self.grid**2 + token, dim) * 0.02)
        else:
            fixed = F.pad(sincos_position(self.grid, dim), (0, 0, int(token), 0)) if position == "sincos" else None
            self.register_buffer("position", fixed, persistent=False)
        self.blocks = nn.ModuleList(
            Block(dim=dim, heads=heads, mlp=mlp, projection=projection, bias=bias) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(patchify(images, self.patch))  # b n d
        if self.token is not None:
            x = torch.cat([self.token.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        if self.position is not None:
            x = x + resize_position(self.position, images.shape[-1] // self.patch, self.token is not None)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def sincos_position(grid: int, dim: int) -> Tensor:
    """Fixed 2-D sine and cosine position embedding (grid*grid, dim), after Chen et al. 2021 (MoCo v3, section 4).

    A quarter of the width each for sin and cos of the row and of the column, at frequencies
    10000^(-i / (dim / 4)); `dim` must be a multiple of 4.
    """
    assert dim % 4 == 0, f"dim {dim} must be a multiple of 4"
    frequency = 10000.0 ** -(torch.arange(dim // 4) / (dim // 4))
    angle = torch.arange(grid).float()[:, None] * frequency  # grid, dim/4
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)  # grid, dim/2
    rows, columns = wave[:, None].expand(-1, grid, -1), wave[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


def resize_position(position: Tensor, grid: int, token: bool = False) -> Tensor:
    """Position embeddings (n, d) of a square grid, resized to grid x grid (Dosovitskiy et al. 2020, section 3.2).

    With `token` the first one is the class token's, which has no place in the grid and stays as it is.
    """
    old = int((position.shape[0] - token) ** 0.5)
    if old == grid:
        return position
    image = rearrange(position[int(token) :], "(r q) d -> 1 d r q", r=old)
    image = F.interpolate(image, size=(grid, grid), mode="bilinear", align_corners=False)
    return torch.cat([position[: int(token)], rearrange(image, "1 d r q -> (r q) d")])
