"""Validation chooses, networks are trained side by side, nothing is trained twice."""

import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import contest, records
from benchmarks.contest import Choice, Contest
from benchmarks.networks import NETWORKS, Network, SmallEDSR, Variant
from benchmarks.timed_training import Trial, recipe, scores
from vitpipe.config import Settings
from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError
from vitpipe.models.supersampler import upsample
from vitpipe.tasks import supersample

TINY = Variant(lambda settings: SmallEDSR(width=4, blocks=1, scale=settings.data.scale))
LATE = Variant(TINY.build, {"ema": 0.5})


class Trainer:
    """Stands for the training: scores follow from the learning rate, on test the other way round.

    `trials` are those trained, in turns as often as they had one. The variant `LATE` is `behind` by so many dB after
    short trainings, and half a dB ahead after whole ones.
    """

    def __init__(self, best: float) -> None:
        self.best, self.short, self.slope, self.behind, self.trials = best, best, 1.0, 1.0, []

    def __call__(self, trial: Trial, *rest: Any) -> tuple[dict[str, Any], nn.Module]:
        self.trials.append(trial)
        return self.result(trial)

    def turns(self, trial: Trial, *rest: Any) -> Generator[None, None, tuple[dict[str, Any], nn.Module]]:
        for _ in range(3):
            self.trials.append(trial)
            yield
        return self.result(trial)

    def result(self, trial: Trial) -> tuple[dict[str, Any], nn.Module]:
        best, slope = (self.short, self.slope) if trial.points == 1 else (self.best, 1.0)
        distance = slope * abs(np.log2(trial.lr / best))
        if "ema" in trial.variant.train:  # LATE
            distance += self.behind if trial.points == 1 else -0.5
        score = {"ssim": 0.5, "mse": 0.01}
        point = {"seconds": 1.0, "images": 8, "val": {"psnr": 30 - distance} | score}
        point["test"] = {"psnr": 30 + distance} | score
        record = {"parameters": 1, "steps": 1, "images": 8, "seconds": 1.0, "diverged": trial.lr > 0.03}
        return record | {"points": [] if record["diverged"] else [point]}, nn.Identity()


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Trainer]:
    def make(best: float) -> Trainer:
        made = Trainer(best)
        monkeypatch.setattr(contest, "train", made)
        monkeypatch.setattr(contest, "turns", made.turns)
        monkeypatch.setattr(
            contest, "NETWORKS", {"tiny": Network("tiny", {"a": TINY, "b": LATE}, 4e-3, whole={"batch": 12, "crop": 2})}
        )
        monkeypatch.setattr(contest, "scores", lambda *rest, **more: {"test": None})
        monkeypatch.setattr(contest, "means_of", lambda table: {"psnr": 30.0, "ssim": 0.5, "mse": 0.01})
        return made

    return make


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (4e-3, [2e-3, 4e-3, 8e-3]),
        (1e-3, [5e-4, 1e-3, 2e-3, 4e-3, 8e-3]),
        (16e-3, [2e-3, 4e-3, 8e-3, 16e-3, 32e-3]),  # the last one diverges
    ],
)
def test_validation_alone_chooses_the_learning_rate(
    best: float,
    tried: list[float],
    trainer: Callable[[float], Trainer],
    settings: Callable[..., Settings],
    parts: dict[str, PackedDataset],
    tmp_path: Path,
) -> None:
    made = trainer(best)
    choice = Contest(settings(), parts, 10.0, tmp_path).choose("tiny")
    assert choice.lr == best
    assert [row["lr"] for row in choice.tried if row["variant"] == choice.variant] == tried
    assert {trial.points for trial in made.trials} == {1}
    assert {(trial.seconds, len(trial.variant.train)) for trial in made.trials if trial.variant is not LATE} == {
        (120, 0)
    }


def test_rates_that_are_level_are_compared_after_whole_trainings(
    trainer: Callable[[float], Trainer],
    settings: Callable[..., Settings],
    parts: dict[str, PackedDataset],
    tmp_path: Path,
) -> None:
    made = trainer(2e-3)
    made.short, made.slope = 4e-3, 0.03  # its neighbours are 0.03 dB below, those beyond 0.06 dB
    contest = Contest(settings(), parts, 10.0, tmp_path)
    choice = contest.choose("tiny")
    whole = [(trial.lr, trial.seed, trial.seconds) for trial in made.trials if trial.points > 1]
    assert (choice.variant, choice.lr) == ("a", 2e-3)
    assert sorted(whole) == [(lr, 0, 600.0) for lr in (1e-3, 2e-3, 4e-3, 8e-3)], "and on beyond the best of these"
    assert [row["whole_val_psnr"] for row in choice.tried if row["variant"] == "a"] == [29.0, 30.0, 29.0, 28.0]
    assert ["val_psnr" in row for row in choice.tried if row["variant"] == "a"] == [False, True, True, True]


def test_variants_that_are_level_are_compared_after_whole_trainings(
    trainer: Callable[[float], Trainer], settings: Callable[..., Settings], parts: dict[str, PackedDataset], tmp_path: Path
) -> None:
    made = trainer(4e-3)
    made.behind = 0.04
    choice = Contest(settings(), parts, 10.0, tmp_path).choose("tiny")
    assert (choice.variant, choice.lr) == ("b", 4e-3)
    whole = {(row["variant"], row["lr"]): row["whole_val_psnr"] for row in choice.tried if "whole_val_psnr" in row}
    assert whole == {("a", 4e-3): 30.0, ("b", 4e-3): 30.5}
    assert len([trial for trial in made.trials if trial.points > 1]) == 2
    assert not any(trial.tested for trial in made.trials), "what only serves to choose never sees test"


def test_the_better_variant_is_chosen(
    trainer: Callable[[float], Trainer],
    settings: Callable[..., Settings],
    parts: dict[str, PackedDataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer(4e-3)
    values = {"a": 29.0, "b": 29.5}
    monkeypatch.setattr(Contest, "tried", lambda self, name, variant, lr: values[variant] - abs(np.log2(lr / 4e-3)))
    choice = Contest(settings(), parts, 10.0, tmp_path).choose("tiny")
    assert (choice.variant, choice.lr) == ("b", 4e-3)


def test_finished_trainings_are_not_done_again(
    trainer: Callable[[float], Trainer],
    settings: Callable[..., Settings],
    parts: dict[str, PackedDataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = trainer(4e-3)
    choice = Choice("a", 4e-3, [])
    first = Contest(settings(), parts, 10.0, tmp_path)
    record = first.record("tiny", choice, 0)
    again = Contest(settings(), parts, 10.0, tmp_path)
    assert again.record("tiny", choice, 0) == record
    assert len(made.trials) == 1
    Contest(settings(), parts, 5.0, tmp_path).record("tiny", choice, 0)
    Contest(settings(**{"train.ema": 0.5}), parts, 10.0, tmp_path).record("tiny", choice, 0)
    assert len(made.trials) == 3, "another length or another recipe is another training"
    for constant, value, new in (
        (None, None, {"mse", "spectral"}),
        ("CHARBONNIER", 0.5, {"charbonnier", "spectral"}),
        ("SPECTRUM_WEIGHT", 0.5, {"spectral"}),
    ):
        if constant:
            monkeypatch.setattr(supersample, constant, value)
        for loss in ("mse", "charbonnier", "spectral"):
            before = len(made.trials)
            Contest(settings(**{"train.loss": loss}), parts, 10.0, tmp_path).record("tiny", choice, 0)
            assert (len(made.trials) > before) == (loss in new), "another constant of a loss is another training"
    before = len(made.trials)
    monkeypatch.setattr(records, "source", lambda place: {"data/augment.py": "changed"}.get(place, ""))
    Contest(settings(**{"train.loss": "mse"}), parts, 10.0, tmp_path).record("tiny", choice, 0)
    assert len(made.trials) == before + 1, "other code of the shifts is another training"
    own = [trial.variant.train for trial in made.trials]
    assert own == [{"batch": 12, "crop": 2}] * len(own), "whole trainings may have settings of their own"


def test_all_networks_are_trained_in_turns(
    trainer: Callable[[float], Trainer],
    settings: Callable[..., Settings],
    parts: dict[str, PackedDataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = trainer(4e-3)
    monkeypatch.setitem(contest.NETWORKS, "other", Network("other", {"a": TINY}, 4e-3))
    chosen = {name: Choice("a", 4e-3, []) for name in ("tiny", "other")}
    first = Contest(settings(), parts, 10.0, tmp_path)
    first.finals(chosen, 0)
    assert [(trial.network.title, trial.seed) for trial in made.trials] == [("tiny", 0), ("other", 0)] * 3
    assert all(trial.tested for trial in made.trials)
    assert all("test" in json.loads(path.read_text()) for path in first.final_paths(chosen, 0).values())
    assert "test" not in first.record("tiny", chosen["tiny"], 0)
    again = Contest(settings(), parts, 10.0, tmp_path)
    again.finals(chosen, 0)
    assert len(made.trials) == 7, "finished ones are not done again"
    again.finals(chosen, 2)
    assert len(made.trials) == 13
    again.final_paths(chosen, 2)["other"].unlink()
    again.finals(chosen, 2)
    assert len(made.trials) == 19, "none is trained without the others"
    found = again.finished(chosen)
    assert {name: [record["seed"] for record in records] for name, records in found.items()} == {
        "tiny": [0, 2],
        "other": [0, 2],
    }
    alone = {"tiny": chosen["tiny"]}
    assert again.finished(alone) == {"tiny": []}, "beside others is another comparison"
    again.finals(alone, 0)
    assert len(made.trials) == 22
    again.finals(chosen | {"other": Choice("a", 2e-3, [])}, 0)
    assert len(made.trials) == 28, "beside another form of the other, too"


def test_what_is_scored_of_a_network(
    settings: Callable[..., Settings], parts: dict[str, PackedDataset], tmp_path: Path
) -> None:
    ramp = torch.linspace(-0.3, 0.3, 24)  # the same error mirrored is its opposite

    def model(lr: Tensor) -> Tensor:
        return upsample(lr, 2, "bicubic") + ramp

    made = Contest(settings(), parts, 10.0, tmp_path)
    test = parts["test"]
    rest = (test, np.arange(len(test)), made.settings, made.compute)
    found = scores(made.predictions("other", model), *rest, precise=True)
    error = {name: table["mse"].mean() for name, table in found.items()}
    bicubic = made.bicubic(np.arange(len(test)))["mse"]
    assert list(error) == ["test", "test_mirrored", "test_consistent"]
    assert error["test"] > bicubic + 0.01
    assert error["test_mirrored"] == pytest.approx(bicubic, abs=1e-4)
    assert error["test_consistent"] < error["test"] / 5, "a ramp is what consistency takes away"
    assert list(made.predictions("ours", model)(torch.zeros(1, 3, 12, 12))) == ["test", "test_mirrored"]


def test_another_model_of_the_recipe_is_another_training(
    settings: Callable[..., Settings], parts: dict[str, PackedDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Contest(settings(), parts, 10.0, tmp_path)

    def paths() -> list[Path]:
        return [
            made.records.path(name, made.whole(name, Choice(variant, 1e-3, []), 0))
            for name, variant in (("ours", "patch 6"), ("edsr-small", "32 channels, 12 blocks"))
        ]

    before = paths()
    monkeypatch.setitem(records.RECIPE, "model", {**records.RECIPE["model"], "skip": "nearest"})  # not told by str
    after = paths()
    assert (before[0] == after[0], before[1] == after[1]) == (False, True), "which is nothing to the other networks"


def test_what_decides_how_a_training_ends_is_in_its_name(
    settings: Callable[..., Settings], parts: dict[str, PackedDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def paths(images: dict[str, PackedDataset] = parts, **changes: Any) -> list[Path]:
        """Of ours, of the small EDSR, and of that with Muon."""
        made = Contest(settings(**changes), images, 10.0, tmp_path)
        muon = Contest(settings(**changes | {"train.optimizer": "muon"}), images, 10.0, tmp_path)
        small = Choice("32 channels, 12 blocks", 1e-3, [])
        trials = [(made, "ours", Choice("patch 6", 1e-3, [])), (made, "edsr-small", small), (muon, "edsr-small", small)]
        return [one.records.path(name, one.whole(name, choice, 0)) for one, name, choice in trials]

    def changed(*made: Any, **more: Any) -> list[bool]:
        return [one != other for one, other in zip(paths(*made, **more), before, strict=True)]

    before, source = paths(), records.source
    for place, expected in (("training/optimizers.py", [False, False, True]), ("nn", [True, False, False])):
        with monkeypatch.context() as patch:
            patch.setattr(records, "source", lambda asked, own=place: "" if asked == own else source(asked))
            assert changed() == expected, f"other code in {place}"
    assert changed(**{"model.position": "sincos"}) == [True, False, False], "the network as text tells no positions"
    for part in parts:
        other = next(packed for name, packed in parts.items() if name != part)
        assert all(changed(parts | {part: other})), f"other images in {part}"
    monkeypatch.setattr(records, "processor", lambda: "another")
    assert all(changed())


def test_a_variant_keeps_its_own_settings_in_whole_trainings(
    settings: Callable[..., Settings], parts: dict[str, PackedDataset], tmp_path: Path
) -> None:
    made = settings()
    whole = Contest(made, parts, 10.0, tmp_path).whole("edsr-small", Choice("48 channels, 6 blocks, Adam", 1e-3, []), 0)
    own = recipe(whole, made)
    assert (own.optimizer, own.weight_decay, own.batch, own.crop) == ("adamw", 0.0, 12, 4), "Adam stays Adam"


@pytest.mark.parametrize(
    ("name", "loss"),
    [("edsr", "l1"), ("swinir", "l1"), ("rcan", "l1"), ("original", "mse"), ("original-strided", "mse")],
)
def test_published_networks_have_their_loss_and_adam(
    name: str, loss: str, settings: Callable[..., Settings], parts: dict[str, PackedDataset], tmp_path: Path
) -> None:
    made = settings(**{"train.optimizer": "muon", "train.weight_decay": 0.1})
    whole = Contest(made, parts, 10.0, tmp_path).whole
    own = {key: recipe(whole(name, Choice(key, 1e-3, []), 0), made) for key in NETWORKS[name].variants}
    assert {setting.loss for setting in own.values()} == {loss}
    own.pop("our optimiser", None)
    assert {(setting.optimizer, setting.weight_decay) for setting in own.values()} == {("adamw", 0.0)}


def test_a_diverged_whole_training_is_told(
    trainer: Callable[[float], Trainer], settings: Callable[..., Settings], parts: dict[str, PackedDataset], tmp_path: Path
) -> None:
    trainer(4e-3)
    with pytest.raises(InputError, match="tiny diverged with seed 0"):
        Contest(settings(), parts, 10.0, tmp_path).finals({"tiny": Choice("a", 0.05, [])}, 0)
    assert not list(tmp_path.glob("*.json"))


def test_gains_are_over_bicubic_on_the_same_images(
    trainer: Callable[[float], Trainer],
    settings: Callable[..., Settings],
    parts: dict[str, PackedDataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer(4e-3)  # all scores are 30 dB
    monkeypatch.setattr(contest, "CURVE_IMAGES", 5)
    monkeypatch.setattr(Contest, "bicubic", lambda self, rows: {"psnr": float(len(rows)), "ssim": 0.5, "mse": 0.01})
    own, chosen = settings(), {"tiny": Choice("a", 4e-3, [])}
    made = Contest(own, parts, 10.0, tmp_path)
    made.finals(chosen, 0)
    found = made.summary(own.data.model_copy(update={"name": "faces"}), chosen)
    tiny = found["networks"]["tiny"]
    assert (found["bicubic"]["psnr"], tiny["gain"]["psnr"]["mean"]) == (12, 30 - 12), "all test images"
    assert [point["psnr"] for point in tiny["curve"]] == [30 - 5], "those of the curve"
