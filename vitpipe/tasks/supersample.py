"""Super-resolution: from an LR image to the HR image it was made from."""

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.fft import dct
from torch import Tensor, nn

from vitpipe.config import Settings, Train
from vitpipe.data.augment import shift
from vitpipe.data.batches import Batch, in_order, evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import to_images, to_input, normalize
from vitpipe.metrics.image_quality import PROTOCOL as MEASURES
from vitpipe.metrics.image_quality import image_quality
from vitpipe.training.compute import Compute
from vitpipe.models.supersampler import SuperSampler, self_ensemble, upsample
from vitpipe.progress import progress

BEST = "val_psnr"
BATCH = 32  # images scored at once; no score depends on it
PROTOCOL = MEASURES | {
    "self_ensemble": "the mean of the model's prediction and that for the mirrored image, mirrored back, before "
    "rounding; all other scores and pictures of the model are of a single pass"
}
CHARBONNIER = 0.03  # four of 255 levels: squared error below, absolute above
SPECTRUM_WEIGHT = 2.0  # of the error's spectrum beside the error
LARGEST_BLOCK = 64  # pixels on a side that the spectrum is taken of


def build(settings: Settings, classes: tuple[str, ...] = ()) -> SuperSampler:
    """The super-sampler that the settings describe, with fresh weights from torch's generator."""
    model = settings.model.model_dump(exclude={"readout", "channels"})
    return SuperSampler(size=settings.data.input_size, scale=settings.data.scale, **model)


def inputs(batch: Batch, train: Train) -> tuple[Tensor, Tensor]:
    """LR and HR images, uint8 NCHW, shifted as `train.crop` says.

    Each of several processes draws for the whole batch, as what is drawn for an image depends on those before it.
    """
    if not train.crop:
        return batch.local.lr, batch.local.hr
    scale = batch.packed.scale
    most = train.crop * scale
    moves = most - torch.randint(2 * most + 1, (len(batch), 2))
    return shift(batch.local.hr, moves[batch.part], scale)


def loss(model: nn.Module, lr: Tensor, hr: Tensor, train: Train) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean error of the prediction on [-1, 1], and the batch's mean PSNR in dB; of uint8 images."""
    target = normalize(hr.contiguous())
    output = model(normalize(lr)).float()
    with torch.no_grad():
        shown = {"psnr": psnr(output, target).mean()}
    return distance(output, target, train.loss), shown


def distance(output: Tensor, target: Tensor, kind: str) -> Tensor:
    """Mean squared, absolute, Charbonnier or spectral error of images on [-1, 1], (b, c, h, w).

    Charbonnier's is sqrt(d^2 + 0.03^2), from Lai et al. 2017 (arXiv:1704.03915), who have 0.001 instead of 0.03. The
    spectral one adds twice the same of d's cosine transform in blocks, where Cho et al. 2021 (arXiv:2108.05054) add the
    absolute error of Fourier transforms.
    """
    error = output - target
    if kind == "l1":
        return error.abs().mean()
    if kind == "mse":
        return error.square().mean()
    if kind == "charbonnier":
        return Charbonnier.apply(error)
    return Charbonnier.apply(error) + SPECTRUM_WEIGHT * Charbonnier.apply(spectrum(error))


def spectrum(images: Tensor) -> Tensor:
    """Orthonormal 2-D cosine transform (DCT-II) of square images (b, c, s, s), block by block: (b, c, s/n, n, s/n, n).

    n is the largest divisor of s up to 64. Computed in float32, within autocast, too.
    """
    side = images.shape[-1]
    block = max(n for n in range(1, LARGEST_BLOCK + 1) if side % n == 0)
    waves = cosines(block, images.device)
    with torch.autocast(images.device.type, enabled=False):
        columns = waves @ images.float().unflatten(2, (-1, block))
        return columns.unflatten(-1, (-1, block)) @ waves.mT


@cache
def cosines(count: int, device: torch.device) -> Tensor:
    """(n, n): row i holds the i-th wave of the orthonormal DCT-II."""
    with torch.inference_mode(False):
        return torch.from_numpy(dct(np.eye(count), axis=0, norm="ortho")).float().to(device)


class Charbonnier(torch.autograd.Function):
    """Mean of sqrt(error^2 + 0.03^2), with its derivative in half as many passes over the memory as autograd takes."""

    @staticmethod
    def forward(ctx: Any, error: Tensor) -> Tensor:
        root = (error * error).add_(CHARBONNIER**2).sqrt_()
        ctx.save_for_backward(error, root)
        return root.mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        error, root = ctx.saved_tensors
        return (error / root).mul_(gradient / root.numel())


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB of each image (b,), both on [-1, 1], clipped but not rounded; the reported one is in `metrics`."""
    error = output.clamp(-1, 1).sub_(target).flatten(1)
    mse = torch.linalg.vector_norm(error, dim=1).square() / error.shape[1]
    return 10 * torch.log10(4 / mse.clamp_min(1e-10))


@torch.inference_mode()
def validate(
    model: SuperSampler, packed: PackedDataset, compute: Compute, train: Train, only: slice = slice(None)
) -> dict[str, float]:
    """Loss and PSNR of the model, and the PSNR of bicubic, averaged over the images."""
    model.eval()
    sums = {"val_loss": 0.0, "val_psnr": 0.0, "val_bicubic_psnr": 0.0}
    for batch in in_order(packed, BATCH, compute.device, only):
        target, lr = normalize(batch.hr), normalize(batch.lr)
        with compute.autocast():
            output = model(lr).float()
        sums["val_loss"] += float(distance(output, target, train.loss)) * len(target)
        sums["val_psnr"] += float(psnr(output, target).sum())
        sums["val_bicubic_psnr"] += float(psnr(upsample(lr, model.scale, "bicubic"), target).sum())
    count = len(range(len(packed))[only])
    return {name: total / count for name, total in sums.items()}


def interpolated(lr: np.ndarray, scale: int, method: str) -> np.ndarray:
    """LR images (b, s, s, 3) enlarged by the named interpolation, both uint8."""
    if method == "lanczos":
        size = (lr.shape[2] * scale, lr.shape[1] * scale)
        return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)) for image in lr])
    return to_images(upsample(to_input(lr, torch.device("cpu")), scale, method))


@torch.inference_mode()
def predict(model: nn.Module, lr: np.ndarray, device: torch.device) -> np.ndarray:
    """Super-samples LR images (b, s, s, 3) uint8 in float32; returns uint8 of the HR size."""
    model.eval()
    return to_images(model(to_input(lr, device)))


def baseline(train: PackedDataset, val: PackedDataset, test: PackedDataset, settings: Settings) -> dict:
    """Test scores of nearest, bilinear, bicubic and Lanczos interpolation, which learn nothing from train and val."""
    scale = settings.data.scale

    def enlarge(lr: np.ndarray) -> dict[str, np.ndarray]:
        return {name: interpolated(lr, scale, name) for name in ("nearest", "bilinear", "bicubic", "lanczos")}

    with progress(len(test), "baseline", "image") as bar:
        tables = scored(test, scale, enlarge, bar.update)
    scores: dict = {name: means(table) for name, table in tables.items()}
    return scores | {"images": len(test), "protocol": [MEASURES]}


def evaluate(
    model: nn.Module, packed: PackedDataset, baseline: dict, settings: Settings, compute: Compute
) -> tuple[dict, pd.DataFrame]:
    """Test scores of the model beside bicubic's, in float32; `seconds` is the whole scoring on this machine.

    `self_ensemble` holds the scores and the gain of the mean with the mirrored image's prediction.
    """
    scale = settings.data.scale
    start = time.perf_counter()

    @torch.inference_mode()
    def enlarge(lr: np.ndarray) -> dict[str, np.ndarray]:
        own, mean = self_ensemble(model, to_input(lr, compute.device))
        bicubic = interpolated(lr, scale, "bicubic")
        return {"model": to_images(own), "bicubic": bicubic, "self_ensemble": to_images(mean)}

    model.eval()
    with progress(len(packed), "evaluate", "image") as bar:
        tables = scored(packed, scale, enlarge, bar.update)
    own, ensemble = means(tables["model"]), means(tables["self_ensemble"])
    metrics: dict = own | {"bicubic": baseline["bicubic"], "gain": gain(own, baseline["bicubic"])}
    metrics["self_ensemble"] = ensemble | {"gain": gain(ensemble, baseline["bicubic"])}
    metrics["images"] = len(packed)
    metrics["seconds"] = round(time.perf_counter() - start, 2)
    metrics["parameters"] = sum(p.numel() for p in model.parameters())
    beside = [tables[name].add_prefix(f"{name}_") for name in ("bicubic", "self_ensemble")]
    return metrics, tables["model"].join(beside)


def examples(
    model: SuperSampler, packed: PackedDataset, table: pd.DataFrame, settings: Settings, compute: Compute
) -> dict[str, dict]:
    """What the figures show: for `gallery`, `best` and `worst` the ids, images and PSNR, by `evaluate`'s table.

    The gallery takes images at even distances through the test part, which no score chose; best and
    worst are the largest and smallest gain in PSNR over bicubic.
    """
    gains = (table["psnr"] - table["bicubic_psnr"]).to_numpy()
    count = min(8, len(table))
    few = max(1, count // 2)
    picks = {
        "gallery": evenly_spaced(table, count),
        "best": np.argsort(-gains, kind="stable")[:few],
        "worst": np.argsort(gains, kind="stable")[:few],
    }
    shown = {}
    for name, rows in picks.items():
        lr = packed.images("lr", rows)
        shown[name] = {
            "ids": list(table.index[rows]),
            "lr": lr,
            "bicubic": interpolated(lr, model.scale, "bicubic"),
            "model": predict(model, lr, compute.device),
            "hr": packed.images("hr", rows),
            "psnr_bicubic": table["bicubic_psnr"].to_numpy()[rows],
            "psnr_model": table["psnr"].to_numpy()[rows],
        }
    return shown


def scored(
    packed: PackedDataset, scale: int, enlarge: Callable[[np.ndarray], dict[str, np.ndarray]], tick: Callable[[int], object]
) -> dict[str, pd.DataFrame]:
    """Scores of what `enlarge` makes of LR images: by its names, a table with a row per image."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for start in range(0, len(packed), BATCH):
        rows = np.arange(start, min(start + BATCH, len(packed)))
        lr, hr = packed.images("lr", rows), packed.images("hr", rows)
        for name, images in enlarge(lr).items():
            scores = pd.DataFrame(image_quality(images, hr, scale), index=packed.samples.index[rows])
            parts.setdefault(name, []).append(scores)
        tick(len(rows))
    return {name: pd.concat(tables) for name, tables in parts.items()}


def means(table: pd.DataFrame) -> dict[str, float]:
    return {str(name): float(f"{value:.6g}") for name, value in table.mean().items()}


def gain(scores: dict[str, float], bicubic: dict[str, float]) -> dict[str, float]:
    """How far scores are above bicubic's in PSNR, in dB, and the quotient of the mean squared errors."""
    return {
        "psnr": round(scores["psnr"] - bicubic["psnr"], 6),
        "mse_ratio": round(scores["mse"] / bicubic["mse"], 6),
    }
