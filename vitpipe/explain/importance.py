"""What heads and layers put out, and what a model loses without a head.

Legend of the shapes: b images, l layers, h heads, t tokens (the class token among them), e width of a head.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitpipe.data.batches import Batch
from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError
from vitpipe.explain import explanations
from vitpipe.explain.capture import evaluating
from vitpipe.models.attention import Attention
from vitpipe.models.vit import Block
from vitpipe.progress import progress

BATCH = 16  # images computed at once; no number depends on it


class Kept:
    """What was recorded; complete once its block has ended."""

    values: Tensor


@contextmanager
def record_outputs(model: nn.Module) -> Iterator[Kept]:
    """Records what each head puts out, before the heads are projected: `values` (b, l, h, t, e).

    Raises:
        InputError: the model has no attention, or computed nothing inside the block.
    """
    layers: list[Any] = of_type(model, Attention)

    def joined(layer: Any, args: tuple[Tensor]) -> Tensor:
        return args[0].unflatten(-1, (layer.heads, -1)).transpose(1, 2)  # b h t e

    with recording([layer.project for layer in layers], lambda i, args, _: joined(layers[i], args)) as kept:
        yield kept


@contextmanager
def record_norms(model: nn.Module) -> Iterator[Kept]:
    """Records the Euclidean norm of each token after each block: `values` (b, l, t).

    Raises:
        InputError: the model has no blocks, or computed nothing inside the block.
    """
    with recording(of_type(model, Block), lambda _, args, out: out.norm(dim=-1)) as kept:
        yield kept


@contextmanager
def recording(modules: list[nn.Module], take: Callable[[int, Any, Tensor], Tensor]) -> Iterator[Kept]:
    """Keeps `take(index, args, output)` of every call of each of `modules`, stacked as layers after the images."""
    seen: list[list[Tensor]] = [[] for _ in modules]

    def hook(index: int) -> Callable:
        return lambda module, args, out: seen[index].append(take(index, args, out).detach())

    handles = [module.register_forward_hook(hook(index)) for index, module in enumerate(modules)]
    kept = Kept()
    try:
        yield kept
        if not all(seen):
            raise InputError("nothing was recorded: call the model inside the block")
        kept.values = torch.stack([torch.cat(parts) for parts in seen], dim=1)
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def heads_zeroed(model: nn.Module, layer: int, head: int) -> Iterator[None]:
    """Inside the block, that head puts out zeros for every token; afterwards the model is as it was.

    The mask of Michel et al. 2019 (arXiv:1905.10650, section 2.3). Layers and heads count from 0.

    Raises:
        InputError: the model has no attention, or no such layer or head.
    """
    layers = of_type(model, Attention)
    if not 0 <= layer < len(layers):
        raise InputError(f"there is no layer {layer}: the model has layers 0 to {len(layers) - 1}")
    attention: Any = layers[layer]
    if not 0 <= head < attention.heads:
        raise InputError(f"there is no head {head} in layer {layer}: it has heads 0 to {attention.heads - 1}")

    def without(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        heads = args[0].unflatten(-1, (attention.heads, -1)).clone()  # b t h e
        heads[..., head, :] = 0
        return (heads.flatten(-2),)

    handle = attention.project.register_forward_pre_hook(without)
    try:
        yield
    finally:
        handle.remove()


def of_type(model: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    """The modules of a kind in their order. Raises InputError where there are none."""
    found = [module for module in model.modules() if isinstance(module, kind)]
    if not found:
        raise InputError(f"{type(model).__name__} has no {kind.__name__.lower()} layers")
    return found


def head_importance(
    model: nn.Module, task: str, packed: PackedDataset, rows: np.ndarray, device: torch.device
) -> dict[str, np.ndarray]:
    """What zeroing each head alone costs, positive where the head helps (Michel et al. 2019, arXiv:1905.10650).

    Args:
        model: of the task; it is left as it was.
        task: supersample or classify.
        rows: the images it is scored on.

    Returns:
        (l, h) each: `importance`, the drop of the mean PSNR in dB of the images as they would be saved (see
        `vitpipe.metrics.image_quality`) or of the accuracy (a share); for classification `importance_loss` too,
        the rise of the mean cross-entropy in nats, which tells heads apart where accuracy moves in steps of an image.

    Raises:
        InputError: the model has no attention.
    """
    layers: list[Any] = of_type(model, Attention)
    shape = (len(layers), layers[0].heads)
    last: Any = getattr(model, "last", None)
    if last is not None and not last.weight.any():  # as training begins: nothing reaches the output
        return {"importance": np.zeros(shape)}
    measure = explanations(task).head_score
    places = [(layer, head) for layer, attention in enumerate(layers) for head in range(attention.heads)]
    with torch.inference_mode(), evaluating(model), progress(len(places), "importance", "head") as bar:
        whole = measure(model, packed, rows, device)
        lost = []
        for layer, head in places:
            with heads_zeroed(model, layer, head):
                lost.append(measure(model, packed, rows, device))
            bar.update()
    drops = {name: np.array([whole[name] - less[name] for less in lost]).reshape(shape) for name in whole}
    return {name: values + 0.0 for name, values in drops.items()}  # turns -0.0 into 0.0


def batches(packed: PackedDataset, rows: np.ndarray, device: torch.device) -> Iterator[Batch]:
    for start in range(0, len(rows), BATCH):
        yield Batch(packed, rows[start : start + BATCH], device)
