"""Which method's maps to trust: by what the model does without the patches that a map calls important, and by
whether the map depends on what the model learned.

Legend of the shapes: b images, g side of the grid, n = g * g patches, m methods, o orders, t points of a curve,
k steps of randomisation.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from vitpipe.config import Settings
from vitpipe.data.batches import evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.explain import deletion, explanations, methods
from vitpipe.explain.deletion import BLUR, Trial
from vitpipe.explain.local_attribution import diffusion_index
from vitpipe.explain.methods import Maps
from vitpipe.explain.randomisation import cascade
from vitpipe.metrics import faithfulness as measures

SHOWN = 5  # images in the picture
RANDOM = 3  # random orders of each image

PROTOCOL = methods.PROTOCOL | {
    "images": "test images at even distances through the part",
    "deletion": "area under the score against the share of patches deleted, most important first, 0 to 1 (Petsiuk et "
    "al. 2018): lower is better",
    "insertion": "area under the score against the share of patches put back, most important first: higher is better",
    "score_classify": "probability of the class that is predicted for the whole image",
    "score_supersample": "1 - RMS change of the window's output / its RMS change with all patches deleted, at least 0; "
    "the window is the patch at an eye, the centre without landmarks, whose own patch is never deleted",
    "deleted": "patches become the image's mean colour (super-sampling: as in inserted)",
    "inserted": f"patches are put back into the image under a Gaussian blur, sigma 1/{BLUR} of its side",
    "random": f"control: mean of {RANDOM} random orders of each image",
    "centre, edge, near": "controls: by distance, nearest the image's centre first, farthest from it first, nearest "
    "the window first (super-sampling)",
    "low, high": "95 % interval, images resampled with replacement; of differences paired over images; "
    "too narrow where images are few, and not widened for the number of methods",
    "gain": "how much better than the best control by the mean: control - method for deletion, method - control for "
    "insertion",
    "over_random": "the same over the random orders",
    "randomised": "Spearman's correlation of a map with the trained model's as fresh weights go in from the head down "
    "(Adebayo et al. 2018), after the last step: near 0 the map shows what was learned, near 1 it does not",
    "diffusion_index": "(1 - Gini) * 100 of local attribution over pixels (Gu & Dong 2021): the more, the wider",
}


def views(
    model: nn.Module, untrained: nn.Module, packed: PackedDataset, settings: Settings, device: torch.device
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """The content of reports/faithfulness.json, and the arrays of the pictures methods and faithfulness.

    Args:
        model: a trained `Classifier` or `SuperSampler`; left as it was.
        untrained: the same with other random weights than training began with, which those it ended with resemble.

    Returns:
        What `vitpipe.metrics.faithfulness.report` gives, with the numbers of images, for a super-sampler the mean
        diffusion_index, and the protocol; and what `vitpipe.figures.methods` and `vitpipe.figures.faithfulness` draw.

    Raises:
        InputError: the model has no attention.
    """
    task = settings.task.name
    job = explanations(task)
    rows = evenly_spaced(packed, job.ON_CURVES)
    trial = job.trial(model, packed, rows, device)
    found = trial.maps(model, len(rows))
    maps = {name: values.cpu().numpy() for name, values in found.patches.items()}
    measured = tested(trial, maps, job.POINTS, settings.seed, local=job.LOCAL)
    fewer = min(job.RANDOMISED, len(rows))
    summary = measures.summary(
        measured | randomised(model, untrained, trial, maps, fewer, settings.seed), settings.seed
    )
    content = measures.report(summary) | {"images": len(rows), "images_randomised": fewer}
    if "local" in found.pixels:
        content["diffusion_index"] = round(float(diffusion_index(found.pixels["local"]).mean()), 4)
    return content | {"protocol": [PROTOCOL]}, {
        "methods": shown(packed, rows, trial, found),
        "faithfulness": summary | {"images": np.array(len(rows)), "task": np.array(task)},
    }


def tested(trial: Trial, maps: dict[str, np.ndarray], points: int, seed: int, *, local: bool) -> dict[str, Any]:
    """Methods' maps and controls by deletion and insertion, as `vitpipe.metrics.faithfulness.summary` takes it.

    `points` and `local`: see `vitpipe.metrics.faithfulness.counts`. A window of a super-sampler's output hangs on few.
    """
    first = next(iter(maps.values()))
    chance = np.random.default_rng(seed).random((RANDOM, *first.shape))
    every = [*maps.values(), *trial.controls.values(), *chance]
    places = np.stack([measures.ranks(values, trial.fixed, seed) for values in every])
    at = measures.counts(int((~trial.fixed[0]).sum()), points, local=local)
    scores = deletion.curves(trial, places, at)
    joined = {name: np.concatenate([v[:-RANDOM], v[-RANDOM:].mean(0)[None]]) for name, v in scores.items()}
    return {"methods": list(maps), "controls": [*trial.controls, "random"], "counts": at} | joined


def randomised(
    model: nn.Module, untrained: nn.Module, trial: Trial, maps: dict[str, np.ndarray], count: int, seed: int
) -> dict[str, Any]:
    """How the maps of the first images change as the model's layers become random: steps (k,), correlations (m, k, b).

    Images are taken in the order of the part, whose ids are no order of what they show.
    """
    steps: list[str] = []
    correlations: list[list[np.ndarray]] = []
    for step, net in cascade(model, untrained, seed):
        changed = trial.maps(net, count).patches
        steps.append(step)
        correlations.append(
            [
                measures.rank_correlation(maps[name][:count], changed[name].cpu().numpy(), trial.fixed[:count])
                for name in maps
            ]
        )
    return {"steps": steps, "correlations": np.stack(correlations, 1)}


def shown(packed: PackedDataset, rows: np.ndarray, trial: Trial, found: Maps) -> dict[str, np.ndarray]:
    """What `vitpipe.figures.methods` draws, of images evenly spread over those measured."""
    few = evenly_spaced(rows, SHOWN)
    arrays = {
        "ids": packed.samples.index[rows[few]].to_numpy(dtype=str),
        "images": packed.images("hr" if "windows" in trial.shown else "lr", rows[few]),
        "methods": np.array(list(found.patches)),
        "maps": np.stack([values[few].cpu().numpy() for values in found.patches.values()]),
        "pixel_methods": np.array(list(found.pixels)),
        "pixels": np.stack([values[few].cpu().numpy() for values in found.pixels.values()]),
    }
    return arrays | {name: values[few] for name, values in trial.shown.items()}
