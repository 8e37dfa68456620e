"""What every head attends to, as maps that are tied to the images by id.

Legend of the shapes: f images, l layers, h heads, n = g * g tokens, k queries.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from vitpipe.data.batches import evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.explain.capture import encoder_of, watch
from vitpipe.metrics import attention as measures
from vitpipe.metrics.grid import token_at, token_box
from vitpipe.progress import progress

FACES = 16  # images in the pictures
WEIGHTS_AT_ONCE = 2**26  # attention weights recorded at a time: 256 MB of float32, or one image's if that is more


def attention_of(model: nn.Module, packed: PackedDataset, rows: np.ndarray, device: torch.device) -> Iterator[Tensor]:
    """Attention weights (b, l, h, t, t) of the given images in order, a memory-sized batch at a time, float32.

    t is n patches and, where there is one, the class token before them.
    """
    with progress(len(rows), "attention", "image") as bar:
        for weights in watch(model, packed.images("lr", rows), device, WEIGHTS_AT_ONCE):
            yield weights
            bar.update(len(weights))


def maps(model: nn.Module, packed: PackedDataset, device: torch.device) -> dict[str, np.ndarray]:
    """What the pictures show, as arrays that `numpy.savez` takes.

    Returns:
        ids (f,), images (f, size, size, 3) uint8 HR; received (f, l, h, g, g) non-self attention
        that each patch receives, mean over queries, ratio to uniform; of image 0 the `queries`
        names (k,), which say so where landmarks are mean ones, `boxes` (k, 4) in HR pixels and
        `looks` (k, l, h, g, g), the non-self attention of those tokens as ratio to uniform (0 at
        the token itself).
    """
    encoder = encoder_of(model)
    grid, rows = encoder.grid, evenly_spaced(packed, FACES)
    images = packed.images("hr", rows)
    side = images.shape[1] // grid  # of a patch, in HR pixels
    points = query_points(packed, rows[0], images.shape[1])
    tokens = [token_at(x, y, side, grid, grid) for x, y in points.values()]
    received: list[np.ndarray] = []
    for every in attention_of(model, packed, rows, device):
        weights = measures.among_patches(every) if encoder.token is not None else every
        if not received:  # image 0 is in the first batch
            of_first = measures.non_self(weights[:1])[0][:, :, tokens] * (weights.shape[-1] - 1)  # l h k n
            looks = of_first.permute(2, 0, 1, 3).unflatten(-1, (grid, grid)).cpu().numpy()
        received.append(measures.received(weights).unflatten(-1, (grid, grid)).cpu().numpy())
    return {
        "ids": packed.samples.index[rows].to_numpy(dtype=str),
        "images": images,
        "received": np.concatenate(received),
        "queries": np.array(list(points)),
        "boxes": np.array([token_box(token, side, grid) for token in tokens]),
        "looks": looks,
    }


def query_points(packed: PackedDataset, row: int, size: int) -> dict[str, tuple[float, float]]:
    """Named points (x, y) of one image in HR pixels: eye, mouth and background of a face with landmarks,
    else centre and corner."""
    corner = (size / 24, size / 24)
    sample = packed.samples.iloc[row]
    if "lefteye_x" not in sample or sample[["lefteye_x", "leftmouth_x"]].isna().any():
        return {"centre": (size / 2, size / 2), "corner": corner}
    note = "" if sample.get("landmarks") == "annotated" else " (mean landmark)"
    mouth = tuple(float(sample[f"leftmouth_{axis}"] + sample[f"rightmouth_{axis}"]) / 2 for axis in "xy")
    return {
        f"eye{note}": (float(sample["lefteye_x"]), float(sample["lefteye_y"])),
        f"mouth{note}": (mouth[0], mouth[1]),
        "background": corner,
    }
