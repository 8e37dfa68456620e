"""The Vision Transformer encoder (Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929).

Shapes: b batch, n tokens, d embedding dimension, c channels, h rows and w columns of patches, p prefix tokens.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vitpipe.config import Model
from vitpipe.models.attention import Attention
from vitpipe.models.patches import patchify
from vitpipe.models.place import Place


class Features(NamedTuple):
    """What an encoder makes of images."""

    prefix: Tensor
    """Class token and registers (b, p, d), in this order; p may be 0."""
    patches: Tensor
    """One vector for each patch (b, h, w, d)."""


class Block(nn.Module):
    """Pre-norm transformer block: attention, then a two-layer MLP, each added to its input; (b, n, d) to (b, n, d).

    With `place` each head has a term for where it looks by place, which needs to know how patches lie: their `grid`
    and the number of tokens before them, `prefix`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        proj: bool = True,
        qkv_bias: bool = True,
        attention: str = "softmax",
        place: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.place = Place(heads) if place and attention in ("softmax", "place") else None
        self.attn = Attention(dim, heads, proj=proj, qkv_bias=qkv_bias, kind=attention)
        self.norm2 = nn.LayerNorm(dim)
        hidden = int(dim * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor, grid: tuple[int, int] = (0, 0), prefix: int = 0) -> Tensor:
        x = x + self.attn(self.norm1(x), mask=None if self.place is None else self.place(grid, prefix))
        x = x + self.mlp(self.norm2(x))
        return x


class ViT(nn.Module):
    """Images or feature maps (b, c, H, W) to `Features`, for any H and W that are multiples of `patch`.

    Args:
        size: height and width in pixels that the position embedding is made for; one number for a square.
            Other inputs get it resized.
        patch: side of a patch in pixels.
        channels: channels c of the input.
        position: none, learned (one vector for each token) or sincos (fixed, 2-D, zero for prefix tokens).
        proj: whether attention ends with an output projection.
        qkv_bias: whether queries, keys and values have a bias.
        final_norm: whether a layer norm follows the last block.
        class_token: whether a class token precedes the patches.
        attention: softmax, or one of the controls place, uniform, none, see `Attention`.
        place: whether heads have a term for where they look by place, see `Place`.
        registers: register tokens between class token and patches (Darcet et al. 2023, arXiv:2309.16588).
    """

    pos_embed: Tensor | None

    def __init__(
        self,
        *,
        size: int | tuple[int, int],
        patch: int,
        channels: int,
        dim: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        position: str = "learned",
        proj: bool = True,
        qkv_bias: bool = True,
        final_norm: bool = True,
        attention: str = "softmax",
        place: bool = False,
        class_token: bool = False,
        registers: int = 0,
    ) -> None:
        super().__init__()
        height, width = (size, size) if isinstance(size, int) else size
        assert height % patch == width % patch == 0, f"patch {patch} must divide the input size {height}x{width}"
        self.patch = patch
        self.grid = height // patch, width // patch
        self.prefix_names = ("class token",) * class_token + tuple(f"register {i + 1}" for i in range(registers))
        self.num_prefix_tokens = len(self.prefix_names)
        self.patch_embed = nn.Linear(channels * patch * patch, dim)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02) if class_token else None
        self.reg_token = nn.Parameter(torch.randn(1, registers, dim) * 0.02) if registers else None
        if position == "learned":
            tokens = self.num_prefix_tokens + self.grid[0] * self.grid[1]
            self.pos_embed = nn.Parameter(torch.randn(1, tokens, dim) * 0.02)
        else:
            fixed = sincos_position(*self.grid, dim) if position == "sincos" else None
            padded = None if fixed is None else F.pad(fixed, (0, 0, self.num_prefix_tokens, 0))[None]
            self.register_buffer("pos_embed", padded, persistent=False)
        self.blocks = nn.ModuleList(
            Block(dim, heads, mlp_ratio=mlp_ratio, proj=proj, qkv_bias=qkv_bias, attention=attention, place=place)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim) if final_norm else nn.Identity()

    def forward(self, images: Tensor) -> Features:
        grid = images.shape[-2] // self.patch, images.shape[-1] // self.patch
        x = self.patch_embed(patchify(images, self.patch))  # b h*w d
        prefix = [
            token.to(x.dtype).expand(len(x), -1, -1) for token in (self.cls_token, self.reg_token) if token is not None
        ]
        if prefix:
            x = torch.cat([*prefix, x], dim=1)
        if self.pos_embed is not None:
            x = x + resize_pos_embed(self.pos_embed, self.grid, grid, self.num_prefix_tokens)
        for block in self.blocks:
            x = block(x, grid, self.num_prefix_tokens)
        x = self.norm(x)
        patches = x[:, self.num_prefix_tokens :].unflatten(1, grid)
        return Features(x[:, : self.num_prefix_tokens], patches)


def build_vit(model: Model, *, size: int, channels: int, class_token: bool = False) -> ViT:
    """The encoder that the settings describe, for square inputs with `size` pixels on a side."""
    return ViT(
        size=size,
        patch=model.patch,
        channels=channels,
        dim=model.dim,
        depth=model.depth,
        heads=model.heads,
        mlp_ratio=model.mlp_ratio,
        position=model.position,
        proj=model.proj,
        qkv_bias=model.qkv_bias,
        final_norm=model.final_norm,
        attention=model.attention,
        place=model.place,
        class_token=class_token,
    )


def sincos_position(rows: int, columns: int, dim: int) -> Tensor:
    """Fixed 2-D sine and cosine position embedding (rows * columns, dim), after Chen et al. 2021 (MoCo v3, section 4).

    A quarter of the dimensions each for sine and cosine of the row and of the column, at frequencies
    10000^(-i / (dim / 4)); `dim` must be a multiple of 4.
    """
    assert dim % 4 == 0, f"dim {dim} must be a multiple of 4"
    frequency = 10000.0 ** -(torch.arange(dim // 4) / (dim // 4))
    angle = torch.arange(max(rows, columns)).float()[:, None] * frequency  # side, dim/4
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)  # side, dim/2
    by_row, by_column = wave[:rows, None].expand(-1, columns, -1), wave[None, :columns].expand(rows, -1, -1)
    return torch.cat([by_row, by_column], dim=-1).flatten(0, 1)


def resize_pos_embed(pos_embed: Tensor, old: tuple[int, int], new: tuple[int, int], prefix: int) -> Tensor:
    """Position embeddings (1, prefix + rows * columns, d) of a grid, resized to another grid.

    Bilinear interpolation (Dosovitskiy et al. 2020, section 3.2). Those of the `prefix` tokens have no place in the
    grid and stay as they are.

    Args:
        old: rows and columns of the grid that they are for.
        new: rows and columns wanted.
    """
    if old == new:
        return pos_embed
    grid = rearrange(pos_embed[:, prefix:], "1 (h w) d -> 1 d h w", h=old[0])
    grid = F.interpolate(grid, size=new, mode="bilinear", align_corners=False)
    return torch.cat([pos_embed[:, :prefix], rearrange(grid, "1 d h w -> 1 (h w) d")], dim=1)
