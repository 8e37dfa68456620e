"""What layers compute, and what a model loses without a head, its content, or all its attention.

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
from vitpipe.explain.encoders import all_layers, attention_layers, evaluating
from vitpipe.explain.localization import rounded
from vitpipe.models.place import Place
from vitpipe.progress import progress
from vitpipe.tasks.base import Scores, Task

Recorded = list[list[Tensor]]
"""What was recorded, by layer and call."""
KINDS = {"mean": "uniform", "identity": "none", "place": "place"}
"""What attention is replaced by, and the kind of `Attention` that it then is."""


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
    """
    attention = attention_layers(model)[layer]

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
    """
    attention = attention_layers(model)[layer]
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
        drops over the images (Student's t) holds 0 or lies below, else 0. l and h are 0 where the model computes no
        attention.
    """
    layers = attention_layers(model)
    places = [(layer, head) for layer, attention in enumerate(layers) for head in range(attention.heads)]
    last = getattr(model, "head", None)
    unread = isinstance(last, nn.Linear | nn.Conv2d) and not last.weight.any()  # so no head reaches the output
    changes = {"": heads_zeroed, "content_": heads_by_place}
    with progress(len(changes) * len(places), "importance", "head") as bar:
        whole = head_scores(task, model, dataset, rows)
        drops: dict[str, list[np.ndarray]] = {f"{kind}{name}": [] for kind in changes for name in whole}
        for (kind, change), place in product(changes.items(), places):
            with change(model, *place):
                less = whole if unread else head_scores(task, model, dataset, rows)
            for name, values in whole.items():
                drops[f"{kind}{name}"].append(values - less[name])
            bar.update()
    shape = len(layers), layers[0].heads if layers else 0, len(rows)
    every = {name: np.array(found).reshape(shape) for name, found in drops.items()}  # l h f
    by_place = lower_end([*every.values()][-1]) <= 0
    means = {name: values.mean(-1) + 0.0 for name, values in every.items()}  # turns -0.0 into 0.0
    return means | {"by_place": by_place.astype(np.float64)}


def head_scores(task: Task, model: nn.Module, dataset: PackedDataset, rows: np.ndarray) -> Scores:
    """What `task.head_scores` gives of a model on the images in these rows."""
    with evaluating(model):
        return task.head_scores(task.scores(lambda images: task.predict(model, images), dataset, rows))


def lower_end(values: np.ndarray) -> np.ndarray:
    """Lower end of the 95 % interval of the mean over the last axis, by Student's t; of one value minus infinity."""
    count = values.shape[-1]
    if count == 1:
        return np.full(values.shape[:-1], -np.inf)
    low: np.ndarray = values.mean(-1) - t.ppf(0.975, count - 1) * values.std(-1, ddof=1) / count**0.5
    return low


@contextmanager
def attention_replaced(model: nn.Module, kind: str) -> Iterator[None]:
    """Inside the block, all attention of `model` is of that kind, see `Attention`; afterwards it is as it was."""
    layers = all_layers(model)
    kinds = [layer.kind for layer in layers]
    try:
        for layer in layers:
            layer.kind = kind
        yield
    finally:
        for layer, before in zip(layers, kinds, strict=True):
            layer.kind = before


def replacement_losses(
    task: Task, model: nn.Module, dataset: PackedDataset, rows: np.ndarray
) -> dict[str, dict[str, float | None]]:
    """What a trained model loses when all its attention is replaced and nothing is trained again.

    An upper bound of what attention is worth: the rest of the model was trained to rely on it.

    Args:
        model: of the task; it is left as it was.
        rows: the images it is scored on.

    Returns:
        For mean (over all tokens), identity (each token sees only itself) and place (the place term alone) the drop of
        each of `task.head_scores`, rounded, by the names drop, drop_loss, ... for importance, importance_loss, ...;
        None where the model computes no attention, or has no place term.
    """
    whole, found = head_scores(task, model, dataset, rows), {}
    placed = any(isinstance(module, Place) for module in model.modules())
    for name, kind in KINDS.items():
        lost: dict[str, float | None] = dict.fromkeys(whole)
        if attention_layers(model) and (placed or kind != "place"):
            with attention_replaced(model, kind):
                less = head_scores(task, model, dataset, rows)
            lost = {key: rounded((value - less[key]).mean()) for key, value in whole.items()}
        found[name] = {f"drop{key.removeprefix('importance')}": value for key, value in lost.items()}
    return found
