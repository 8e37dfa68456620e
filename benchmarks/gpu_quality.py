"""Quality on a GPU: networks after the same seconds of training."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from benchmarks.gpu import gpu_facts, require_cuda
from benchmarks.gpu_document import figures
from benchmarks.gpu_document import quality as markdown
from benchmarks.networks import NETWORKS, Network, Variant, ours
from benchmarks.quality import SCRATCH, check, data_of, prepare
from benchmarks.timed_training import Trial, means_of, scores, train
from vitpipe.config import Settings
from vitpipe.data.batches import Packed
from vitpipe.errors import InputError
from vitpipe.nn.compute import Compute, choose
from vitpipe.nn.supersampler import upsample

__all__ = ["TITLE", "figures", "markdown", "run"]

TITLE = "Quality on a GPU"
SECONDS, TRY_SECONDS, RATES = 60.0, 6.0, (1e-3, 2e-3, 4e-3)
BATCH = 32
WIDE = {"width": 64, "expansion": 2, "blocks": 8, "patch": 3, "dim": 256, "depth": 4}


def run(settings: Settings, *, quick: bool = False, root: Path | None = None) -> dict[str, Any]:
    """Trains all.

    Returns:
        `gpu` (its name and peaks), `dtype`, `images` (their number by part), `seconds` of a training and of one that
        chooses a rate, `rates`, `bicubic` (its scores by part) and `networks`: of each its scores on validation and
        test, what it was and how many images it saw.

    Raises:
        InputError: there is no CUDA device, the settings are not for super-sampling 48 pixels to 192, or a network
            diverged with the rate that was best for it.
    """
    require_cuda()
    check(settings, (), (0,))
    compute = choose(settings.train)
    parts = prepare(data_of(settings, root, 200 if quick else None), settings.seed, SCRATCH)
    seconds, tries = (2.0, 1.0) if quick else (SECONDS, TRY_SECONDS)
    enlarge = partial(upsample, scale=settings.data.scale, method="bicubic")
    return {
        "gpu": gpu_facts(),
        "dtype": str(compute.dtype).removeprefix("torch."),
        "images": {part: len(packed) for part, packed in parts.items()},
        "seconds": [seconds, tries],
        "rates": list(RATES),
        "bicubic": {part: whole(enlarge, parts[part], settings, compute) for part in ("val", "test")},
        "networks": [trained(*one, settings, parts, compute, seconds, tries) for one in contestants()],
    }


def whole(model: Callable[[Tensor], Tensor], packed: Packed, settings: Settings, compute: Compute) -> dict[str, float]:
    """Mean scores on all images of a part, in float32."""
    return means_of(scores(model, packed, np.arange(len(packed)), settings, compute, precise=True))


def trained(
    title: str,
    network: Network,
    variant: Variant,
    settings: Settings,
    parts: dict[str, Packed],
    compute: Compute,
    seconds: float,
    tries: float,
) -> dict[str, Any]:
    """How a network scores after so many seconds, with the rate that was best on validation after a few."""

    def training(rate: float, seconds: float) -> tuple[dict[str, Any], nn.Module]:
        trial = Trial(network, variant, rate, 0, seconds, 1)
        return train(trial, settings, parts, compute, f"{title}, lr {rate:g}")

    def reached(rate: float) -> float:
        record, _ = training(rate, tries)
        return -math.inf if record["diverged"] else record["points"][-1]["val"]["psnr"]

    rate = max(RATES, key=reached)
    record, model = training(rate, seconds)
    if record["diverged"]:
        raise InputError(f"{title} diverged with learning rate {rate:g}")
    facts = {"network": title, "lr": rate, "batch": variant.batch}
    facts |= {name: record[name] for name in ("parameters", "images")}
    return facts | {part: whole(model, parts[part], settings, compute) for part in ("val", "test")}


def contestants() -> list[tuple[str, Network, Variant]]:
    """Title, network and form of what is trained."""
    small = NETWORKS["edsr-small"].variants["32 channels, 12 blocks"]
    return [
        ("vitpipe, patch 6", NETWORKS["ours"], replace(ours(patch=6), batch=BATCH)),
        ("vitpipe, wide", NETWORKS["ours"], replace(ours(**WIDE), batch=BATCH)),
        ("EDSR-baseline", NETWORKS["edsr"], replace(NETWORKS["edsr"].variants["our optimiser"], batch=BATCH)),
        ("small EDSR", NETWORKS["edsr-small"], replace(small, batch=BATCH)),
    ]
