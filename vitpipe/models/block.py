"""A transformer block and its parts. Shapes: b batch, n tokens, d embedding dimension."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitpipe.models.attention import Attention
from vitpipe.models.place import Place


class Block(nn.Module):
    """Pre-norm transformer block: attention, then a two-layer MLP, each added to its input; (b, n, d) to (b, n, d).

    With `place` each head has a term for where it looks by place, which needs to know how patches lie: their `grid`
    and the number of tokens before them, `prefix`.

    Args:
        dim: d.
        heads: number of attention heads, which must divide `dim`.
        mlp_ratio: hidden dimension of the MLP / d.
        proj: whether attention ends with an output projection.
        qkv_bias: whether queries, keys and values have a bias.
        attention: softmax, or one of the controls place, uniform, none, see `Attention`.
        place: whether heads have a term for where they look by place, see `Place`.
        eps: of layer norms.
        act: activation of the MLP, see `mlp`.
        layer_scale: whether what attention and MLP add is scaled by learned factors (Touvron et al. 2021,
            arXiv:2103.17239).
        drop_path: share of images for which what attention or MLP adds is left out in training.
        dropout: share of the values that they add which is dropped in training.
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
        eps: float = 1e-5,
        act: str = "gelu",
        layer_scale: bool = False,
        drop_path: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps)
        self.place = Place(heads) if place and attention in ("softmax", "place") else None
        self.attn = Attention(dim, heads, proj=proj, qkv_bias=qkv_bias, kind=attention)
        self.ls1 = LayerScale(dim) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(dim, eps)
        self.mlp = mlp(dim, round(dim * mlp_ratio), act)
        self.ls2 = LayerScale(dim) if layer_scale else nn.Identity()
        self.drop = Drop(drop_path, dropout) if drop_path or dropout else nn.Identity()

    def forward(self, x: Tensor, grid: tuple[int, int] = (0, 0), prefix: int = 0) -> Tensor:
        mask = None if self.place is None else self.place(grid, prefix)
        x = x + self.drop(self.ls1(self.attn(self.norm1(x), mask=mask)))
        x = x + self.drop(self.ls2(self.mlp(self.norm2(x))))
        return x


class LayerScale(nn.Module):
    """A learned factor for each of d dimensions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Drop(nn.Module):
    """Dropout of single values and, for whole images, of all (stochastic depth, Huang et al. 2016, arXiv:1603.09382).

    What remains is scaled so that the mean stays the same. Nothing happens in evaluation mode.
    """

    def __init__(self, drop_path: float, dropout: float) -> None:
        super().__init__()
        self.drop_path, self.dropout = drop_path, dropout

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        x = F.dropout(x, self.dropout)
        kept = F.dropout(x.new_ones(len(x), *(1,) * (x.ndim - 1)), self.drop_path)
        return x * kept


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), an approximation of GELU that OpenAI's CLIP has."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class SwiGLU(nn.Module):
    """The gate of SwiGLU (Shazeer 2020, arXiv:2002.05202): silu(a) * b of the two halves a and b."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        return F.silu(a) * b


def mlp(dim: int, hidden: int, act: str) -> nn.Sequential:
    """(..., dim) to (..., dim), with `hidden` dimensions between the two linear layers.

    Args:
        act: gelu, gelu_tanh (its approximation), quick_gelu, or swiglu, whose first layer has 2 * `hidden` outputs.
    """
    gates: dict[str, Callable[[], nn.Module]] = {
        "gelu": nn.GELU,
        "gelu_tanh": lambda: nn.GELU("tanh"),
        "quick_gelu": QuickGELU,
        "swiglu": SwiGLU,
    }
    inner = 2 * hidden if act == "swiglu" else hidden
    return nn.Sequential(nn.Linear(dim, inner), gates[act](), nn.Linear(hidden, dim))
