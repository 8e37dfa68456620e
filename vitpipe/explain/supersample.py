"""What a super-sampler's heads look at, and what its output hangs on.

Legend of the shapes: b or f images, g side of the grid of patches, j images with patches missing.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitpipe.config import Settings
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import to_images, to_input, to_uint8, normalize
from vitpipe.explain import deletion, methods
from vitpipe.explain.capture import encoder_of
from vitpipe.explain.deletion import Trial
from vitpipe.explain.filters import filters
from vitpipe.explain.heatmaps import maps, query_points
from vitpipe.explain.importance import batches
from vitpipe.explain.positions import positions
from vitpipe.metrics.faithfulness import nearest_first
from vitpipe.metrics.grid import token_at, token_box
from vitpipe.metrics.image_quality import image_quality, mse, psnr
from vitpipe.models.supersampler import upsample

ON_CURVES = 8  # images that curves of deletion are of; a pass costs more than a classifier's
POINTS = 7  # of such a curve, beside its start
LOCAL = True  # a window of the output hangs on few patches
RANDOMISED = 3  # of these images, those that the maps of randomised models are of
SCORED = 16  # images that zeroing a head is scored on

IMPORTANCE = {
    "importance": "drop of the mean PSNR in dB (RGB, uint8) when that head alone puts out zeros (Michel et al. 2019), "
    f"on up to {SCORED} test images",
}


def views(
    model: nn.Module, untrained: nn.Module, packed: PackedDataset, settings: Settings, device: torch.device
) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of every picture: maps, filters and, where there are position embeddings, positions."""
    arrays = {"maps": maps(model, packed, device), "filters": filters(model, untrained)}
    if found := positions(model, untrained):
        arrays["positions"] = found
    return arrays


def trial(model: nn.Module, packed: PackedDataset, rows: np.ndarray, device: torch.device) -> Trial:
    """How far a window of a `SuperSampler`'s output stays as it is; see the protocol in `faithfulness`."""
    images, grid = deletion.pixels(packed, rows, device), encoder_of(model).grid
    size = packed.shards["hr"][0].shape[1]
    side = size // grid
    points = [next(iter(query_points(packed, row, size).items())) for row in rows]
    tokens = np.array([token_at(x, y, side, grid, grid) for _, (x, y) in points])
    chosen = torch.from_numpy(tokens).to(device)
    fixed = np.arange(grid**2) == tokens[:, None]
    deleted = deletion.heavily_blurred(images)

    def window(made: Tensor, of: Tensor) -> Tensor:
        return deletion.output(methods.window_of(model, chosen[of]), made)[..., :-1, :-1]

    every = torch.arange(len(rows), device=device)
    full = window(images, every)
    blank = window(torch.where(deletion.on_pixels(fixed, images), images, deleted), every)
    span = deletion.rms(full - blank).clamp_min(torch.finfo(torch.float32).tiny)

    def score(made: Tensor, of: Tensor) -> Tensor:
        return (1 - deletion.rms(window(made, of) - full[of]) / span[of]).clamp_min(0)

    nearest = np.stack([nearest_first(np.array(divmod(token, grid)), grid) for token in tokens])
    return Trial(
        images=images,
        deleted=deleted,
        fixed=fixed,
        score=score,
        maps=lambda net, count: methods.supersampler(net, images[:count], chosen[:count]),
        controls=deletion.from_the_centre(grid, len(rows)) | {"near": nearest},
        shown={
            "windows": np.array([token_box(token, side, grid) for token in tokens]),
            "points": np.array([name for name, _ in points]),
        },
    )


def head_score(model: nn.Module, packed: PackedDataset, rows: np.ndarray, device: torch.device) -> dict[str, float]:
    """What a head is missed by: the mean PSNR in dB."""
    total = 0.0
    for batch in batches(packed, rows, device):
        predicted = to_uint8(model(normalize(batch.lr))).cpu().numpy().astype(np.float32)
        total += float(psnr(mse(predicted, batch.hr.cpu().numpy().astype(np.float32))).sum())
    return {"importance": total / len(rows)}


@torch.inference_mode()
def explored(model: Any, packed: PackedDataset, rows: np.ndarray, device: torch.device) -> dict[str, np.ndarray]:
    """Input, bicubic, prediction and original, as the evaluate stage scores them."""
    lr, hr = packed.images("lr", rows), packed.images("hr", rows)
    images = to_input(lr, torch.device("cpu"))  # where the evaluate stage, too, enlarges by bicubic
    enlarged = {"bicubic": upsample(images, model.scale, "bicubic"), "model": model(images.to(device))}
    arrays = {name: to_images(image) for name, image in enlarged.items()}
    scores = {f"psnr_{name}": image_quality(image, hr, model.scale)["psnr"] for name, image in arrays.items()}
    return {"lr": lr, **arrays, "hr": hr, **scores}
