"""What the model looks at in single images, as maps that are tied to the images by id.

Shapes: f or b images, l layers, h heads, n patches, g rows and columns of patches, s side of the image in pixels,
q queries.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitpipe.data.batches import evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import to_input
from vitpipe.explain.encoders import (
    attention_batches,
    device_of,
    encoder_of,
    evaluating,
    on_grid,
    query_name,
    query_row,
)
from vitpipe.explain.gradients import saliency, smooth
from vitpipe.explain.relevance import rollout
from vitpipe.metrics import attention as measures
from vitpipe.metrics.grid import query_points, token_at, token_box
from vitpipe.models.vit import ViT
from vitpipe.tasks.base import Task

IMAGES = 16  # in the figure maps


def maps(model: nn.Module, dataset: PackedDataset) -> dict[str, np.ndarray]:
    """The arrays of the figure maps; the model, which must compute attention, is left as it was.

    Returns:
        ids (f,), images (f, size, size, 3) uint8 HR; received (f, l, h, g, g) non-self attention that each patch
        receives, mean over queries, ratio to uniform; of image 0 queries (q,), names, which say so where landmarks
        are mean ones, boxes (q, 4) in HR pixels, and looks (q, l, h, g, g), the non-self attention of those patches,
        ratio to uniform (0 at the patch itself).
    """
    encoder, rows = encoder_of(model), evenly_spaced(dataset, IMAGES)
    names, tokens, boxes = query_tokens(dataset, int(rows[0]), encoder)
    received: list[np.ndarray] = []
    for every in attention_batches(model, dataset.images("lr", rows)):
        weights = measures.among_patches(every, encoder.num_prefix_tokens)
        if not received:
            first = measures.non_self(weights[0])[:, :, tokens] * (weights.shape[-1] - 1)  # l h q n, of image 0
            looks = on_grid(first.permute(2, 0, 1, 3), encoder).cpu().numpy()
        received.append(on_grid(measures.received(weights), encoder).cpu().numpy())
    return {
        "ids": dataset.samples.index[rows].to_numpy(dtype=str),
        "images": dataset.images("hr", rows),
        "received": np.concatenate(received),
        "queries": np.array(names),
        "boxes": boxes,
        "looks": looks,
    }


def query_tokens(dataset: PackedDataset, row: int, encoder: ViT) -> tuple[list[str], list[int], np.ndarray]:
    """Patches of an image that are asked where they look: their names, their indices among the patches, and their
    boxes in HR pixels (q, 4); see `vitpipe.metrics.grid.query_points`."""
    (down, across), size = encoder.grid, dataset.images("hr", np.array([row])).shape[1]
    side = size // across  # of a patch, in HR pixels
    points = query_points(dataset.samples.iloc[row], size)
    tokens = [token_at(x, y, side, across, down) for x, y in points.values()]
    return list(points), tokens, np.array([token_box(token, side, across) for token in tokens])


def class_attention(task: Task, model: nn.Module, dataset: PackedDataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of the figure class_attention; the model is left as it was.

    Returns:
        What `predictions` gives; heads (f, h, g, g), the last layer's attention from the query that the head reads
        (see `query_row`), and rollout (f, g, g), that of all layers, both times the number of tokens, so that 1 is
        uniform attention; what `six_steps` gives of the last layer; query, whose attention it is.
    """
    encoder, images = encoder_of(model), dataset.images("lr", rows)
    last, through = [], []
    for weights in attention_batches(model, images):
        last.append(query_row(weights[:, -1], model))  # b h n
        through.append(query_row(rollout(weights), model))  # b n
    arrays = {"heads": torch.cat(last), "rollout": torch.cat(through)}
    return (
        predictions(task, model, dataset, rows)
        | {name: on_grid(values * weights.shape[-1], encoder).cpu().numpy() for name, values in arrays.items()}
        | six_steps(arrays["heads"], images, encoder)
        | {"query": query_name(model)}
    )


def predictions(task: Task, model: nn.Module, dataset: PackedDataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """ids (f,); images (f, s, s, 3) uint8 as the model sees them; actual and predicted (f,), names of classes;
    probability (f,) of the predicted class."""
    with evaluating(model):
        outcome = task.outcome(model, dataset, rows)
    assert outcome.probabilities is not None, "class attention needs classes"
    return {
        "ids": dataset.samples.index[rows].to_numpy(dtype=str),
        "images": dataset.images("lr", rows),
        "actual": np.array(outcome.actual),
        "predicted": np.array(outcome.classes)[outcome.probabilities.argmax(1)],
        "probability": outcome.probabilities.max(1),
    }


def six_steps(row: Tensor, images: np.ndarray, encoder: ViT) -> dict[str, np.ndarray]:
    """From attention to an image that is bright where the model looked.

    (1) Mean over the heads, (2) as a grid, (3) resized to the image, bilinear with half-pixel centres
    (`align_corners=False`, as Pillow enlarges), (4) minimum to 0 and maximum to 1 in each image, or all 0 where a map
    is the same everywhere up to rounding, (5) times the image on 0..1, (6) times two, clipped at 1.

    Args:
        row: attention of one query to the patches (b, h, n), see `query_row`.
        images: (b, s, s, 3) uint8, in the order of `row`.

    Returns:
        raw (b, g, g) after step 2, attention weights; resized (b, s, s) after step 4 and attended (b, s, s, 3) after
        step 6, both on 0..1. All float32.
    """
    raw = on_grid(row.float().mean(1), encoder)
    large = F.interpolate(raw[:, None], size=images.shape[1:3], mode="bilinear", align_corners=False)[:, 0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    flat = high - low <= 1e-6 * high  # the resolution of float32: what varies less is rounding
    resized = ((large - low) / (high - low).masked_fill(flat, 1)).masked_fill(flat, 0)
    pictures = torch.from_numpy(images).to(resized.device).float() / 255
    attended = (2 * resized[..., None] * pictures).clamp(max=1)
    arrays = {"raw": raw, "resized": resized, "attended": attended}
    return {name: values.cpu().numpy() for name, values in arrays.items()}


def pixel_importance(task: Task, model: nn.Module, dataset: PackedDataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of the figure pixels; the model is left as it was.

    Returns:
        What `predictions` gives; gradient and smooth (f, s, s), `saliency` and `smooth` of the cross-entropy of the
        actual class.
    """
    device = device_of(model)
    labels, images = torch.from_numpy(dataset.labels[rows]).to(device), to_input(dataset.images("lr", rows), device)

    def loss(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none")

    arrays = {"gradient": saliency(model, images, loss), "smooth": smooth(model, images, loss)}
    found = {name: values.cpu().numpy() for name, values in arrays.items()}
    return predictions(task, model, dataset, rows) | found
