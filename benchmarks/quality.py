"""Quality at equal time: our super-sampler beside other networks, each given the same minutes of training.

All learn from the same images in the same order. Validation chooses variant and learning rate of each network in
short trainings; test is only written down. Every finished training is stored at once, so a run that was stopped
goes on with those that are missing.
"""

import ast
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vitpipe
from benchmarks.networks import NETWORKS
from benchmarks.quality_summary import curve, entry
from benchmarks.timed_training import CURVE_IMAGES, SHOWN, Trial, means_of, recipe, scores, train
from vitpipe.config import Data, Settings
from vitpipe.data.batches import Packed, spread
from vitpipe.errors import InputError
from vitpipe.files import atomic_folder, write_json
from vitpipe.metrics.image_quality import PROTOCOL
from vitpipe.nn.compute import Compute, choose
from vitpipe.nn.supersampler import upsample

SCRATCH = Path(".bench/quality")
POINTS = 8  # of a curve
CHOICE = 0.2  # share of the minutes that a training gets which only serves to choose
FARTHEST = 3  # how often a learning rate at the end of its grid makes the grid longer
QUICK_MINUTES, QUICK_SEEDS, QUICK_COUNT, QUICK_NETWORKS = 0.05, (0,), 200, ("ours", "edsr-small")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


def run(
    settings: Settings,
    *,
    root: Path | None = None,
    count: int | None = None,
    minutes: float = 10.0,
    seeds: Sequence[int] = (0, 1, 2),
    networks: Sequence[str] = (),
    quick: bool = False,
    scratch: Path = SCRATCH,
) -> dict[str, Any]:
    """The content of the section: how every network scored, and the curves.

    Args:
        settings: of our super-sampler; the other networks get theirs of the training, too.
        root: folder of CelebA; None is the built-in faces.
        count: at most so many images; None is all.
        minutes: that each network is trained with each seed.
        networks: names of `NETWORKS`; none is all of them.
        quick: two networks on few images for seconds: shows that it works and nothing else.
        scratch: folder of packed images and finished trainings.

    Raises:
        InputError: an unknown network, or settings that are not for super-sampling by 4 of inputs 48 pixels wide.
    """
    check(settings, networks)
    if quick:
        minutes, seeds, count, networks = QUICK_MINUTES, QUICK_SEEDS, QUICK_COUNT, networks or QUICK_NETWORKS
    networks = networks or tuple(NETWORKS)
    data = data_of(settings, root, count)
    contest = Contest(settings, prepare(data, settings.seed, scratch), minutes, scratch)
    chosen = {name: contest.choose(name) for name in networks}
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in networks}
    for seed in seeds:  # networks take turns, so that what slows the machine for a while slows them all
        for name in networks:
            records[name].append(contest.final(name, chosen[name], seed))
    return contest.summary(data, seeds, chosen, records)


def check(settings: Settings, networks: Sequence[str]) -> None:
    unknown = [name for name in networks if name not in NETWORKS]
    if unknown:
        raise InputError(f"no network is called {', '.join(unknown)}: there are {', '.join(NETWORKS)}")
    data = settings.data
    if (settings.task.name, data.input_size, data.scale) != ("supersample", 48, 4):
        raise InputError(
            "the quality benchmark needs task.name supersample, data.size 192 and data.scale 4 in params.yaml, "
            f"which has {settings.task.name}, {data.size} and {data.scale}"
        )


def data_of(settings: Settings, root: Path | None, count: int | None) -> Data:
    """Which images: CelebA with no person in two parts, or the built-in faces likewise."""
    name = "celeba" if root else "faces"
    own = {"name": name, "root": str(root) if root else None, "count": count, "split": "identity"}
    return settings.data.model_copy(update=own)


def prepare(data: Data, seed: int, scratch: Path) -> dict[str, Packed]:
    """The packed parts, made as the pipeline's stages make them, once for each choice of data."""
    from vitpipe.data.packing import pack
    from vitpipe.data.sources import source
    from vitpipe.data.split import split

    key = digest(data.model_dump(), seed)
    packed = scratch / f"packed-{key}"
    if not packed.exists():
        origin = source(data.name)
        with atomic_folder(scratch / f"raw-{key}") as raw, atomic_folder(packed) as folder:
            origin.fetch(data, seed, raw)
            pack(split(origin.samples(raw), data, seed), origin.open_images(raw), data, folder)
    return {part: Packed(packed / part) for part in ("train", "val", "test")}


@dataclass(frozen=True)
class Choice:
    """Variant and learning rate that validation chose, and what it had to choose from."""

    variant: str
    lr: float
    tried: list[dict[str, Any]]


class Contest:
    """The trainings on one data set with one length; those in `scratch` are not done again."""

    def __init__(self, settings: Settings, parts: dict[str, Packed], minutes: float, scratch: Path) -> None:
        self.settings, self.parts, self.minutes, self.scratch = settings, parts, minutes, scratch
        self.compute: Compute = choose(settings.train)

    def choose(self, name: str) -> Choice:
        """The network's variant at its first learning rate, then its learning rate, by PSNR on validation images.

        Rates go by factors of two, and on beyond the one that is best until that is between two worse ones.
        """
        network = NETWORKS[name]
        lr = network.lr or self.settings.train.lr
        tried = {(variant, lr): self.tried(name, variant, lr) for variant in network.variants}
        variant, _ = best(tried)
        own = {lr: tried[variant, lr]}
        for factor in (0.5, 2.0):
            own[lr * factor] = self.tried(name, variant, lr * factor)
        for _ in range(FARTHEST):
            lr = best(own)
            if lr not in (min(own), max(own)):
                break
            beyond = lr / 2 if lr == min(own) else lr * 2
            own[beyond] = self.tried(name, variant, beyond)
        tried |= {(variant, lr): score for lr, score in own.items()}
        rows = [{"variant": key[0], "lr": key[1], "val_psnr": score} for key, score in sorted(tried.items())]
        return Choice(variant, best(own), rows)

    def tried(self, name: str, variant: str, lr: float) -> float | None:
        """PSNR in dB on validation images after a short training; None where it diverged."""
        network = NETWORKS[name]
        trial = Trial(network, network.variants[variant], lr, 0, self.minutes * 60 * CHOICE, 1)
        record = self.stored(name, variant, trial)
        return None if record["diverged"] else record["points"][-1]["val"]["psnr"]

    def final(self, name: str, choice: Choice, seed: int) -> dict[str, Any]:
        """The whole training with one seed, scored on test on the way and at its end."""
        network = NETWORKS[name]
        trial = Trial(network, network.variants[choice.variant], choice.lr, seed, self.minutes * 60, POINTS)
        record = self.stored(name, choice.variant, trial)
        if record["diverged"]:
            raise InputError(f"{network.title} diverged with seed {seed} and learning rate {choice.lr:g}")
        return record

    def stored(self, name: str, variant: str, trial: Trial) -> dict[str, Any]:
        """The record of the trial: from its file, or trained now and written there."""
        path = self.scratch / f"{name}-{self.key(name, variant, trial)}.json"
        if path.exists():
            return json.loads(path.read_text())
        title = f"{trial.network.title}, {variant}, lr {trial.lr:g}, seed {trial.seed}"
        record, model = train(trial, self.settings, self.parts, self.compute, title)
        if trial.points > 1 and not record["diverged"]:
            test = self.parts["test"]
            rows = np.arange(len(test))
            table = scores(model, test, rows, self.settings, self.compute, precise=True)
            record["test"] = means_of(table)
            if name == "ours":
                mirrored = scores(model, test, rows, self.settings, self.compute, precise=True, mirrored=True)
                record["test_mirrored"] = means_of(mirrored)
        write_json(path, {"network": name, "variant": variant, "lr": trial.lr, "seed": trial.seed} | record)
        return json.loads(path.read_text())

    def key(self, name: str, variant: str, trial: Trial) -> str:
        """Of what decides how the trial ends: the network, its training, the images and the machine."""
        network = [name, variant, str(trial.variant.build(self.settings))]
        if name == "ours":
            network += [source_of_ours(), self.settings.model.model_dump_json()]
        machine = [torch.__version__, str(torch.get_num_threads()), str(self.compute)]
        return digest(
            network,
            recipe(trial, self.settings).model_dump(),
            [trial.seed, trial.seconds, trial.points, trial.network.channels_last],
            [self.parts[part].digest for part in ("train", "val", "test")],
            machine,
        )

    def summary(
        self, data: Data, seeds: Sequence[int], chosen: dict[str, Choice], records: dict[str, list[dict[str, Any]]]
    ) -> dict[str, Any]:
        """The content of the section."""
        test = self.parts["test"]
        all_images = self.bicubic(np.arange(len(test)))
        curve_images = self.bicubic(spread(test, CURVE_IMAGES))
        networks: dict[str, Any] = {}
        for name, found in records.items():
            network, choice = NETWORKS[name], chosen[name]
            setting = recipe(Trial(network, network.variants[choice.variant], choice.lr, 0, 0.0, 1), self.settings)
            facts = {"variant": choice.variant, "lr": choice.lr, "batch": setting.batch, "loss": setting.loss}
            networks[name] = entry(network.title, found, all_images) | facts
            networks[name] |= {"curve": curve(found, curve_images), "tried": choice.tried}
            if name == "ours":
                title = f"{network.title}, mean with the mirrored prediction"
                networks["ours-mirrored"] = entry(title, found, all_images, "test_mirrored") | facts
        return {
            "data": {"celeba": "CelebA", "faces": "the built-in faces"}[data.name],
            "images": {part: len(packed) for part, packed in self.parts.items()},
            "minutes": self.minutes,
            "choice_minutes": self.minutes * CHOICE,
            "curve_images": min(CURVE_IMAGES, len(test)),
            "precision": str(self.compute.dtype).removeprefix("torch."),
            "seeds": list(seeds),
            "bicubic": all_images,
            "networks": networks,
            "protocol": [{name: PROTOCOL[name] for name in ("average", "pixels", *SHOWN)}],
        }

    def bicubic(self, rows: np.ndarray) -> dict[str, float]:
        """What interpolation scores on these test images."""
        enlarge = partial(upsample, scale=self.settings.data.scale, method="bicubic")
        return means_of(scores(enlarge, self.parts["test"], rows, self.settings, self.compute, precise=True))


def best(scores: dict[Any, float | None]) -> Any:
    """The key of the highest score; None is lower than any."""
    return max(scores, key=lambda key: -math.inf if scores[key] is None else scores[key])  # type: ignore[arg-type, return-value]


def digest(*content: Any) -> str:
    return hashlib.blake2b(json.dumps(content, default=str).encode(), digest_size=8).hexdigest()


def source_of_ours() -> str:
    """The code of our networks, without comments and docstrings."""
    trees = [ast.parse(path.read_text()) for path in sorted((Path(vitpipe.__file__).parent / "nn").glob("*.py"))]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return "".join(ast.dump(tree) for tree in trees)
