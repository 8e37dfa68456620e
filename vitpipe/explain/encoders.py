"""The encoder of a model, and its attention in many images, in batches that fit into memory.

Shapes: b or f images, l layers, h heads, t tokens (prefix tokens and patches), n patches.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitpipe.data.pixels import to_input
from vitpipe.errors import InputError
from vitpipe.explain.capture import capture
from vitpipe.models.attention import Attention
from vitpipe.models.vit import ViT
from vitpipe.progress import progress

WEIGHTS_AT_ONCE = 2**23  # 32 MB; more is slower on a CPU
NO_ATTENTION = "null: the model computes no attention (model.attention none or model.depth 0)"


def encoder_of(model: nn.Module) -> ViT:
    """The encoder of a model. Raises InputError where there is none."""
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, ViT):
        raise InputError(f"{type(model).__name__} has no encoder, so no attention to look at")
    return encoder


def attention_layers(model: nn.Module) -> list[Attention]:
    """The layers of the encoder that compute attention, in their order.

    With `model.attention` none or `model.depth` 0 it is empty: there is no attention to look at. Raises InputError
    where there is no encoder.
    """
    return [layer for layer in all_layers(encoder_of(model)) if layer.kind != "none"]


def all_layers(model: nn.Module) -> list[Attention]:
    """The attention layers of any model in their order, those of kind none included."""
    return [module for module in model.modules() if isinstance(module, Attention)]


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`model` in evaluation mode; afterwards each of its modules is in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def encoder_layers(seen: Mapping[str, Tensor]) -> list[Tensor]:
    """The attention of each layer of the encoder (b, h, t, t), among what `capture` recorded."""
    return [weights for name, weights in seen.items() if name.startswith("encoder.")]


def attention_batches(model: nn.Module, images: np.ndarray) -> Iterator[Tensor]:
    """Attention of the encoder (b, l, h, t, t), float32, for images (f, s, s, 3) uint8 in order.

    l and h are 0 where the model computes no attention. The model stays in its mode.
    """
    net: Any = model
    batch, device = images_at_once(model, WEIGHTS_AT_ONCE), device_of(model)
    attends, tokens = bool(attention_layers(model)), token_count(encoder_of(model))
    with progress(len(images), "attention", "image", shown=len(images) > batch) as bar:
        for start in range(0, len(images), batch):
            some = to_input(images[start : start + batch], device)
            recorder: AbstractContextManager[dict[str, Tensor]] = capture(model) if attends else nullcontext({})
            with torch.inference_mode(), evaluating(model), recorder as seen:
                net.forward_features(some)
            yield torch.stack(encoder_layers(seen), 1) if attends else some.new_empty(len(some), 0, 0, tokens, tokens)
            bar.update(len(some))


def images_at_once(model: nn.Module, budget: int) -> int:
    """The number of images whose attention weights are at most `budget` numbers together; at least one.

    With attention left out of the blocks it stays the same; without blocks one head is counted.
    """
    encoder = encoder_of(model)
    heads = sum(layer.heads for layer in all_layers(encoder))
    return max(1, budget // (max(1, heads) * token_count(encoder) ** 2))


def token_count(encoder: ViT) -> int:
    """The number t of tokens of an image of the usual size."""
    return encoder.num_prefix_tokens + encoder.grid[0] * encoder.grid[1]


def reads_class_token(model: nn.Module) -> bool:
    """Whether the head reads the class token: not where there is none, nor with `model.pool` avg."""
    return encoder_of(model).cls_token is not None and getattr(model, "pool", None) == "token"


def query_row(weights: Tensor, model: nn.Module) -> Tensor:
    """The attention to the patches (..., n) of the query that the head reads, from weights (..., t, t).

    That is the class token, see `reads_class_token`. Its row is without the prefix tokens and not renormalised, so that
    it sums to at most one. Else it is the mean over the queries of all patches, because the head reads their mean.
    """
    prefix = encoder_of(model).num_prefix_tokens
    rows = weights[..., 0, :] if reads_class_token(model) else weights[..., prefix:, :].mean(-2)
    return rows[..., prefix:]


def query_name(model: nn.Module) -> np.ndarray:
    """Whose attention `query_row` is, in words."""
    return np.array("class token" if reads_class_token(model) else "mean of all patches")


def on_grid(values: Tensor, encoder: ViT) -> Tensor:
    """Values of patches (..., n) as (..., rows, columns)."""
    return values.reshape(*values.shape[:-1], *encoder.grid)
