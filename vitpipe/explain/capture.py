"""Looking at attention without changing what the model computes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vitpipe.errors import InputError
from vitpipe.nn.attention import Attention


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
