"""Attention weights of any torch model, recorded without changing what the model computes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vitpipe.errors import InputError
from vitpipe.models.attention import attend, attention_weights


@contextmanager
def capture(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Records the attention weights of everything that `model` computes inside the block.

        with capture(model) as seen:
            model(images)
        seen["encoder.blocks.0.attn"]  # (batch, heads, queries, keys)

    It sees attention that is computed by `vitpipe.models.attention.attend`, by
    `torch.nn.functional.scaled_dot_product_attention` or by `torch.nn.functional.multi_head_attention_forward`, which
    `torch.nn.MultiheadAttention` calls. Outputs stay the same up to rounding.

    Yields:
        By the name of the module that computes the attention, as in `model.named_modules()`, in the order of the calls:
        the weights after the softmax, (batch, heads, queries, keys) float32. Each row sums to one; a query that may
        attend to no key has zeros. Dropout is not in them. When a module is called several times, its weights are
        concatenated along the batch. Weights of the first two functions are what the output is computed from, so they
        have gradients, unless they were concatenated; those of `multi_head_attention_forward` have none.

    Raises:
        InputError: nothing was recorded, or the calls of one module have different numbers of heads, queries or keys.
    """
    seen: dict[str, Tensor] = {}
    running: list[str] = []  # names of the modules whose forward is running, the innermost last

    def leave(*_: Any) -> None:
        running.pop()

    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.enter_context(module.register_forward_pre_hook(lambda *_, name=name: running.append(name)))
            stack.enter_context(module.register_forward_hook(leave, always_call=True))
        # the fast path of nn.MultiheadAttention and nn.TransformerEncoderLayer calls none of the functions
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(Recorder(seen, running))
        yield seen
    if not seen:
        raise InputError(
            f"no attention was recorded: call {type(model).__name__} inside the block of capture, and it must compute "
            "attention by scaled_dot_product_attention, nn.MultiheadAttention or vitpipe's Attention"
        )


class Recorder(TorchFunctionMode):
    """Records attention of the module that is the last of `running` in `seen`; see `capture`."""

    def __init__(self, seen: dict[str, Tensor], running: list[str]) -> None:
        super().__init__()
        self.seen, self.running = seen, running
        self.functions: dict[Any, Callable[..., Any]] = {
            attend: self.attention,
            F.scaled_dot_product_attention: self.attention,
            F.multi_head_attention_forward: self.multi_head_attention,
        }

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        function = self.functions.get(func, func) if self.running else func
        return function(*args, **(kwargs or {}))

    def attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """What `F.scaled_dot_product_attention` returns, computed from weights that are recorded."""
        if enable_gqa:
            groups = query.shape[-3] // key.shape[-3]
            key, value = (x.repeat_interleave(groups, -3) for x in (key, value))
        if is_causal:
            attn_mask = query.new_ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
        with torch.autocast(query.device.type, enabled=False):
            weights = attention_weights(query.float(), key.float(), attn_mask, scale)
        if attn_mask is not None:
            allowed = attn_mask if attn_mask.dtype is torch.bool else attn_mask > -torch.inf
            weights = weights.masked_fill(~allowed.any(-1, keepdim=True), 0)
        if value.requires_grad and not weights.requires_grad:
            weights.requires_grad_()  # of a control: computed from constants, but the output depends on them
        weights = self.record(weights).view(weights.shape)
        return F.dropout(weights.to(value.dtype), dropout_p) @ value

    def multi_head_attention(self, *args: Any, **kwargs: Any) -> Any:
        """What `F.multi_head_attention_forward` returns; a second call gives the weights of each head."""
        given = signature(F.multi_head_attention_forward).bind(*args, **kwargs).arguments
        each_head = {"training": False, "need_weights": True, "average_attn_weights": False}
        with torch.no_grad():
            _, weights = F.multi_head_attention_forward(**given | each_head)
        assert weights is not None
        self.record(weights)
        return F.multi_head_attention_forward(**given)

    def record(self, weights: Tensor) -> Tensor:
        """Keeps weights (..., heads, queries, keys); returns them as (batch, heads, queries, keys) float32."""
        name, heads = self.running[-1], 1 if weights.ndim < 3 else weights.shape[-3]
        weights = weights.float().reshape(-1, heads, *weights.shape[-2:])
        before = self.seen.get(name)
        if before is None:
            self.seen[name] = weights
        elif before.shape[1:] == weights.shape[1:]:
            self.seen[name] = torch.cat([before, weights])
        else:
            raise InputError(
                f"{name or 'the model'} is called with attention of different shapes, {tuple(before.shape)} and "
                f"{tuple(weights.shape)}: capture one call at a time"
            )
        return weights
