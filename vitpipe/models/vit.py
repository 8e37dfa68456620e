"""The Vision Transformer encoder (Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929).

Shapes: b batch, n tokens, d embedding dimension, c channels, h rows and w columns of patches, p prefix tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitpipe.config import Model
from vitpipe.models.block import Block
from vitpipe.models.patches import patchify
from vitpipe.models.position import resize_pos_embed, sincos_position

OWN = ("patch", "dim", "depth", "heads", "mlp_ratio", "position", "proj", "qkv_bias", "final_norm", "place")
"""Keywords of `ViT` that are settings of the same names."""


class Features(NamedTuple):
    """What an encoder makes of images."""

    prefix: Tensor
    """Class token and registers (b, p, d), in this order; p may be 0."""
    patches: Tensor
    """One vector for each patch (b, h, w, d)."""


class ViT(nn.Module):
    """Images or feature maps (b, c, H, W) to `Features`, for any H and W that are multiples of `patch`.

    Args:
        size: height and width in pixels that the position embedding is made for; one number for a square.
            Other inputs get it resized.
        patch: side of a patch in pixels of the input.
        stride: pixels of the image from one pixel of the input to the next; 1 for images, more for feature maps.
        channels: channels c of the input.
        position: none, learned (one vector for each token) or sincos (fixed, 2-D, zero for prefix tokens).
        final_norm: whether a layer norm follows the last block.
        class_token: whether a class token precedes the patches.
        registers: register tokens between class token and patches (Darcet et al. 2023, arXiv:2309.16588).
        patch_bias: whether the patch embedding has a bias.
        pre_norm: whether a layer norm precedes the blocks, as in CLIP.
        pool_norm: whether a layer norm follows pooling.
        resize: how position embeddings are resized, see `vitpipe.models.position.RESIZE`.
        mean: of the images that the weights were trained on, for each channel, on [0, 1]. Inputs on [-1, 1] are
            standardised with it; None, and `std` None, for models that take them as they are.
        std: their standard deviation.
        eps: of layer norms.
        drop_path: for the last block; it rises linearly from 0 for the first one.
        grad_checkpointing: whether blocks are computed again in the backward pass, which saves memory
            (Chen et al. 2016, arXiv:1604.06174).
        block: all else, see `Block`.
    """

    pos_embed: Tensor | None
    shift: Tensor | None
    scale: Tensor | None

    def __init__(
        self,
        *,
        size: int | tuple[int, int],
        patch: int,
        stride: int = 1,
        channels: int,
        dim: int,
        depth: int,
        heads: int,
        position: str = "learned",
        final_norm: bool = True,
        class_token: bool = False,
        registers: int = 0,
        patch_bias: bool = True,
        pre_norm: bool = False,
        pool_norm: bool = False,
        resize: str = "bilinear",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        eps: float = 1e-5,
        drop_path: float = 0.0,
        grad_checkpointing: bool = False,
        **block: Any,
    ) -> None:
        super().__init__()
        height, width = (size, size) if isinstance(size, int) else size
        assert height % patch == width % patch == 0, f"patch {patch} must divide the input size {height}x{width}"
        self.patch, self.dim, self.resize, self.grad_checkpointing = patch, dim, resize, grad_checkpointing
        self.pixels = patch * stride  # side of a patch in pixels of the image
        self.grid = height // patch, width // patch
        self.prefix_names = ("class token",) * class_token + tuple(f"register {i + 1}" for i in range(registers))
        self.num_prefix_tokens = len(self.prefix_names)
        # (x / 2 + 1 / 2 - mean) / std of x on [-1, 1]
        affine = None if mean is None or std is None else (1 - 2 * torch.tensor(mean), 2 * torch.tensor(std))
        self.register_buffer("shift", affine and affine[0][:, None, None], persistent=False)
        self.register_buffer("scale", affine and affine[1][:, None, None], persistent=False)
        self.patch_embed = nn.Linear(channels * patch * patch, dim, bias=patch_bias)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02) if class_token else None
        self.reg_token = nn.Parameter(torch.randn(1, registers, dim) * 0.02) if registers else None
        if position == "learned":
            tokens = self.num_prefix_tokens + self.grid[0] * self.grid[1]
            self.pos_embed = nn.Parameter(torch.randn(1, tokens, dim) * 0.02)
        else:
            fixed = sincos_position(*self.grid, dim) if position == "sincos" else None
            padded = None if fixed is None else F.pad(fixed, (0, 0, self.num_prefix_tokens, 0))[None]
            self.register_buffer("pos_embed", padded, persistent=False)
        self.norm_pre = nn.LayerNorm(dim, eps) if pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(dim, heads, eps=eps, drop_path=drop_path * i / max(1, depth - 1), **block) for i in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps) if final_norm else nn.Identity()
        self.fc_norm = nn.LayerNorm(dim, eps) if pool_norm else None

    def forward(self, images: Tensor) -> Features:
        grid = images.shape[-2] // self.patch, images.shape[-1] // self.patch
        x = self.embed(images)
        prefix = [
            token.to(x.dtype).expand(len(x), -1, -1) for token in (self.cls_token, self.reg_token) if token is not None
        ]
        if prefix:
            x = torch.cat([*prefix, x], dim=1)
        if self.pos_embed is not None:
            x = x + resize_pos_embed(self.pos_embed, self.grid, grid, self.num_prefix_tokens, self.resize)
        x = self.norm_pre(x)
        for block in self.blocks:
            if self.grad_checkpointing and self.training:
                x = checkpoint(block, x, grid, self.num_prefix_tokens, use_reentrant=False)
            else:
                x = block(x, grid, self.num_prefix_tokens)
        x = self.norm(x)
        patches = x[:, self.num_prefix_tokens :].unflatten(1, grid)
        return Features(x[:, : self.num_prefix_tokens], patches)

    def embed(self, images: Tensor) -> Tensor:
        """The embedding of each patch (b, h * w, d) without its position, of images or feature maps (b, c, s, s)."""
        if self.shift is not None and self.scale is not None:
            images = (images + self.shift) / self.scale
        tokens: Tensor = self.patch_embed(patchify(images, self.patch))
        return tokens

    def pool(self, features: Features, kind: str) -> Tensor:
        """One vector for each image (b, d): the class token (`kind` token) or the mean of all patches (avg)."""
        pooled = features.prefix[:, 0] if kind == "token" else features.patches.flatten(1, 2).mean(1)
        return pooled if self.fc_norm is None else self.fc_norm(pooled)


def build_vit(model: Model, encoder: Mapping[str, Any] | None = None, **given: Any) -> ViT:
    """The encoder that the settings describe, with random weights.

    Args:
        encoder: how an encoder in a weights file is built, see `vitpipe.models.pretrained`; without it the settings
            say that.
        given: further arguments of `ViT`.
    """
    built = {key: value for key, value in encoder.items() if key != "stem"} if encoder else own_keywords(model)
    return ViT(attention=model.attention, **built, **given)


def own_keywords(model: Model) -> dict[str, Any]:
    return {key: getattr(model, key) for key in OWN}
