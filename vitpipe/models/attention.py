"""Multi-head attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

Shapes: b batch, n queries, m keys, d embedding dimension, h heads, e = d / h dimension of a head.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

LONGEST = 1024
"""Number of keys above which the fused kernel is used on a CPU as well: it does not keep all weights in memory."""


class Attention(nn.Module):
    """Scaled dot-product attention, self-attention or cross-attention, followed by an output projection.

    Args:
        dim: embedding dimension d.
        heads: number of heads h, which must divide `dim`.
        proj: whether there is an output projection; without one the outputs of the heads are only concatenated.
        qkv_bias: whether queries, keys and values have a bias.
        kind: softmax is attention. The others are controls that tell what it is worth: place leaves queries and keys
            out, so that weights come from the mask alone; uniform gives all tokens the same weight, whatever the mask;
            none lets each token see only itself, and is for self-attention alone.
    """

    def __init__(
        self, dim: int, heads: int, *, proj: bool = True, qkv_bias: bool = True, kind: str = "softmax"
    ) -> None:
        super().__init__()
        assert dim % heads == 0, f"heads {heads} must divide dim {dim}"
        self.heads, self.kind = heads, kind
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim) if proj else nn.Identity()

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Returns (b, n, d).

        Args:
            x: (b, n, d), what the queries are computed from.
            context: (b, m, d), what keys and values are computed from; None for `x` itself.
            mask: broadcastable to (b, h, n, m): bool, where a query may attend to a key, or float, added to the logits.
        """
        dim = x.shape[-1]
        if self.kind != "softmax":
            values = self.project(x if context is None else context, slice(2 * dim, None))
            v = rearrange(values, "b m (h e) -> b h m e", h=self.heads)
            return self.join(self.controlled(v, x.shape[1], mask))
        if context is None:
            q, k, v = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=self.heads)
        else:
            q = rearrange(self.project(x, slice(dim)), "b n (h e) -> b h n e", h=self.heads)
            k, v = rearrange(
                self.project(context, slice(dim, None)), "b m (two h e) -> two b h m e", two=2, h=self.heads
            )
        return self.join(attend(q, k, v, mask))

    def controlled(self, v: Tensor, queries: int, mask: Tensor | None) -> Tensor:
        """What controls make of values (b, h, m, e). Queries and keys keep weights, so that all others begin alike."""
        if self.kind == "none":
            return v
        nothing = v.new_zeros(1)
        q, k = nothing.expand(*v.shape[:2], queries, 1), nothing.expand(*v.shape[:3], 1)
        return attend(q, k, v, mask if self.kind == "place" else None)

    def project(self, x: Tensor, rows: slice) -> Tensor:
        """What some rows of the weights of queries, keys and values, d each in this order, make of `x`."""
        return F.linear(x, self.qkv.weight[rows], None if self.qkv.bias is None else self.qkv.bias[rows])

    def join(self, heads: Tensor) -> Tensor:
        """The output (b, n, d) from those of the heads (b, h, n, e)."""
        out: Tensor = self.proj(rearrange(heads, "b h n e -> b n (h e)"))
        return out


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(e)) v of queries (b, h, n, e), keys and values (b, h, m, e): (b, h, n, e).

    On a CPU it is computed step by step: with torch's fused kernel a training step of the hybrid super-sampler took
    1.16 times as long (one thread, bfloat16). A `TorchFunctionMode` sees the call as it sees torch's own functions, see
    `vitpipe.explain.capture`.
    """
    if has_torch_function((q, k, v)):
        return handle_torch_function(attend, (q, k, v), q, k, v, mask)
    if q.device.type == "cpu" and k.shape[-2] <= LONGEST:
        return attention_weights(q, k, mask) @ v
    return F.scaled_dot_product_attention(q, k, v, mask)


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None, scale: float | None = None) -> Tensor:
    """softmax(q k^T * scale) of queries (b, h, n, e) and keys (b, h, m, e): (b, h, n, m), rows sum to one.

    Args:
        mask: bool, where a query may attend to a key, or float, added before the softmax.
        scale: 1 / sqrt(e) if None.
    """
    logits = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.mT
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype is torch.bool else logits + mask.to(q.dtype)
    return logits.softmax(-1)
