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
    """

    def __init__(self, dim: int, heads: int, *, proj: bool = True, qkv_bias: bool = True) -> None:
        super().__init__()
        assert dim % heads == 0, f"heads {heads} must divide dim {dim}"
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim) if proj else nn.Identity()

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Returns (b, n, d).

        Args:
            x: (b, n, d), what the queries are computed from.
            context: (b, m, d), what keys and values are computed from; None for `x` itself.
            mask: bool, broadcastable to (b, h, n, m): where a query may attend to a key.
        """
        if context is None:
            q, k, v = rearrange(self.qkv(x), "b n (three h e) -> b n three h e", three=3, h=self.heads).unbind(2)
        else:
            dim = x.shape[-1]
            bias = self.qkv.bias
            q = F.linear(x, self.qkv.weight[:dim], None if bias is None else bias[:dim])
            kv = F.linear(context, self.qkv.weight[dim:], None if bias is None else bias[dim:])
            q = rearrange(q, "b n (h e) -> b n h e", h=self.heads)
            k, v = rearrange(kv, "b m (two h e) -> b m two h e", two=2, h=self.heads).unbind(2)
        q, k, v = (rearrange(part, "b n h e -> b h n e") for part in (q, k, v))
        out: Tensor = self.proj(rearrange(attend(q, k, v, mask), "b h n e -> b n (h e)"))
        return out


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(e)) v of queries (b, h, n, e), keys and values (b, h, m, e): (b, h, n, e).

    On a CPU it is computed step by step: with torch's fused kernel a training step of the default super-sampler takes
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
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype is torch.bool else logits + mask
    return logits.softmax(-1)
