"""On a CUDA device: recorded steps, images in its memory, the same bits every time."""

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from vitpipe.config import Settings
from vitpipe.data.batches import shuffled
from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError
from vitpipe.training.compute import choose
from vitpipe.tasks import classify, supersample
from vitpipe.training.loop import Training
from vitpipe.training.replay import EAGER, Replayed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

MIXED = {"task.name": "classify", "task.target": "odd", "data.scale": 1, "train.mix": "both", "train.crop": 2}
CASES = [
    (
        supersample,
        {
            "train.optimizer": "muon",
            "train.crop": 2,
            "train.loss": "spectral",
            "model.mirrored": True,
            "model.consistent": True,
        },
    ),
    (supersample, {"train.optimizer": "sgd", "train.lr": 0.01}),
    (supersample, {"train.precision": "float32"}),
    (classify, MIXED),
]


def training(task: ModuleType, folder: Path, settings: Settings) -> Training:
    parts = (PackedDataset(folder / part, settings.target) for part in ("train", "val"))
    return Training(task, settings, *parts, choose(settings.train.model_copy(update={"device": "cuda"})))


def steps(run: Training, count: int = 4 * EAGER) -> list[torch.Tensor]:
    """The weights after so many steps."""
    epoch = 0
    while True:
        for batch in shuffled(run.train, run.settings.train.batch, run.compute.device, seed=0, epoch=epoch, flip=True):
            if run.batch == count:
                return [weight.detach().clone() for weight in [*run.weights, *run.averages]]
            run.learn(batch)
        epoch += 1


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("task", "changes"), CASES)
def test_recorded_steps_give_the_same_bits_as_others_and_again(
    packed: Path, labelled: Path, settings: Callable[..., Settings], task: ModuleType, changes: dict
) -> None:
    folder = labelled if task is classify else packed
    runs = [training(task, folder, settings(**changes)) for _ in range(3)]
    runs[0].halves = (runs[0].gradients, runs[0].descend)
    before = [weight.clone() for weight in runs[0].weights]
    weights = [steps(run) for run in runs]
    assert all(isinstance(half, Replayed) for half in runs[1].halves)
    assert not equal(before, weights[0][: len(before)])
    assert equal(weights[0], weights[1])
    assert equal(weights[1], weights[2])


@pytest.mark.parametrize(("task", "changes"), CASES)
def test_a_run_that_goes_on_ends_the_same(
    packed: Path, labelled: Path, settings: Callable[..., Settings], task: ModuleType, changes: dict, tmp_path: Path
) -> None:
    folder = labelled if task is classify else packed
    whole, first, second = (training(task, folder, settings(**changes)) for _ in range(3))
    batches = list(shuffled(whole.train, 2, whole.compute.device, seed=0, epoch=0, flip=True))
    for batch in batches[:10]:
        whole.learn(batch)
    for batch in batches[:5]:
        first.learn(batch)
    torch.save(first.state(), tmp_path / "state.pt")
    second.restore(torch.load(tmp_path / "state.pt", map_location="cpu", weights_only=True))
    for batch in batches[5:10]:
        second.learn(batch)
    assert equal(whole.weights, second.weights)
    assert equal(whole.averages, second.averages)


@pytest.mark.parametrize("task", [supersample, classify])
def test_a_recorded_step_follows_the_rate_and_the_values(
    packed: Path, labelled: Path, settings: Callable[..., Settings], task: ModuleType
) -> None:
    run = training(task, labelled if task is classify else packed, settings(**(MIXED if task is classify else {})))
    steps(run, EAGER + 3)
    batch = next(iter(shuffled(run.train, run.settings.train.batch, run.compute.device, seed=1, epoch=0, flip=False)))
    lengths = []
    for rate in (0.0, 1e-3, 2e-3):
        before = [weight.detach().clone() for weight in run.weights]
        run.learn(batch, rate)
        lengths.append(sum(float((a - b.detach()).abs().sum()) for a, b in zip(before, run.weights, strict=True)))
    assert lengths[0] == 0
    assert 1.5 < lengths[2] / lengths[1] < 2.5


def test_a_loss_that_is_not_finite_stops_it(packed: Path, settings: Callable[..., Settings]) -> None:
    run = training(supersample, packed, settings(**{"train.optimizer": "sgd"}))
    steps(run, EAGER + 2)
    with torch.no_grad():
        run.weights[0].fill_(math.nan)
    good = [weight.clone() for weight in run.weights[1:]]
    with pytest.raises(InputError, match="the loss became nan"):
        run.learn(next(iter(shuffled(run.train, 8, run.compute.device, seed=0, epoch=0, flip=False))))
    assert equal(good, run.weights[1:])
