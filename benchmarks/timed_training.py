"""One training that ends when its time is over, with the network scored on the way while the clock stands still."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.networks import Network, Variant
from vitpipe.config import Settings, Train
from vitpipe.data.batches import Batch, shuffled, evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import to_images, to_input
from vitpipe.errors import InputError
from vitpipe.metrics.image_quality import image_quality
from vitpipe.training.compute import Compute
from vitpipe.progress import progress
from vitpipe.tasks import supersample
from vitpipe.training.loop import Training
from vitpipe.training.schedule import learning_rate

TICKS = 10_000  # the schedule counts steps; here so many are the whole time
CURVE_IMAGES = 96  # of validation and of test, at even distances, that a point of the curve is measured on
SHOWN = ("psnr", "ssim", "mse")
TURN = 10.0  # seconds that a training goes on for before others have their turn
Result = tuple[dict[str, Any], nn.Module]


@dataclass(frozen=True)
class Trial:
    """What is trained, and for how long.

    Args:
        lr: peak learning rate.
        seconds: of training, without building the network and scoring it.
        points: how often it is scored on validation images, at even distances in time, the end among them.
        tested: whether on test images, too; not where it only serves to choose.
    """

    network: Network
    variant: Variant
    lr: float
    seed: int
    seconds: float
    points: int
    tested: bool = False


class Stopwatch:
    """Seconds since it began, without those in which it stood."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.start = clock()

    def seconds(self) -> float:
        return self.clock() - self.start

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What happens meanwhile does not count."""
        since = self.clock()
        yield
        self.start += self.clock() - since


def train(*what: Any) -> Result:
    """The training of `turns` from beginning to end, without a break."""
    training = turns(*what)
    while True:
        try:
            next(training)
        except StopIteration as end:
            return end.value


def turns(
    trial: Trial,
    settings: Settings,
    parts: dict[str, PackedDataset],
    compute: Compute,
    title: str,
    clock: Callable[[], float] = time.perf_counter,
) -> Generator[None, None, Result]:
    """Trains turn by turn, and returns what there is to know about it and the averaged weights.

    Its time stands still between turns, so several trainings can go on alternately: what slows the machine for minutes
    slows them all. A step that would probably end after the time is not begun, so slow networks do not get more of it.

    Returns:
        parameters, steps, images (seen), diverged, and `points`: seconds, images (seen), scores of val and of test.
    """
    setting = recipe(trial, settings)
    own = settings.model_copy(update={"seed": trial.seed, "train": setting})
    training = Training(Laid(trial), own, parts["train"], parts["val"], compute)  # type: ignore[arg-type]
    averaged = training.averaged.eval()
    record: dict[str, Any] = {"parameters": sum(p.numel() for p in training.weights), "steps": 0, "images": 0}
    record["diverged"] = False
    points: list[dict[str, Any]] = []

    def score() -> dict[str, Any]:
        watched = ("val", "test") if trial.tested else ("val",)
        scores = {part: curve_scores(averaged, parts[part], settings, compute) for part in watched}
        return {"seconds": round(now, 2), "images": record["images"]} | scores

    training.model.train()
    batches = endless(parts["train"], setting, trial.seed, compute)
    with progress(round(trial.seconds), title, "second") as bar:
        watch = Stopwatch(clock)
        now = duration = turn = 0.0
        while now + duration <= trial.seconds:
            batch = next(batches)
            try:
                training.learn(batch, learning_rate(int(now / trial.seconds * TICKS), TICKS, setting))
            except InputError:  # the loss or the gradient is no number
                record["diverged"] = True
                break
            record["steps"] += 1
            record["images"] += len(batch)
            before, now = now, watch.seconds()
            duration = now - before
            bar.update(round(min(now, trial.seconds)) - bar.n)
            if len(points) + 1 < trial.points and now >= trial.seconds * (len(points) + 1) / trial.points:
                with watch.stopped():
                    points.append(score())
            if now - turn >= TURN:
                turn = now
                with watch.stopped():
                    yield
    if not record["diverged"]:
        points.append(score())
    return record | {"seconds": round(now, 2), "points": points}, averaged


class Laid:
    """The super-sampling task with the trial's network, in its order in memory."""

    inputs, loss = staticmethod(supersample.inputs), staticmethod(supersample.loss)

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def build(self, settings: Settings, classes: tuple[str, ...] = ()) -> nn.Module:
        return laid_out(self.trial.variant.build(settings), self.trial.network.channels_last)


def recipe(trial: Trial, settings: Settings) -> Train:
    """The settings of the training, with what is the network's own."""
    own = {"epochs": 1, "lr": trial.lr, "schedule": "cosine", **trial.network.train, **trial.variant.train}
    return Train.model_validate(settings.train.model_dump() | own)


def endless(packed: PackedDataset, setting: Train, seed: int, compute: Compute) -> Iterator[Batch]:
    """Batches epoch after epoch, in an order that depends on the seed and the size of a batch alone."""
    epoch = 0
    while True:
        yield from shuffled(packed, setting.batch, compute.device, seed=seed, epoch=epoch, flip=setting.flip)
        epoch += 1


def laid_out(model: nn.Module, channels_last: bool) -> nn.Module:
    """The model with its weights, and the images it is given, in this order in memory."""
    if channels_last:
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.register_forward_pre_hook(lambda _, images: (images[0].contiguous(),))  # packed images have channels last
    return model


def curve_scores(
    model: Callable[[Tensor], Tensor], packed: PackedDataset, settings: Settings, compute: Compute
) -> dict[str, float]:
    """Mean scores on some images of a part, computed as precisely as in training."""
    rows = evenly_spaced(packed, CURVE_IMAGES)
    return means_of(scores(lambda lr: {"own": model(lr)}, packed, rows, settings, compute, precise=False)["own"])


@torch.inference_mode()
def scores(
    predict: Callable[[Tensor], Mapping[str, Tensor]],
    packed: PackedDataset,
    rows: np.ndarray,
    settings: Settings,
    compute: Compute,
    *,
    precise: bool,
) -> dict[str, pd.DataFrame]:
    """The project's measures of each of these images, by name of the prediction a table with one row per image.

    Args:
        predict: what there is to score, by name: HR (b, 3, k*s, k*s) on [-1, 1] for LR images (b, 3, s, s).
        precise: in float32, as the evaluate stage has it, or as in training.
    """
    found = defaultdict(list)
    for chunk in np.array_split(rows, math.ceil(len(rows) / 16)):
        lr = to_input(packed.images("lr", chunk), compute.device)
        with torch.autocast(compute.device.type, enabled=False) if precise else compute.autocast():
            outputs = predict(lr)
        for name, output in outputs.items():
            images = to_images(output)
            found[name].append(pd.DataFrame(image_quality(images, packed.images("hr", chunk), settings.data.scale)))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in found.items()}


def means_of(table: pd.DataFrame) -> dict[str, float]:
    return {name: round(float(table[name].mean()), 6) for name in SHOWN}
