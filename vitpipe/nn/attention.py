"""Multi-head self-attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

Legend of the shapes: b batch, n tokens, d embedding width, h heads, e = d / h width of a head.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vitpipe.nn.compute import cpu_has_amx

LONGEST = 1024
"""Tokens above which the weights of all heads would fill the memory, where the fused kernel needs next to none."""
SHORT = 128
"""Tokens up to which that kernel is mostly the slower one in float32, too, without AMX (docs/benchmarks.md)."""


class Attention(nn.Module):
    """Scaled dot-product self-attention, with an output projection unless that is left out.

    Without `projection` the heads' outputs are joined and not mixed; without `bias` queries, keys and values are
    purely linear. Maps (b, n, d) to (b, n, d). While `recorder` is a list, every call appends its attention
    weights (b, h, n, n) after the softmax, in float32, and computes its output from those very
    weights; otherwise torch's fused kernel does the same sum without keeping them, except where the products
    written out are faster, see `written_out`.
    """

    def __init__(self, *, dim: int, heads: int, projection: bool = True, bias: bool = True) -> None:
        super().__init__()
        assert dim % heads == 0, f"heads {heads} must divide dim {dim}"
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.project = nn.Linear(dim, dim) if projection else nn.Identity()
        self.recorder: list[Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        # taken apart before heads go in front of tokens: backward their gradients are joined in one pass, not two
        parts = rearrange(self.qkv(x), "b n (three h e) -> b n three h e", three=3, h=self.heads).unbind(2)
        q, k, v = (rearrange(part, "b n h e -> b h n e") for part in parts)
        if self.recorder is not None:
            weights = torch.softmax((q @ k.mT).float() * self.scale, dim=-1)  # b h n n
            self.recorder.append(weights)
            out = weights.to(v.dtype) @ v  # b h n e
        elif written_out(q):
            out = torch.softmax((q * self.scale) @ k.mT, dim=-1) @ v  # b h n e
        else:
            out = F.scaled_dot_product_attention(q, k, v)  # b h n e
        return self.project(rearrange(out, "b h n e -> b n (h e)"))


def written_out(q: Tensor) -> bool:
    """Whether softmax and products are faster than torch's fused kernel for queries (b, h, n, e).

    On CPUs in bfloat16, where that kernel's backward pass is slow, for few tokens, and for heads that are narrower
    than its vectors. With AMX the kernel is the faster one without a backward pass, and for narrow heads in
    float32.
    """
    tokens, width = q.shape[-2:]
    if q.device.type != "cpu" or tokens > LONGEST:
        return False
    few = q.dtype is torch.bfloat16 or tokens <= SHORT
    return q.requires_grad and few if cpu_has_amx() else few or width <= 8
