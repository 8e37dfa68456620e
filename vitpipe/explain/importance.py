"""What layers compute, and what a model loses without a head, or without what its queries ask for.

Shapes: b or f images, l layers, h heads.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product

import numpy as np
import torch
from scipy.stats import t
from torch import Tensor, nn

from vitpipe.data.dataset import PackedDataset
from vitpipe.explain.encoders import encoder_of, evaluating, modules_of
from vitpipe.models.attention import Attention
from vitpipe.progress import progress
from vitpipe.tasks.base import Scores, Task

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


@contextmanager
def heads_by_place(model: nn.Module, layer: int, head: int) -> Iterator[None]:
    """Inside the block, that head attends by place alone, whatever the image: its queries are zero; see
    `vitpipe.explain.place`. Afterwards the model is as it was. Layers and heads count from 0.

    Raises:
        InputError: the model has no attention.
    """
    attention = modules_of(model, Attention)[layer]
    width = attention.qkv.in_features // attention.heads

    def asking_nothing(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        output = output.clone()
        output[..., head * width : (head + 1) * width] = 0  # queries come first
        return output

    with attention.qkv.register_forward_hook(asking_nothing):
        yield


def head_importance(task: Task, model: nn.Module, dataset: PackedDataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What zeroing each head alone costs, positive where the head helps (Michel et al. 2019, arXiv:1905.10650), and
    what it costs that the head looks by place.

    Args:
        model: of the task; it is left as it was.
        rows: the images it is scored on.

    Returns:
        By each name of `task.head_scores` the mean drop of that score without the head (l, h); under `content_` and
        this name the drop when it looks by place; and by_place (l, h), 1 where the 95 % interval of the last of these
        drops over the images (Student's t) holds 0 or lies below, else 0.

    Raises:
        InputError: the model has no attention.
    """
    layers = modules_of(encoder_of(model), Attention)
    places = [(layer, head) for layer, attention in enumerate(layers) for head in range(attention.heads)]
    last = getattr(model, "head", None)
    unread = isinstance(last, nn.Linear | nn.Conv2d) and not last.weight.any()  # so no head reaches the output
    changes = {"": heads_zeroed, "content_": heads_by_place}

    def scores() -> Scores:
        return task.head_scores(task.scores(lambda images: task.predict(model, images), dataset, rows))

    drops: dict[str, list[np.ndarray]] = {}
    with evaluating(model), progress(len(changes) * len(places), "importance", "head") as bar:
        whole = scores()
        for (kind, change), place in product(changes.items(), places):
            with change(model, *place):
                less = whole if unread else scores()
            for name, values in whole.items():
                drops.setdefault(f"{kind}{name}", []).append(values - less[name])
            bar.update()
    every = {name: np.stack(found).reshape(len(layers), -1, len(rows)) for name, found in drops.items()}  # l h f
    by_place = lower_end([*every.values()][-1]) <= 0
    means = {name: values.mean(-1) + 0.0 for name, values in every.items()}  # turns -0.0 into 0.0
    return means | {"by_place": by_place.astype(np.float64)}


def lower_end(values: np.ndarray) -> np.ndarray:
    """Lower end of the 95 % interval of the mean over the last axis, by Student's t; of one value minus infinity."""
    count = values.shape[-1]
    if count == 1:
        return np.full(values.shape[:-1], -np.inf)
    low: np.ndarray = values.mean(-1) - t.ppf(0.975, count - 1) * values.std(-1, ddof=1) / count**0.5
    return low
