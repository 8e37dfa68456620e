"""Position embeddings: fixed ones, and resizing to another grid.

Shapes: d embedding dimension, p prefix tokens.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

RESIZE: dict[str, dict[str, object]] = {
    "bilinear": {"mode": "bilinear"},
    "bilinear_corners": {"mode": "bilinear", "align_corners": True},
    "bicubic": {"mode": "bicubic"},
    "bicubic_antialias": {"mode": "bicubic", "antialias": True},
    "bicubic_corners": {"mode": "bicubic", "align_corners": True},
    "bicubic_offset": {"mode": "bicubic"},
}
"""How position embeddings are resized, as arguments of `torch.nn.functional.interpolate`.

bilinear is vitpipe's own. Published models are resized by bilinear_corners (Google's own code), bicubic (Hugging Face,
MAE), bicubic_antialias (timm, DINOv2 with registers), bicubic_corners (torchvision) or bicubic_offset (DINO and DINOv2:
0.1 is added to rows and columns before the scale is computed). With another one the outputs are others."""


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


def resize_pos_embed(
    pos_embed: Tensor, old: tuple[int, int], new: tuple[int, int], prefix: int, resize: str = "bilinear"
) -> Tensor:
    """Position embeddings (1, p + rows * columns, d) of a grid, resized to another grid.

    By interpolation (Dosovitskiy et al. 2020, section 3.2), in float32. Those of the `prefix` tokens have no place in
    the grid and stay as they are.

    Args:
        old: rows and columns of the grid that they are for.
        new: rows and columns wanted.
        resize: one of `RESIZE`.
    """
    if old == new:
        return pos_embed
    grid = rearrange(pos_embed[:, prefix:].float(), "1 (h w) d -> 1 d h w", h=old[0])
    if resize == "bicubic_offset":
        scale = tuple((to + 0.1) / of for to, of in zip(new, old, strict=True))
        grid = F.interpolate(grid, scale_factor=scale, recompute_scale_factor=False, **RESIZE[resize])  # type: ignore[arg-type]
    else:
        grid = F.interpolate(grid, size=new, **RESIZE[resize])  # type: ignore[arg-type]
    resized = rearrange(grid, "1 d h w -> 1 (h w) d").to(pos_embed.dtype)
    return torch.cat([pos_embed[:, :prefix], resized], dim=1)
