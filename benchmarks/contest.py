"""Variant and learning rate of each network that the quality section compares, and their whole trainings."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.networks import NETWORKS
from benchmarks.quality_summary import curve, entry
from benchmarks.records import Records, digest
from benchmarks.timed_training import CURVE_IMAGES, SHOWN, TURN, Result, Trial, means_of, recipe, scores, train, turns
from vitpipe.config import Data, Settings
from vitpipe.data.batches import evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError
from vitpipe.files import write_json
from vitpipe.metrics.image_quality import PROTOCOL
from vitpipe.training.compute import choose
from vitpipe.models.consistency import Consistency
from vitpipe.models.supersampler import self_ensemble, upsample

POINTS = 8  # of a curve
CHOICE = 0.2  # share of the minutes that a training gets which only serves to choose
SEEDS = 10  # at most; they are 0 to 9
LEVEL = 0.05  # dB: variants or rates that are so close after a short training are both trained whole, to choose
FARTHEST = 6  # how often, at most, a learning rate at the end of its grid makes the grid longer
BESIDE = {"mirrored": "mean with the mirrored prediction", "consistent": "made consistent"}
"""Scores of a training that have rows of their own."""
Scores = dict[tuple[str, float], float | None]  # by variant and learning rate; None where the training diverged


@dataclass(frozen=True)
class Choice:
    """Variant and learning rate that validation chose, and what it had to choose from."""

    variant: str
    lr: float
    tried: list[dict[str, Any]]


class Contest:
    """The trainings on one data set with one length; those in the folder are not done again."""

    def __init__(self, settings: Settings, parts: dict[str, PackedDataset], minutes: float, folder: Path) -> None:
        self.settings, self.parts, self.minutes = settings, parts, minutes
        self.compute = choose(settings.train)
        self.records = Records(settings, parts, self.compute, folder)

    def choose(self, name: str) -> Choice:
        """The network's variant at its first learning rate, then its learning rate, by PSNR on validation images.

        Rates go by factors of two, and on beyond the one that is best until that is between two worse ones. Variants or
        rates that are nearly level after a short training are compared after a whole one; where the best of these is at
        an end, too, whole trainings go on from there.
        """
        network = NETWORKS[name]
        first = network.lr or self.settings.train.lr
        tried = {(variant, first): self.tried(name, variant, first) for variant in network.variants}
        level = self.level(name, tried)
        variant, lr = best(level or tried)
        own = {(variant, lr): tried[variant, lr]}
        for factor in (0.5, 2.0):
            own[variant, lr * factor] = self.tried(name, variant, lr * factor)
        for _ in range(FARTHEST):
            if lr := beyond(own, best(own)):
                own[variant, lr] = self.tried(name, variant, lr)
        own_level = self.level(name, own)
        for _ in range(FARTHEST):
            if own_level and (lr := beyond(own | own_level, best(own_level))):
                own_level |= self.wholes(name, [(variant, lr)])
        scores = {"val_psnr": tried | own, "whole_val_psnr": level | own_level}
        rows = [
            {"variant": key[0], "lr": key[1]} | {kind: found[key] for kind, found in scores.items() if key in found}
            for key in sorted(scores["val_psnr"] | scores["whole_val_psnr"])
        ]
        return Choice(variant, best(own_level or own)[1], rows)

    def level(self, name: str, short: Scores) -> Scores:
        """Those that are nearly level with the best after short trainings, after whole ones with the first seed.

        Both scores are PSNR in dB on validation images. Nothing where there is only the best.
        """
        known = {key: score for key, score in short.items() if score is not None}
        close = [key for key, score in known.items() if score > max(known.values()) - LEVEL]
        return self.wholes(name, close) if len(close) > 1 else {}

    def wholes(self, name: str, keys: Sequence[tuple[str, float]]) -> Scores:
        """PSNR in dB on validation images after whole trainings with the first seed; None where they diverged."""
        return {key: validated(self.record(name, Choice(*key, []), 0)) for key in keys}

    def tried(self, name: str, variant: str, lr: float) -> float | None:
        """PSNR in dB on validation images after a short training; None where it diverged."""
        network = NETWORKS[name]
        trial = Trial(network, network.variants[variant], lr, 0, self.minutes * 60 * CHOICE, 1)
        return validated(self.stored(name, variant, trial))

    def finals(self, chosen: Mapping[str, Choice], seed: int) -> None:
        """The whole trainings of all networks with one seed, in turns of `TURN` seconds; scored on test on the way.

        Unless all of them are there already, all are trained, even with a seed that `choose` has trained by itself.

        Raises:
            InputError: one has diverged; none is kept.
        """
        paths = self.final_paths(chosen, seed)
        if all(path.exists() for path in paths.values()):
            return
        trials = {name: replace(self.whole(name, choice, seed), tested=True) for name, choice in chosen.items()}
        rest = (self.settings, self.parts, self.compute)
        going = {name: turns(trial, *rest, self.title(chosen[name].variant, trial)) for name, trial in trials.items()}
        ended: dict[str, Result] = {}
        try:
            while going:
                for name, training in list(going.items()):
                    try:
                        next(training)
                    except StopIteration as end:
                        del going[name]
                        ended[name] = end.value
                        if end.value[0]["diverged"]:
                            lr = chosen[name].lr
                            raise InputError(
                                f"{name} diverged with seed {seed} and learning rate {lr:g}: raise minutes"
                            ) from None
        finally:
            for training in going.values():
                training.close()
        for name, path in paths.items():
            self.keep(path, name, chosen[name].variant, trials[name], *ended[name])

    def final_paths(self, chosen: Mapping[str, Choice], seed: int) -> dict[str, Path]:
        """Where `finals` keeps its records: named by all networks compared, as a training by itself is another one."""
        own = {name: self.records.path(name, self.whole(name, choice, seed)) for name, choice in chosen.items()}
        key = digest(TURN, sorted(path.name for path in own.values()))
        return {name: path.with_name(f"{path.stem}-{key}.json") for name, path in own.items()}

    def record(self, name: str, choice: Choice, seed: int) -> dict[str, Any]:
        """That of the whole training by itself, which may have diverged."""
        return self.stored(name, choice.variant, self.whole(name, choice, seed))

    def whole(self, name: str, choice: Choice, seed: int) -> Trial:
        network = NETWORKS[name]
        variant = network.variants[choice.variant]
        variant = replace(variant, train={**network.whole, **variant.train})
        return Trial(network, variant, choice.lr, seed, self.minutes * 60, POINTS)

    def finished(self, chosen: Mapping[str, Choice]) -> dict[str, list[dict[str, Any]]]:
        """The records of `finals` of all seeds that were trained."""
        seeds = [self.final_paths(chosen, seed) for seed in range(SEEDS)]
        whole = [paths for paths in seeds if all(path.exists() for path in paths.values())]
        return {name: [json.loads(paths[name].read_text()) for paths in whole] for name in chosen}

    def stored(self, name: str, variant: str, trial: Trial) -> dict[str, Any]:
        """The record of the trial by itself: from its file, or trained now and written there."""
        path = self.records.path(name, trial)
        if not path.exists():
            ended = train(trial, self.settings, self.parts, self.compute, self.title(variant, trial))
            self.keep(path, name, variant, trial, *ended)
        return json.loads(path.read_text())

    def title(self, variant: str, trial: Trial) -> str:
        return f"{trial.network.title}, {variant}, lr {trial.lr:g}, seed {trial.seed}"

    def keep(
        self, path: Path, name: str, variant: str, trial: Trial, record: dict[str, Any], model: torch.nn.Module
    ) -> None:
        """Writes the record, with all test scores if the trial is one that is tested."""
        if trial.tested and not record["diverged"]:
            test, predict = self.parts["test"], self.predictions(name, model)
            tables = scores(predict, test, np.arange(len(test)), self.settings, self.compute, precise=True)
            record |= {kind: means_of(table) for kind, table in tables.items()}
        write_json(path, {"network": name, "variant": variant, "lr": trial.lr, "seed": trial.seed} | record)

    def predictions(self, name: str, model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], dict[str, Tensor]]:
        """What is scored of a network: its output, its mean with the mirrored one, its output made consistent."""
        data = self.settings.data
        consistency = Consistency(data.input_size, data.scale).to(self.compute.device)

        def predict(lr: Tensor) -> dict[str, Tensor]:
            own, mean = self_ensemble(model, lr)
            found = {"test": own, "test_mirrored": mean}
            return found if name == "ours" else found | {"test_consistent": consistency(own, lr)}

        return predict

    def summary(self, data: Data, chosen: dict[str, Choice]) -> dict[str, Any]:
        """The content of the section."""
        test = self.parts["test"]
        all_images = self.bicubic(np.arange(len(test)))
        curve_images = self.bicubic(evenly_spaced(test, CURVE_IMAGES))
        networks: dict[str, Any] = {}
        records = self.finished(chosen)
        for name, choice in chosen.items():
            network, found = NETWORKS[name], records[name]
            setting = recipe(self.whole(name, choice, 0), self.settings)
            facts = {"variant": choice.variant, "lr": choice.lr, "batch": setting.batch, "loss": setting.loss}
            facts |= {"crop": setting.crop, "weight_decay": setting.weight_decay, "optimizer": setting.optimizer}
            networks[name] = entry(network.title, found, all_images) | facts
            networks[name] |= {"curve": curve(found, curve_images), "tried": choice.tried}
            for kind, words in BESIDE.items():
                if all(f"test_{kind}" in record for record in found):  # ours is consistent already
                    title = f"{network.title}, {words}"
                    networks[f"{name}-{kind}"] = entry(title, found, all_images, f"test_{kind}") | facts
        return {
            "data": {"celeba": "CelebA", "faces": "the built-in faces"}[data.name],
            "images": {part: len(packed) for part, packed in self.parts.items()},
            "minutes": self.minutes,
            "choice_minutes": self.minutes * CHOICE,
            "level": LEVEL,
            "turn": TURN,
            "curve_images": min(CURVE_IMAGES, len(test)),
            "precision": str(self.compute.dtype).removeprefix("torch."),
            "bicubic": all_images,
            "networks": networks,
            "protocol": [{name: PROTOCOL[name] for name in ("average", "pixels", *SHOWN)}],
        } | ({"gpu": torch.cuda.get_device_name()} if self.compute.device.type == "cuda" else {})

    def bicubic(self, rows: np.ndarray) -> dict[str, float]:
        """What interpolation scores on these test images."""
        scale, test = self.settings.data.scale, self.parts["test"]
        tables = scores(
            lambda lr: {"own": upsample(lr, scale, "bicubic")}, test, rows, self.settings, self.compute, precise=True
        )
        return means_of(tables["own"])


def beyond(scores: Scores, key: tuple[str, float]) -> float | None:
    """The next learning rate where that of the key is the lowest or the highest of all; None where it lies within."""
    rates, lr = [lr for _, lr in scores], key[1]
    return lr / 2 if lr == min(rates) else lr * 2 if lr == max(rates) else None


def best(scores: dict[Any, float | None]) -> Any:
    """The key of the highest score; None is lower than any."""
    return max(scores, key=lambda key: -math.inf if scores[key] is None else scores[key])  # type: ignore[arg-type, return-value]


def validated(record: dict[str, Any]) -> float | None:
    """PSNR in dB on validation images at the end; None where the training diverged."""
    return None if record["diverged"] else record["points"][-1]["val"]["psnr"]
