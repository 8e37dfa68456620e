"""A training ends when its time is over, which scoring does not use up."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.networks import Network, SmallEDSR, Variant
from benchmarks.timed_training import Trial, recipe, scores, train, turns
from vitpipe.config import Settings
from vitpipe.data.dataset import PackedDataset
from vitpipe.training.compute import Compute
from vitpipe.models.supersampler import upsample

CPU = Compute(torch.device("cpu"), torch.float32)
TINY = Variant(lambda settings: SmallEDSR(width=4, blocks=1, scale=settings.data.scale))


class Clock:
    """A time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


class Slow(nn.Module):
    """Takes 3 seconds a training step and 100 to be scored."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = [clock]
        self.weight = nn.Parameter(torch.zeros(1))

    def __deepcopy__(self, memo: dict) -> "Slow":
        return Slow(self.clock[0])

    def forward(self, lr: Tensor) -> Tensor:
        self.clock[0].now += 3 if self.training else 100
        return upsample(lr, 2, "bicubic") + self.weight


def bicubic(lr: Tensor) -> dict[str, Tensor]:
    return {"bicubic": upsample(lr, 2, "bicubic")}


def test_a_training_has_the_networks_and_the_variants_settings(settings: Callable[..., Settings]) -> None:
    own = settings(**{"train.batch": 4, "train.clip": 0.5})
    variant = Variant(TINY.build, {"batch": 6, "loss": "mse"})
    made = recipe(Trial(Network("it", {}, train={"loss": "l1", "ema": 0.5}), variant, 3e-3, 0, 1.0, 1), own)
    assert (made.batch, made.loss, made.ema, made.clip, made.lr) == (6, "mse", 0.5, 0.5, 3e-3)
    with pytest.raises(ValueError, match="weigth_decay"):
        recipe(Trial(Network("it", {}, train={"weigth_decay": 0.1}), TINY, 3e-3, 0, 1.0, 1), own)


def slow(clock: Clock, seconds: float, points: int) -> Trial:
    variant = Variant(lambda settings: Slow(clock))
    return Trial(Network("slow", {"it": variant}, channels_last=False), variant, 1e-3, 0, seconds, points)


@pytest.mark.parametrize(("seconds", "steps"), [(9, 3), (10, 3), (11.9, 3), (12, 4)])
def test_no_step_ends_after_the_time(
    seconds: float, steps: int, settings: Callable[..., Settings], parts: dict[str, PackedDataset]
) -> None:
    clock = Clock()
    record, _ = train(slow(clock, seconds, 1), settings(), parts, CPU, "slow", clock)
    assert (record["steps"], record["images"], record["seconds"]) == (steps, 8 * steps, 3 * steps)


def test_scoring_takes_no_time_from_training(settings: Callable[..., Settings], parts: dict[str, PackedDataset]) -> None:
    clock = Clock()
    trial = replace(slow(clock, 30, 3), tested=True)
    record, _ = train(trial, settings(), parts, CPU, "slow", clock)
    assert record["steps"] == 10
    assert [point["seconds"] for point in record["points"]] == [12, 21, 30]
    assert all(set(point) == {"seconds", "images", "val", "test"} for point in record["points"])


def test_what_only_serves_to_choose_never_sees_test(
    settings: Callable[..., Settings], parts: dict[str, PackedDataset]
) -> None:
    clock = Clock()
    del parts["test"]
    record, _ = train(slow(clock, 9, 2), settings(), parts, CPU, "slow", clock)
    assert [set(point) for point in record["points"]] == [{"seconds", "images", "val"}] * 2


def test_trainings_in_turns_are_those_without_a_break(
    settings: Callable[..., Settings], parts: dict[str, PackedDataset]
) -> None:
    own = settings(**{"train.crop": 1})

    def trainings(train: Callable[..., Any]) -> list[Any]:
        clocks = Clock(), Clock()
        return [
            train(replace(slow(clock, 300, 2), seed=seed), own, parts, CPU, "slow", clock)
            for seed, clock in enumerate(clocks)
        ]

    alone, going, ended, took = trainings(train), trainings(turns), [], 0
    while going:
        for training in list(going):
            took += 1
            try:
                next(training)
            except StopIteration as end:
                ended.append(end.value)
                going.remove(training)
    assert took > 40
    assert alone[0][1].weight != alone[1][1].weight
    for (record, model), (expected, other) in zip(ended, alone, strict=True):
        assert record == expected
        assert torch.equal(model.weight, other.weight)


def test_the_time_between_turns_does_not_count(settings: Callable[..., Settings], parts: dict[str, PackedDataset]) -> None:
    clock = Clock()
    training = turns(slow(clock, 30, 1), settings(), parts, CPU, "slow", clock)
    for _ in range(2):  # after 12 and 24 seconds
        next(training)
        clock.now += 1000
    with pytest.raises(StopIteration) as end:
        next(training)
    assert end.value.value[0]["steps"] == 10


def test_learning_rate_follows_the_time(
    settings: Callable[..., Settings], parts: dict[str, PackedDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self: (seen.append(self.param_groups[0]["lr"]), step(self))[1]
    )
    clock = Clock()
    train(slow(clock, 300, 1), settings(), parts, CPU, "slow", clock)
    assert len(seen) == 100
    assert max(seen) == seen[5] == pytest.approx(1e-3, rel=1e-2), "after a warm-up of 5 % of the time"
    assert seen[50] == pytest.approx(0.5e-3, rel=0.1)
    assert seen[-1] < 1e-5


def test_training_helps(settings: Callable[..., Settings], parts: dict[str, PackedDataset]) -> None:
    trial = Trial(Network("tiny", {"it": TINY}), TINY, 5e-3, 0, 100, 2, tested=True)
    record, _ = train(trial, settings(), parts, CPU, "tiny", itertools.count().__next__)  # a step a second
    test = parts["test"]
    found = scores(bicubic, test, np.arange(len(test)), settings(), CPU, precise=True)["bicubic"]
    assert record["points"][-1]["test"]["psnr"] > found["psnr"].mean() + 0.1


def test_a_loss_that_is_not_finite_ends_it(settings: Callable[..., Settings], parts: dict[str, PackedDataset]) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(float("nan")))

        def forward(self, lr: Tensor) -> Tensor:
            return upsample(lr, 2, "bicubic") + self.weight

    variant = Variant(lambda settings: Broken())
    record, _ = train(Trial(Network("broken", {"it": variant}), variant, 1e-3, 0, 60, 1), settings(), parts, CPU, "x")
    assert record["diverged"]
    assert record["points"] == []
