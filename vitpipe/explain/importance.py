"""What layers compute, and what a model loses without a head.

Shapes: b images, l layers, h heads.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from vitpipe.data.dataset import PackedDataset
from vitpipe.explain.encoders import encoder_of, evaluating, modules_of
from vitpipe.models.attention import Attention
from vitpipe.progress import progress
from vitpipe.tasks.base import Task

Recorded = list[list[Tensor]]
"""What was recorded, by layer and call."""


@contextmanager
def recording(modules: Sequence[nn.Module], take: Callable[[Tensor, Tensor], Tensor]) -> Iterator[Recorded]:
    """Records `take(input, output)` of every call of each of `modules` inside the block."""
    recorded: Recorded = [[] for _ in modules]

    def record(calls: list[Tensor], module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        calls.append(take(args[0], output).detach())

    with ExitStack() as hooks:
        for module, calls in zip(modules, recorded, strict=True):
            hooks.enter_context(module.register_forward_hook(partial(record, calls)))
        yield recorded


def stacked(recorded: Recorded) -> Tensor:
    """The calls joined as images, then the layers: (b, l, ...)."""
    return torch.stack([torch.cat(calls) for calls in recorded], dim=1)


@contextmanager
def heads_zeroed(model: nn.Module, layer: int, head: int) -> Iterator[None]:
    """Inside the block, that head outputs zeros for every token; afterwards the model is as it was.

    The mask of Michel et al. 2019 (arXiv:1905.10650, section 2.3). Layers and heads count from 0.

    Raises:
        InputError: the model has no attention.
    """
    attention = modules_of(model, Attention)[layer]

    def without(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        heads = list(args[0].chunk(attention.heads, dim=-1))
        heads[head] = torch.zeros_like(heads[head])
        return (torch.cat(heads, -1),)

    with attention.proj.register_forward_pre_hook(without):
        yield


def head_importance(task: Task, model: nn.Module, dataset: PackedDataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What zeroing each head alone costs, positive where the head helps (Michel et al. 2019, arXiv:1905.10650).

    Args:
        model: of the task; it is left as it was.
        rows: the images it is scored on.

    Returns:
        By each name of `task.head_scores` the drop of that score (l, h).

    Raises:
        InputError: the model has no attention.
    """
    layers = modules_of(encoder_of(model), Attention)
    places = [(layer, head) for layer, attention in enumerate(layers) for head in range(attention.heads)]
    last = getattr(model, "head", None)
    unread = isinstance(last, nn.Linear | nn.Conv2d) and not last.weight.any()  # so no head reaches the output

    def scores() -> dict[str, float]:
        return task.head_scores(task.scores(lambda images: task.predict(model, images), dataset, rows))

    with evaluating(model), progress(len(places), "importance", "head") as bar:
        whole, lost = scores(), []
        for layer, head in places:
            with heads_zeroed(model, layer, head):
                lost.append(whole if unread else scores())
            bar.update()
    shape = len(layers), layers[0].heads
    return {
        name: np.array([value - less[name] for less in lost]).reshape(shape) + 0.0  # turns -0.0 into 0.0
        for name, value in whole.items()
    }
