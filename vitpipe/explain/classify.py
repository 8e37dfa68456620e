"""What a classifier looks at, on test images at even distances through the part.

Legend of the shapes: f or m images, l layers, g side of the grid of patches, s side of the input, k classes.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitpipe.config import Settings
from vitpipe.data.batches import evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import to_input, normalize
from vitpipe.errors import InputError
from vitpipe.explain import class_token, deletion, gradients, methods
from vitpipe.explain.capture import encoder_of
from vitpipe.explain.deletion import Trial
from vitpipe.explain.filters import filters
from vitpipe.explain.heatmaps import attention_of, maps
from vitpipe.explain.importance import batches
from vitpipe.explain.per_class import per_class
from vitpipe.explain.positions import positions

IMAGES = 6  # in pictures of single images
COMPARED = 1000  # images that attention per class is taken over
CLASSES = 3  # compared where `task.show` names none
ON_CURVES = 96  # images that curves of deletion are of
POINTS = 16  # of such a curve, beside its start
LOCAL = False  # what the whole image shows hangs on many patches
RANDOMISED = 24  # of these images, those that the maps of randomised models are of
SCORED = 512  # images that zeroing a head is scored on

IMPORTANCE = {
    "importance": "drop of the accuracy, a share, when that head alone puts out zeros (Michel et al. 2019), on up to "
    f"{SCORED} test images",
    "importance_loss": "rise of the mean cross-entropy in nats on the same",
}


def views(
    model: nn.Module, untrained: nn.Module, packed: PackedDataset, settings: Settings, device: torch.device
) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of every picture: maps, class_attention, pixels, filters, per_class where classes have two images or
    more, and positions where there are embeddings of them.

    Args:
        model: a trained `Classifier`.
        untrained: the same with the weights that training began with.

    Raises:
        InputError: `task.show` names an unknown class, or one with fewer than two of the images.
    """
    rows = evenly_spaced(packed, IMAGES)
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


def naming(packed: PackedDataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """ids (f,), images (f, s, s, 3) uint8 as the model sees them, and their actual classes (f,) by name."""
    return {
        "ids": packed.samples.index[rows].to_numpy(dtype=str),
        "images": packed.images("lr", rows),
        "actual": np.array(packed.classes)[packed.labels[rows]],
    }


def query(encoder: Any) -> np.ndarray:
    """Whose attention is taken: that of what the head reads."""
    return np.array("class token" if encoder.token is not None else "mean of all patches")


def class_attention(model: nn.Module, packed: PackedDataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What `vitpipe.figures.class_attention` draws."""
    named = naming(packed, rows)
    seen = class_token.view(model, named["images"])
    return named | seen | {"predicted": np.array(packed.classes)[seen["predicted"]], "query": query(model.encoder)}


def pixels(model: nn.Module, packed: PackedDataset, rows: np.ndarray, device: torch.device) -> dict[str, np.ndarray]:
    """What `vitpipe.figures.pixels` draws."""
    named = naming(packed, rows)
    images, labels = to_input(named["images"], device), torch.from_numpy(packed.labels[rows]).to(device)
    with torch.inference_mode():
        predicted = model(images).argmax(1).cpu().numpy()
    return named | {
        "predicted": np.array(packed.classes)[predicted],
        "gradient": gradients.importance(model, images, labels).cpu().numpy(),
        "smooth": gradients.smooth(model, images, labels).cpu().numpy(),
    }


def attention_per_class(
    model: nn.Module, packed: PackedDataset, settings: Settings, device: torch.device
) -> dict[str, np.ndarray]:
    """What `vitpipe.figures.per_class` draws; nothing where no class has two images to compare."""
    encoder = encoder_of(model)
    token, rows = encoder.token is not None, evenly_spaced(packed, COMPARED)
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
    images = packed.images("lr", rows)
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


def trial(model: nn.Module, packed: PackedDataset, rows: np.ndarray, device: torch.device) -> Trial:
    """The probability of the class that a `Classifier` predicts for the whole image."""
    images, grid = deletion.pixels(packed, rows, device), encoder_of(model).grid
    labels = torch.cat([deletion.output(model, image[None]).argmax(1) for image in images])
    classes = np.array(packed.classes)

    def score(made: Tensor, of: Tensor) -> Tensor:
        return deletion.output(model, made).softmax(1).gather(1, labels[of, None])[:, 0]

    return Trial(
        images=images,
        deleted=images.mean((2, 3), keepdim=True).expand_as(images),
        fixed=np.zeros((len(rows), grid**2), bool),
        score=score,
        maps=lambda net, count: methods.classifier(net, images[:count], labels[:count]),
        controls=deletion.from_the_centre(grid, len(rows)),
        shown={"actual": classes[packed.labels[rows]], "predicted": classes[labels.cpu().numpy()]},
    )


def head_score(model: nn.Module, packed: PackedDataset, rows: np.ndarray, device: torch.device) -> dict[str, float]:
    """What a head is missed by, each higher where the model is better: accuracy, and minus the cross-entropy."""
    right, loss = 0, 0.0
    for batch in batches(packed, rows, device):
        logits = model(normalize(batch.lr)).float()
        right += int((logits.argmax(1) == batch.labels).sum())
        loss += float(F.cross_entropy(logits, batch.labels, reduction="sum"))
    return {"importance": right / len(rows), "importance_loss": -loss / len(rows)}


@torch.inference_mode()
def explored(model: nn.Module, packed: PackedDataset, rows: np.ndarray, device: torch.device) -> dict[str, np.ndarray]:
    """Images as the model sees them, what they show and what the model says."""
    images, names = packed.images("lr", rows), np.array(packed.classes)
    logits = model(to_input(images, device))
    probabilities = logits.float().softmax(-1).cpu().numpy()
    return {
        "images": images,
        "classes": names,
        "actual": names[packed.labels[rows]],
        "predicted": names[probabilities.argmax(1)],
        "probabilities": probabilities,
    }
