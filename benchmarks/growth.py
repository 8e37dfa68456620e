"""Cost growth: time and memory of the super-sampler's training step as one setting after the other changes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pydantic import ValidationError

from benchmarks.growth_document import figures, markdown
from benchmarks.timing import TURN, measure, quartiles
from vitpipe.config import Settings
from vitpipe.data.batches import Batch
from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError
from vitpipe.training.compute import choose
from vitpipe.progress import progress
from vitpipe.tasks import task
from vitpipe.training.loop import Training

__all__ = ["TITLE", "figures", "markdown", "run"]

TITLE = "Cost growth"
ROUNDS = 7
AXES: dict[str, tuple[int, ...]] = {
    "model.patch": (12, 8, 6, 4, 3, 2),
    "model.dim": (64, 128, 256, 512),
    "model.depth": (1, 2, 4, 8),
    "model.heads": (1, 2, 4, 8, 16, 32),
    "data.size": (96, 144, 192, 288),
}
QUICK = {"model.depth": (1, 2)}
SMALL = {"data.size": 48, "model.dim": 16, "model.heads": 2, "train.batch": 2}  # of the quick run


class Noise:
    """A part of packed images without files: random pixels, as many images as a batch has."""

    classes = ()

    def __init__(self, settings: Settings) -> None:
        random = np.random.default_rng(0)
        sides = {"lr": settings.data.input_size, "hr": settings.data.size}
        count = settings.train.batch
        self.copies: dict[str, torch.Tensor] = {}
        self.pixels = {name: random.integers(0, 256, (count, s, s, 3), np.uint8) for name, s in sides.items()}

    def __len__(self) -> int:
        return len(self.pixels["hr"])

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        return self.pixels[name][rows]


def make(settings: Settings) -> Callable[[], None]:
    """The step that is timed: what `vitpipe.training.loop` does with one batch."""
    compute = choose(settings.train)
    packed = cast(PackedDataset, Noise(settings))
    training = Training(task(settings.task.name), settings, packed, packed, compute)
    rows = np.arange(len(packed))
    return lambda: training.learn(Batch(packed, rows, compute.device))


def run(settings: Settings, *, quick: bool = False, root: Path | None = None) -> dict[str, Any]:
    """Times the training step along each axis, all other settings as they are in `settings` but on the CPU.

    Returns:
        `rounds`, `batch`, `dtype`, `model` (settings of the model in the middle of all axes) and `axes`: for each
        setting's name a list of points with its value, tokens, parameters, milliseconds a step (median, quartiles)
        and peak memory in MB. Values that the rules of the settings refuse, such as heads that do not divide the
        width, are left out.

    Raises:
        InputError: the settings are of another task.
    """
    if settings.task.name != "supersample":
        raise InputError(f"the growth benchmark needs task.name supersample in params.yaml, not {settings.task.name}")
    settings = changed(settings, {"train.device": "cpu"} | (SMALL if quick else {}))
    rounds, least = (2, 0.01) if quick else (ROUNDS, TURN)
    axes = QUICK if quick else AXES
    found = {}
    with progress(len(axes), "growth", "axis") as bar:
        for key, values in axes.items():
            found[key] = axis(settings, key, values, rounds, least)
            bar.update()
    return {
        "rounds": rounds,
        "batch": settings.train.batch,
        "dtype": str(choose(settings.train).dtype).removeprefix("torch."),
        "model": settings.model.model_dump(),
        "size": settings.data.size,
        "axes": found,
    }


def axis(settings: Settings, key: str, values: tuple[int, ...], rounds: int, least: float) -> list[dict[str, Any]]:
    """The points of one axis, which take turns."""
    points: dict[int, Settings] = {}
    for value in values:
        try:
            points[value] = changed(settings, {key: value})
        except ValidationError:
            continue
    wanted: dict[str, Any] = {str(value): (make, (own,), True) for value, own in points.items()}
    seconds, memory = measure(wanted, rounds, least)
    return [
        {
            "value": value,
            "tokens": (own.data.input_size // own.model.patch) ** 2,
            "parameters": parameters(own),
            "milliseconds": quartiles([1000 * second for second in seconds[str(value)]]),
            "memory": round(memory[str(value)] / 1e6, 1),
        }
        for value, own in points.items()
    ]


def changed(settings: Settings, changes: dict[str, Any]) -> Settings:
    """The settings with other values at dotted keys, checked again."""
    content = settings.model_dump()
    for key, value in changes.items():
        section, _, name = key.partition(".")
        content[section][name] = value
    return Settings.model_validate(content)


def parameters(settings: Settings) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in task(settings.task.name).build(settings).parameters())
