"""What a classifier looks at, on test images at even distances through the part.

Legend of the shapes: f or m images, l layers, g side of the grid of patches, s side of the input, k classes.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitpipe.config import Settings
from vitpipe.data.batches import Packed, spread, unit
from vitpipe.errors import InputError
from vitpipe.explain import class_token, gradients
from vitpipe.explain.capture import encoder_of
from vitpipe.explain.filters import filters
from vitpipe.explain.heatmaps import attention_of, maps
from vitpipe.explain.per_class import per_class
from vitpipe.explain.positions import positions

IMAGES = 6  # in pictures of single images
COMPARED = 1000  # images that attention per class is taken over
CLASSES = 3  # compared where `task.show` names none


def views(
    model: nn.Module, untrained: nn.Module, packed: Packed, settings: Settings, device: torch.device
) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of every picture: maps, class_attention, pixels, filters, per_class where classes have two images or
    more, and positions where there are embeddings of them.

    Args:
        model: a trained `Classifier`.
        untrained: the same with the weights that training began with.

    Raises:
        InputError: `task.show` names an unknown class, or one with fewer than two of the images.
    """
    rows = spread(packed, IMAGES)
    arrays = {
        "maps": maps(model, packed, device),
        "class_attention": class_attention(model, packed, rows),
        "pixels": pixels(model, packed, rows, device),
        "filters": filters(model, untrained),
    }
    if per := attention_per_class(model, packed, settings, device):
        arrays["per_class"] = per
    if found := positions(model, untrained):
        arrays["positions"] = found
    return arrays


def naming(packed: Packed, rows: np.ndarray) -> dict[str, np.ndarray]:
    """ids (f,), images (f, s, s, 3) uint8 as the model sees them, and their actual classes (f,) by name."""
    return {
        "ids": packed.samples.index[rows].to_numpy(dtype=str),
        "images": packed.take("lr", rows),
        "actual": np.array(packed.classes)[packed.labels[rows]],
    }


def tensor(images: np.ndarray) -> Tensor:
    """(f, s, s, 3) as (f, 3, s, s)."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def query(encoder: Any) -> np.ndarray:
    """Whose attention is taken: that of what the head reads."""
    return np.array("class token" if encoder.token is not None else "mean of all patches")


def class_attention(model: nn.Module, packed: Packed, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What `vitpipe.figures.class_attention` draws."""
    named = naming(packed, rows)
    seen = class_token.view(model, tensor(named["images"]))
    return named | seen | {"predicted": np.array(packed.classes)[seen["predicted"]], "query": query(model.encoder)}


def pixels(model: nn.Module, packed: Packed, rows: np.ndarray, device: torch.device) -> dict[str, np.ndarray]:
    """What `vitpipe.figures.pixels` draws."""
    named = naming(packed, rows)
    images, labels = unit(tensor(named["images"]).to(device)), torch.from_numpy(packed.labels[rows]).to(device)
    with torch.inference_mode():
        predicted = model(images).argmax(1).cpu().numpy()
    return named | {
        "predicted": np.array(packed.classes)[predicted],
        "gradient": gradients.importance(model, images, labels).cpu().numpy(),
        "smooth": gradients.smooth(model, images, labels).cpu().numpy(),
    }


def attention_per_class(
    model: nn.Module, packed: Packed, settings: Settings, device: torch.device
) -> dict[str, np.ndarray]:
    """What `vitpipe.figures.per_class` draws; nothing where no class has two images to compare."""
    encoder = encoder_of(model)
    token, rows = encoder.token is not None, spread(packed, COMPARED)
    labels = packed.labels[rows]
    chosen = compared(settings.task.show, packed.classes, labels)
    if not chosen:
        return {}
    parts = []
    for weights in attention_of(model, packed, rows, device):
        tokens = weights.shape[-1]
        parts.append((class_token.query_row(weights.mean(2), token) * tokens).cpu().numpy())  # b l g*g
    found = per_class(np.concatenate(parts), labels, chosen, seed=settings.seed)
    grids = {
        name: values if name == "counts" else values.reshape(*values.shape[:-1], encoder.grid, encoder.grid)
        for name, values in found.items()
    }
    images = packed.take("lr", rows)
    return grids | {
        "classes": np.array([packed.classes[index] for index in chosen]),
        "images": np.stack([images[labels == index].mean(0) for index in chosen]).astype(np.float32),
        "query": query(encoder),
    }


def compared(show: tuple[str, ...] | None, classes: tuple[str, ...], labels: np.ndarray) -> list[int]:
    """Indices of the classes to compare: `task.show`, else the first three with two images or more."""
    counts = np.bincount(labels, minlength=len(classes))
    if show is None:
        return [index for index in range(len(classes)) if counts[index] > 1][:CLASSES]
    for name in show:
        if name not in classes:
            raise InputError(f"task.show names {name!r}, but the classes are {', '.join(classes)}")
        if counts[classes.index(name)] < 2:
            raise InputError(f"task.show names {name!r}, but fewer than 2 of the {len(labels)} test images show it")
    return [classes.index(name) for name in show]
