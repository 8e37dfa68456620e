"""Which method's maps to trust: by what the model does without the patches that a map calls important, and by
whether the map changes when layers become random. One that stays as it was shows the image or the architecture, not
what the model learned (Adebayo et al. 2018, arXiv:1810.03292).

Shapes: b images, g rows and columns of patches, m methods, c controls, t points of a curve.
"""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from vitpipe.data.batches import evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import to_input
from vitpipe.explain import methods
from vitpipe.explain.deletion import BLUR, Deletion
from vitpipe.explain.encoders import NO_ATTENTION, device_of, encoder_of, evaluating
from vitpipe.explain.gradients import diffusion_index
from vitpipe.explain.methods import Maps, attribution_maps
from vitpipe.metrics import faithfulness as measures
from vitpipe.tasks.base import Questions, Task

SHOWN = 5  # images in the figure of all methods
RANDOM = 3  # random orders of each image
FIRST = ("stem.", "encoder.patch_embed.", "encoder.cls_token", "encoder.reg_token", "encoder.pos_embed")
"""How the names of parameters before the blocks begin."""
FILLS = {"mean": "the image's mean colour", "blur": "the image under the blur of inserted"}

PROTOCOL = {
    "images": "test images at even distances through the part",
    "deletion": "area under the score against the share of patches deleted, most important first, 0 to 1 (Petsiuk et "
    "al. 2018): lower is better",
    "insertion": "area under the score against the share of patches put back, most important first: higher is better",
    "inserted": f"patches are put back into the image under a Gaussian blur, sigma 1/{BLUR} of its side",
    "random": f"control: mean of {RANDOM} random orders of each image",
    "centre, edge, near": "controls: by distance, nearest the image's centre first, farthest from it first, nearest "
    "the patch that is asked about first, where there is one",
    "low, high": "95 % interval, images resampled with replacement; of differences paired over images; "
    "too narrow where images are few, and not widened for the number of methods",
    "gain": "how much better than the best control by the mean: control - method for deletion, method - control for "
    "insertion",
    "over_random": "the same over the random orders",
    "randomised": "Spearman's correlation of a map with the trained model's as fresh weights go in from the head down "
    "(Adebayo et al. 2018), after the last step: near 0 the map shows what was learned, near 1 it does not",
    "diffusion_index": "(1 - Gini) * 100 of local attribution over pixels (Gu & Dong 2021): the more, the wider",
}

Asked = list[tuple[Tensor, Questions]]
"""Images, a memory-sized part at a time, and the questions about them."""


def faithfulness(
    task: Task, model: nn.Module, other: nn.Module, dataset: PackedDataset
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """The content of reports/faithfulness.json, and the arrays of the figures methods and faithfulness.

    Args:
        model: trained, of the task; left as it was.
        other: the same with other random weights than those that training began with, which trained ones resemble.

    Returns:
        What `vitpipe.metrics.faithfulness.report` gives, with the numbers of images, the mean diffusion_index where
        there is local attribution, and the protocol; and what `vitpipe.figures` draws. Where the model computes no
        attention, methods that need it have None under their names and are in no list and figure.
    """
    effort, seed = task.effort.spent_on(encoder_of(model)), task.settings.seed
    rows = evenly_spaced(dataset, effort.curve_images)
    images = to_input(dataset.images("lr", rows), device_of(model)).contiguous()
    samples = dataset.samples.iloc[rows]
    fewer = min(effort.randomised_images, len(rows))
    with evaluating(model):
        questions = task.questions(model, images, samples)
        asked = ask(task, model, images, samples)
        asked_fewer = ask(task, model, images[:fewer], samples.iloc[:fewer])
    found = maps_of(model, asked)
    maps = {name: values.cpu().numpy() for name, values in found.patches.items()}
    deletion = Deletion(model, images, questions)
    measured = deletion_curves(deletion, maps, effort.curve_points, seed, local=effort.local)
    correlations: dict[str, list[np.ndarray]] = {}
    for step, net in cascade(model, other, seed):
        changed = maps_of(net, asked_fewer).patches.values()
        pairs = zip(maps.values(), changed, strict=True)
        correlations[step] = [
            measures.rank_correlation(before[:fewer], after.cpu().numpy(), deletion.fixed[:fewer])
            for before, after in pairs
        ]
    measured |= {"steps": list(correlations), "correlations": np.stack([*correlations.values()], 1)}
    summary = measures.summary(measured, seed)
    content = measures.report(summary) | {"images": len(rows), "images_randomised": fewer}
    missing = [name for name in questions.methods if name not in maps]
    content |= {name: dict.fromkeys(content[next(iter(maps))]) for name in missing}
    if "local" in found.pixels:
        content["diffusion_index"] = round(float(diffusion_index(found.pixels["local"]).mean()), 4)
    told = {name: task.explanation_protocol[name] for name in ("score", "gradient_score")}
    told |= {"deleted": f"patches become {FILLS[questions.fill]}"}
    told = methods.protocol(questions) | dict.fromkeys(missing, NO_ATTENTION) | PROTOCOL | told
    return content | {"protocol": [told]}, {
        "methods": shown(dataset, rows, questions, found),
        "faithfulness": summary | {"images": np.array(len(rows)), "score": np.array(told["score"])},
    }


def ask(task: Task, model: nn.Module, images: Tensor, samples: pd.DataFrame) -> Asked:
    """The questions about images (b, 3, s, s), a memory-sized part at a time."""
    size = methods.passes(model, images)
    parts = [slice(start, start + size) for start in range(0, len(images), size)]
    return [(images[part], task.questions(model, images[part], samples.iloc[part])) for part in parts]


def maps_of(model: nn.Module, asked: Asked) -> Maps:
    """The maps of all parts, joined."""
    parts = [attribution_maps(model, questions, images) for images, questions in asked]
    return Maps(*({name: torch.cat([part[i][name] for part in parts]) for name in parts[0][i]} for i in (0, 1)))


def deletion_curves(
    deletion: Deletion, maps: dict[str, np.ndarray], points: int, seed: int, *, local: bool
) -> dict[str, Any]:
    """Methods' maps and controls by deletion and insertion, for `vitpipe.metrics.faithfulness.summary`; `points` and
    `local` are those of its `counts`."""
    controls, first = deletion.controls(), next(iter(maps.values()))
    chance = np.random.default_rng(seed).random((RANDOM, *first.shape))
    every = [*maps.values(), *controls.values(), *chance]
    places = np.stack([measures.ranks(values, deletion.fixed, seed) for values in every])
    at = measures.counts(int((~deletion.fixed[0]).sum()), points, local=local)
    scores = deletion.curves(places, at)
    joined = {name: np.concatenate([v[:-RANDOM], v[-RANDOM:].mean(0)[None]]) for name, v in scores.items()}
    return {"methods": list(maps), "controls": [*controls, "random"], "counts": at} | joined


def cascade(model: nn.Module, untrained: nn.Module, seed: int) -> Iterator[tuple[str, nn.Module]]:
    """Yields the name of each step, and the model whose layers are random from the head down to there.

    Cascading randomisation (Adebayo et al. 2018, section 4): head (all after the blocks), the blocks from the last to
    the first, embedding (all before them). Matrices and kernels that start at zero, such as a last layer, take their
    trained values in a random order instead: with zeros no output would depend on the input.

    Args:
        model: trained; not changed. The model yielded is the same object each time, changed further.
        untrained: the same architecture with fresh weights; not changed.
        seed: of that random order.
    """
    mixed, fresh = copy.deepcopy(model), dict(untrained.named_parameters())
    generator = torch.Generator().manual_seed(seed)
    blocks = range(len(encoder_of(model).blocks), 0, -1)
    for step in ("head", *(f"block {block}" for block in blocks), "embedding"):
        for name, weight in mixed.named_parameters():
            if step_of(name) != step:
                continue
            if fresh[name].ndim < 2 or fresh[name].any():
                weight.data = fresh[name].detach().clone()
            else:
                order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                weight.data = weight.detach().flatten()[order].view_as(weight)
        yield step, mixed


def step_of(parameter: str) -> str:
    """The step of the cascade that makes a parameter random, by its name."""
    if parameter.startswith("encoder.blocks."):
        return f"block {int(parameter.split('.')[2]) + 1}"
    return "embedding" if parameter.startswith(FIRST) else "head"


def shown(dataset: PackedDataset, rows: np.ndarray, questions: Questions, found: Maps) -> dict[str, np.ndarray]:
    """The arrays of the figure methods, of images evenly spaced among those measured."""
    few = evenly_spaced(rows, SHOWN)
    arrays = {
        "ids": dataset.samples.index[rows[few]].to_numpy(dtype=str),
        "images": dataset.images("hr" if "windows" in questions.shown else "lr", rows[few]),
        "methods": np.array(list(found.patches)),
        "maps": np.stack([values[few].cpu().numpy() for values in found.patches.values()]),
        "pixel_methods": np.array(list(found.pixels)),
        "pixels": np.stack([values[few].cpu().numpy() for values in found.pixels.values()]),
    }
    return arrays | {name: values[few] for name, values in questions.shown.items()}
