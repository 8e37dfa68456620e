"""Looking at attention without changing what the model computes.

Legend of the shapes: b or f images, l layers, h heads, t tokens (patches and, where there is one, the class token).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitpipe.data.pixels import to_input
from vitpipe.errors import InputError
from vitpipe.models.attention import Attention


class Record:
    """What `record_attention` saw; complete once its block has ended."""

    weights: Tensor
    """Attention after the softmax (batch, layer, head, query, key), float32; each row sums to one."""


@contextmanager
def record_attention(model: nn.Module) -> Iterator[Record]:
    """Records the attention weights of all that `model` computes inside the block.

        with record_attention(model) as record:
            model(images)
        record.weights  # (batch, layer, head, query, key)

    Raises:
        InputError: the model has no attention, or computed nothing inside the block.
    """
    layers = [module for module in model.modules() if isinstance(module, Attention)]
    if not layers:
        raise InputError(f"{type(model).__name__} has no attention layers to record")
    for layer in layers:
        layer.recorder = []
    record = Record()
    try:
        yield record
        if not all(layer.recorder for layer in layers):
            raise InputError("no attention was recorded: call the model inside the block of record_attention")
        record.weights = torch.stack([torch.cat(layer.recorder or []) for layer in layers], dim=1)
    finally:
        for layer in layers:
            layer.recorder = None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`model` in evaluation mode; afterwards each of its modules in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def watch(model: nn.Module, images: np.ndarray, device: torch.device, budget: int) -> Iterator[Tensor]:
    """Attention weights (b, l, h, t, t), float32, of images (f, s, s, 3) uint8 in order; the model keeps its mode.

    Args:
        budget: at most so many weights at a time, or those of one image.

    Raises:
        InputError: the model has no attention.
    """
    batch = at_once(model, budget)
    for start in range(0, len(images), batch):
        with torch.inference_mode(), evaluating(model), record_attention(model) as record:
            encode(model, to_input(images[start : start + batch], device))
        yield record.weights


def at_once(model: nn.Module, budget: int) -> int:
    """Of how many images all attention weights are at most `budget` numbers; at least one."""
    encoder = encoder_of(model)
    tokens = encoder.grid**2 + (encoder.token is not None)
    heads = sum(layer.heads for layer in model.modules() if isinstance(layer, Attention))
    return max(1, budget // max(1, heads * tokens**2))


def encode(model: Any, images: Tensor) -> Tensor:
    """What the encoder makes of images (b, 3, s, s) on [-1, 1]: a pass without what comes after it."""
    if getattr(model, "channels", 3) == 1:  # a classifier that sees grey
        images = images.mean(1, keepdim=True)
    return encoder_of(model)(model.stem(images))


def encoder_of(model: nn.Module) -> Any:
    """The encoder; torch declares attributes of modules as tensors or modules. InputError where there is none."""
    if not hasattr(model, "encoder"):
        raise InputError(f"{type(model).__name__} has no encoder, so no attention to look at")
    return model.encoder
