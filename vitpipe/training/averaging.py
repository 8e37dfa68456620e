"""Means of the weights of several epochs of one run (Wortsman et al. 2022, arXiv:2203.05482)."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitpipe.files import atomic_folder
from vitpipe.training.checkpoint import save_weights
from vitpipe.training.task import TrainingTask

KEPT = {"none": 1, "best3": 3, "greedy": 5}
"""Number of the best epochs whose weights are kept in memory until the end, by `train.average`."""


@dataclass(frozen=True)
class Average:
    """The weights that a run ends with."""

    parts: list[dict[str, Any]]
    """The epochs that the weights are the mean of, the best first: `epoch`, `score`, `loss` and `weights` of each."""
    weights: dict[str, Tensor]
    score: float
    """On validation images."""


def best_epochs(epochs: list[dict[str, Any]], average: str) -> list[dict[str, Any]]:
    """Those whose weights are kept, the best first: highest score, then lowest loss, then first.

    Args:
        epochs: in the order of training.
        average: the setting `train.average`.
    """
    return sorted(epochs, key=lambda epoch: (epoch["score"], -epoch["loss"]), reverse=True)[: KEPT[average]]


def averaged(kept: list[dict[str, Any]], average: str, validate: Callable[[dict[str, Tensor]], float]) -> Average:
    """The weights of the best epoch, the mean of the best ones, or a greedy soup.

    A greedy soup begins with the best epoch. Each further one is added to the mean if the validation score does not
    get worse, and left out otherwise.

    Args:
        kept: what `best_epochs` returned.
        average: the setting `train.average`.
        validate: the validation score of weights.
    """
    best = Average(kept[:1], kept[0]["weights"], kept[0]["score"])
    if average == "best3":
        weights = mean_weights(kept)
        return Average(kept, weights, validate(weights))
    for epoch in kept[1:]:
        parts = [*best.parts, epoch]
        weights = mean_weights(parts)
        score = validate(weights)
        if score >= best.score:
            best = Average(parts, weights, score)
    return best


def mean_weights(parts: list[dict[str, Any]]) -> dict[str, Tensor]:
    """The mean over epochs of each of their `weights`."""
    return {name: torch.stack([part["weights"][name] for part in parts]).mean(0) for name in parts[0]["weights"]}


def save_average(
    path: Path, average: Average, task: TrainingTask, whole: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> None:
    """Writes weights, and in their metadata all that is needed to build the model and to tell how it was chosen.

    With `train.average` the epochs that they are the mean of are written too, each as parts/epoch-NN.safetensors.

    Args:
        whole: gives the weights of the whole model where only those of its head are known.
    """
    settings, best, folder = task.settings, task.best, path.parent / "parts"
    shared = settings.model_copy(update={"data": settings.data.model_copy(update={"root": None})})
    encoder = None if task.encoder is None else dict(task.encoder)
    built = {"settings": shared.model_dump(mode="json"), "classes": task.classes, "encoder": encoder}
    found = [{"epoch": part["epoch"], best: part["score"], "average": None} for part in average.parts]
    metadata = found[0] | {best: average.score}
    shutil.rmtree(folder, ignore_errors=True)
    if settings.train.average != "none":
        metadata["average"] = {"epochs": [each["epoch"] for each in found], best: [each[best] for each in found]}
        with atomic_folder(folder) as temporary:
            for part, each in zip(average.parts, found, strict=True):
                name = f"epoch-{part['epoch']:02d}.safetensors"
                save_weights(temporary / name, whole(part["weights"]), each | built)
    save_weights(path, whole(average.weights), metadata | built)
