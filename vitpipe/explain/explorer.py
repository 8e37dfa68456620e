"""What the explorer of the report page shows: pictures, predictions and every attention weight of some test images.

Shapes: f images, l layers, h heads, t tokens (prefix tokens and patches), k classes.
"""

import zlib

import numpy as np
import torch
from torch import Tensor, nn

from vitpipe.data.batches import evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.explain.encoders import attention_batches, attention_layers, encoder_of, evaluating
from vitpipe.tasks.base import Task

IMAGES = 16  # at most
BUDGET = 3_200_000  # bytes that the codes of all images may take once deflated; in a page they take a third more
STEP = 1.05  # between the weights of neighbouring codes
LEAST = STEP**-254  # weight of code 1, 4.2e-6; code 255 is 1, the largest weight there is
ERROR = STEP**0.5 - 1  # largest relative error of a decoded weight that is LEAST or more, 2.5 %


def explorer(task: Task, model: nn.Module, dataset: PackedDataset) -> dict[str, np.ndarray]:
    """The content of reports/explanations/explorer.npz.

    Images are evenly spaced through the part: as many of 16 as fit `BUDGET`. Where not even one fits with all
    heads, the weights are means over the heads, of as many images as fit, and of one image whatever its size.

    Args:
        model: trained, of the task, one that computes attention; it is left as it was.
        dataset: the test part.

    Returns:
        ids (f,); codes (f, l, h, t, t) uint8, query before key, which stand for the weights `values`[codes], see
        `encode`; values (256,) float32; error (), the largest relative error of a weight of 4.2e-6 or more; heads (),
        how many there are, while h is 1 if `averaged` (), a bool; grid (2,), rows and columns of patches;
        prefix_tokens (), the number of tokens before the patches. From `Task.outcome`: pictures, names in order, the
        first of which is the input, and picture_NAME (f, h, w, 3) uint8 of each; readings, names, and reading_NAME
        (f,), text; classes (k,), names, empty where there are none, else with probabilities (f, k) float32 and actual
        (f,), names.
    """
    encoder = encoder_of(model)
    chosen, codes = fitting(model, dataset, evenly_spaced(dataset, IMAGES))
    with evaluating(model):
        outcome = task.outcome(model, dataset, chosen)
    heads = attention_layers(model)[0].heads
    arrays = {
        "ids": dataset.samples.index[chosen].to_numpy(dtype=str),
        "codes": codes,
        "values": values(),
        "error": np.array(ERROR),
        "heads": np.array(heads),
        "averaged": np.array(codes.shape[2] < heads),
        "grid": np.array(encoder.grid),
        "prefix_tokens": np.array(encoder.num_prefix_tokens),
        "pictures": np.array(list(outcome.pictures)),
        "readings": np.array(list(outcome.readings), dtype=str),
        "classes": np.array(outcome.classes, dtype=str),
    }
    arrays |= {f"picture_{name}": images for name, images in outcome.pictures.items()}
    arrays |= {f"reading_{name}": np.array(texts) for name, texts in outcome.readings.items()}
    if outcome.probabilities is not None:
        arrays |= {"probabilities": outcome.probabilities, "actual": np.array(outcome.actual)}
    return arrays


def values() -> np.ndarray:
    """The weight that each code stands for, (256,) float32: 0, then 1.05^(code - 255)."""
    return np.concatenate([[0.0], STEP ** np.arange(-254.0, 1.0)]).astype(np.float32)


def encode(weights: Tensor) -> Tensor:
    """Attention weights in [0, 1] as uint8 codes of the same shape: the nearest of `values` by their logarithm.

    A larger weight never has a smaller code. Weights of LEAST (4.2e-6) or more keep a relative error of at most
    `ERROR` (2.5 %); below it the error is at most LEAST / 2, and what is less than LEAST / 2 becomes 0.
    """
    codes = weights.clamp_min(LEAST).log_().div_(float(np.log(STEP))).round_().add_(255).clamp_(1, 255)  # in place
    return codes.masked_fill_(weights < LEAST / 2, 0).to(torch.uint8)


def fitting(model: nn.Module, dataset: PackedDataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows whose codes fit `BUDGET`, evenly spaced among `rows`, and the codes (f, l, h or 1, t, t)."""
    averaged = deflated(encoded(model, dataset, rows[:1], False)) > BUDGET
    one = deflated(encoded(model, dataset, rows[:1], averaged))
    count = min(len(rows), 1 + int(BUDGET / (0.75 * one)))  # others may be smaller: rather too many than too few
    while True:
        # halves are rounded up, so that gaps stay alike
        chosen = rows[np.floor(np.linspace(0, len(rows) - 1, count) + 0.5).astype(int)]
        codes = encoded(model, dataset, chosen, averaged)
        if count == 1 or sum(deflated(image) for image in codes) <= BUDGET:
            return chosen, codes
        count -= 1


def deflated(codes: np.ndarray) -> int:
    """Bytes of codes once compressed."""
    return len(zlib.compress(codes.tobytes(), 6))


def encoded(model: nn.Module, dataset: PackedDataset, rows: np.ndarray, averaged: bool) -> np.ndarray:
    """Codes (f, l, h, t, t) of the given images, or of the mean over their heads (f, l, 1, t, t)."""
    batches = attention_batches(model, dataset.images("lr", rows))
    parts = (weights.mean(2, keepdim=True) if averaged else weights for weights in batches)
    return np.concatenate([encode(weights).cpu().numpy() for weights in parts])
