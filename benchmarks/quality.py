"""Quality after equal time: vitpipe's super-sampler and others, each trained for the same number of minutes.

All learn from the same images in the same order, in turns of a few seconds, so that a machine which slows down for a
while slows all of them. Only the seconds of training steps count: with one thread on a CPU its processor time, which
does not grow while other programs have the core.
"""

import copy
import math
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.networks import NETWORKS, build
from benchmarks.pictures import fetch, pack_parts, recipe_settings, scratch
from benchmarks.results import Measurement, measurement, table
from vitpipe.config import SupersampleSettings
from vitpipe.data.batches import Batch, shuffled
from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError
from vitpipe.models.consistency import Consistency
from vitpipe.progress import progress
from vitpipe.tasks.base import Predict, scoring_task
from vitpipe.training.compute import Compute, select_compute
from vitpipe.training.optimizers import optimizers
from vitpipe.training.schedule import ema_decay, learning_rate

TURN = 10.0  # seconds
TICKS = 10_000  # the learning rate is a function of the step; the whole time has this many


class Consistent(nn.Module):
    """A network with its output made consistent with the input, as vitpipe's is by itself."""

    def __init__(self, network: nn.Module, settings: SupersampleSettings) -> None:
        super().__init__()
        self.network = network
        self.consistency = Consistency(settings.data.input_size, settings.data.scale)

    def forward(self, lr: Tensor) -> Tensor:
        return self.consistency(self.network(lr), lr)


class TimedTraining:
    """A training that ends when its time is over; a step that would end later is not begun.

    Args:
        name: of the network, in `NETWORKS`.
        settings: of vitpipe's recipe.
        seconds: of training steps in all.
    """

    def __init__(
        self,
        name: str,
        settings: SupersampleSettings,
        parts: dict[str, PackedDataset],
        compute: Compute,
        seconds: float,
        seed: int,
    ) -> None:
        train = {"epochs": 1, "schedule": "cosine", **NETWORKS[name].train}
        self.setting = settings.train.model_copy(update=train)
        self.settings = settings.model_copy(update={"train": self.setting})
        self.name, self.test, self.compute, self.seconds, self.seed = name, parts["test"], compute, seconds, seed
        self.task = scoring_task(self.settings)
        torch.manual_seed(seed)
        self.model = build(name, self.settings).to(compute.device)
        self.ema_model = copy.deepcopy(self.model)
        self.weights: list[Tensor] = list(self.model.parameters())
        self.ema_weights: list[Tensor] = list(self.ema_model.parameters())
        self.optimizers = optimizers(self.model, self.setting, compute.dtype)
        self.batches = endless(parts["train"], self.setting.batch, compute.device, seed, self.setting.flip)
        self.steps = self.images = 0
        self.used = self.last = 0.0  # seconds of all steps, of the last step
        alone = compute.device.type == "cpu" and torch.get_num_threads() == 1
        self.clock = time.process_time if alone else time.perf_counter

    @property
    def finished(self) -> bool:
        return self.used + self.last > self.seconds

    def turn(self) -> None:
        """Trains for `TURN` seconds, or until the time is over."""
        end = self.used + TURN
        self.model.train()
        while self.used < end and not self.finished:
            start = self.clock()
            self.step()
            self.last = self.clock() - start
            self.used += self.last

    def step(self) -> None:
        """One training step, as vitpipe's own loop does it, with the learning rate by time instead of steps."""
        batch = next(self.batches)
        torch.manual_seed(self.seed + self.steps)  # of what augmentation draws
        with self.compute.autocast():
            loss, _ = self.task.loss(self.model, *self.task.augmented(batch))
        self.model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, self.setting.clip)
        if not math.isfinite(loss.item()):
            raise InputError(f"{self.name} diverged with seed {self.seed} and learning rate {self.setting.lr:g}")
        rate = learning_rate(min(TICKS - 1, int(self.used / self.seconds * TICKS)), TICKS, self.setting)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.ema_weights, self.weights, 1 - ema_decay(self.steps, self.setting.ema))
        self.steps += 1
        self.images += len(batch)

    def result(self) -> dict[str, Any]:
        """Scores on all test images, in float32: of one pass, and PSNR of two other ways to predict."""
        consistent = Consistent(self.ema_model, self.settings).to(self.compute.device)
        others = {
            "mirrored": self.task.variants(self.ema_model)["self_ensemble"],
            "consistent": self.predictor(consistent),
        }
        setting = {key: getattr(self.setting, key) for key in ("optimizer", "loss", "batch", "lr")}
        return {
            "network": self.name,
            "seed": self.seed,
            "parameters": sum(weight.numel() for weight in self.weights),
            "steps": self.steps,
            "images": self.images,
            **self.gain(self.predictor(self.ema_model)),
            **{f"{name}_gain": self.gain(predict)["psnr_gain"] for name, predict in others.items()},
            **setting,
        }

    def predictor(self, model: nn.Module) -> Predict:
        return lambda images: self.task.predict(model, images)

    @cached_property
    def bicubic(self) -> dict[str, float]:
        return self.scores(self.task.untrained_baselines()["bicubic"])

    def scores(self, predict: Predict) -> dict[str, float]:
        return self.task.summary(self.task.scores(predict, self.test))

    def gain(self, predict: Predict) -> dict[str, float]:
        """PSNR and SSIM above bicubic interpolation, and the ratio of the mean squared errors."""
        own, bicubic = self.scores(predict), self.bicubic
        gain = {f"{name}_gain": round(own[name] - bicubic[name], 4) for name in ("psnr", "ssim")}
        return gain | {"mse_ratio": round(own["mse"] / bicubic["mse"], 4)}


def endless(data: PackedDataset, batch: int, device: torch.device, seed: int, flip: bool) -> Iterator[Batch]:
    """Batches epoch after epoch, in an order that depends on the seed and the size of a batch alone."""
    epoch = 0
    while True:
        yield from shuffled(data, batch, device, seed=seed, epoch=epoch, flip=flip)
        epoch += 1


def run(
    root: Path | None,
    *,
    minutes: float = 10.0,
    seeds: Sequence[int] = (0,),
    networks: Sequence[str] = tuple(NETWORKS),
    count: int | None = None,
) -> Measurement:
    """Trains each network with each seed and scores it on the test images.

    Rows: see `TimedTraining.result`; one for each network and seed. Gains are over bicubic interpolation.

    Args:
        root: folder or zip with CelebA; None for the built-in faces.
        count: images at most; None for all.

    Raises:
        InputError: there is no such network, a training diverged, or a library is missing.
    """
    if unknown := set(networks) - set(NETWORKS):
        raise InputError(f"unknown network {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    settings = recipe_settings(root, count)
    compute = select_compute(settings.train)
    seconds = minutes * 60
    rows = []
    with TemporaryDirectory(dir=scratch()) as folder:
        raw = Path(folder) / "raw"
        parts = pack_parts(settings, fetch(settings, raw), raw, Path(folder) / "packed")
        images = {f"{part} images": len(data) for part, data in parts.items()}
        for seed in seeds:
            trainings = [TimedTraining(name, settings, parts, compute, seconds, seed) for name in networks]
            with progress(round(seconds) * len(trainings), f"quality, seed {seed}", "second") as bar:
                while going := [training for training in trainings if not training.finished]:
                    for training in going:
                        training.turn()
                        bar.update(round(sum(each.used for each in trainings)) - bar.n)
            rows += [training.result() for training in trainings]
    dtype = str(compute.dtype).removeprefix("torch.")
    setup = {"data": settings.data.name, **images, "minutes": minutes, "dtype": dtype}
    return measurement(setup | {"networks": len(networks), "seeds": len(seeds)}, rows)


def markdown(one: Measurement) -> str:
    """The table of docs/benchmarks.md, best network first: means over the seeds."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in one["rows"]:
        by_name.setdefault(row["network"], []).append(row)
    lines = []
    for name, rows in sorted(by_name.items(), key=lambda item: -mean(row["psnr_gain"] for row in item[1])):
        gains = [spread(rows, key, 3) for key in ("psnr_gain", "mirrored_gain", "consistent_gain")]
        scores = [*gains, spread(rows, "ssim_gain", 4), f"{mean(row['mse_ratio'] for row in rows):.3f}"]
        first = rows[0]
        training = f"{first['optimizer']}, {first['loss']}, batch {first['batch']}, lr {first['lr']:g}"
        images = mean(row["images"] for row in rows)
        lines.append([name, *scores, f"{first['parameters']:,}", f"{images:,.0f}", training])
    gains = ["one pass, dB", "mirrored, dB", "consistent, dB", "SSIM", "MSE ratio"]
    return table(["network", *gains, "parameters", "images seen", "training"], lines)


def spread(rows: list[dict[str, Any]], key: str, digits: int) -> str:
    """Mean over the seeds, and their standard deviation if there are several; a dash without a value."""
    values = [row[key] for row in rows if row[key] is not None]
    if not values:
        return "–"
    text = f"{mean(values):+.{digits}f}"
    return (f"{text} ± {stdev(values):.{digits}f}" if len(values) > 1 else text).replace("-", "−")
