"""On a CUDA device: recorded steps, images in its memory, the same bits every time."""

import math
from collections.abc import Callable

import pytest
import torch

from vitpipe.data.batches import shuffled
from vitpipe.errors import InputError
from vitpipe.tasks import training_task
from vitpipe.training.compute import select_compute, use_deterministic_cuda
from vitpipe.training.loop import Trainer
from vitpipe.training.replay import EAGER, Replayed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
MIXED = {"train.mix": "both", "train.crop": 2, "train.randaugment": 2, "train.precision": "auto"}
CASES = [
    ("supersample", {"train.optimizer": "muon", "train.crop": 2, "train.loss": "spectral", "model.consistent": True}),
    ("supersample", {"train.optimizer": "sgd", "train.lr": 0.01, "train.precision": "auto"}),
    ("classify", MIXED),
    ("classify", MIXED | {"train.layer_decay": 0.7, "train.accumulate": 2}),
]


@pytest.fixture(autouse=True)
def deterministic():
    before = torch.are_deterministic_algorithms_enabled()
    use_deterministic_cuda()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture
def on_cuda(training) -> Callable[..., Trainer]:
    """The same as `training`, on the first CUDA device."""

    def make(task: str = "supersample", **changes) -> Trainer:
        run = training(task, **changes | {"train.device": "cuda"})
        return Trainer(
            training_task(run.settings, run.train.classes), run.train, run.val, select_compute(run.settings.train)
        )

    return make


def batches(run: Trainer, count: int = 4 * EAGER, epoch: int = 0) -> list:
    """The first batches of a run."""
    found = list(shuffled(run.train, run.settings.train.batch, run.compute.device, seed=0, epoch=epoch, flip=True))
    return found[:count] if len(found) >= count else found + batches(run, count - len(found), epoch + 1)


def steps(run: Trainer, count: int = 4 * EAGER) -> list[torch.Tensor]:
    """The weights after some steps."""
    for batch in batches(run, count):
        run.training_step(batch)
    return [weight.detach().clone() for weight in [*run.weights, *run.ema_weights]]


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("task", "changes"), CASES)
def test_recorded_steps_give_the_same_bits_as_others_and_again(on_cuda, task, changes):
    runs = [on_cuda(task, **changes) for _ in range(3)]
    runs[0].halves = (runs[0].compute_gradients, runs[0].optimizer_step)
    before = [weight.detach().clone() for weight in runs[0].weights]
    weights = [steps(run) for run in runs]
    assert all(isinstance(half, Replayed) for half in runs[1].halves)
    assert not equal(before, weights[0][: len(before)])
    assert equal(weights[0], weights[1])
    assert equal(weights[1], weights[2])


@pytest.mark.parametrize(("task", "changes"), CASES)
def test_a_run_that_goes_on_ends_the_same(on_cuda, task, changes, tmp_path):
    whole, first, second = (on_cuda(task, **changes) for _ in range(3))
    steps(whole)
    for batch in batches(whole)[:5]:
        first.training_step(batch)
    torch.save(first.state(), tmp_path / "state.pt")
    second.restore(torch.load(tmp_path / "state.pt", map_location="cpu", weights_only=True))
    for batch in batches(whole)[5:]:
        second.training_step(batch)
    assert equal(whole.weights, second.weights)
    assert equal(whole.ema_weights, second.ema_weights)


@pytest.mark.parametrize(("task", "changes"), [("supersample", {}), ("classify", MIXED)])
def test_a_recorded_step_follows_the_rate_and_the_values(on_cuda, task, changes):
    run = on_cuda(task, **changes)
    steps(run, EAGER + 3)
    batch, lengths = batches(run)[0], []
    for rate in (0.0, 1e-3, 2e-3):
        before = [weight.detach().clone() for weight in run.weights]
        run.training_step(batch, rate)
        lengths.append(sum(float((a - b.detach()).abs().sum()) for a, b in zip(before, run.weights, strict=True)))
    assert lengths[0] == 0
    assert 1.5 < lengths[2] / lengths[1] < 2.5


def test_a_loss_that_is_not_finite_stops_it(on_cuda):
    run = on_cuda(**{"train.optimizer": "sgd"})
    steps(run, EAGER + 2)
    with torch.no_grad():
        run.weights[0].fill_(math.nan)
    good = [weight.detach().clone() for weight in run.weights[1:]]
    with pytest.raises(InputError, match="the loss became nan"):
        run.training_step(batches(run)[0])
    assert equal(good, run.weights[1:])


def test_steps_that_draw_random_numbers_are_not_recorded(on_cuda):
    for changes in ({"train.dropout": 0.1}, {"train.drop_path": 0.1}, {"train.grad_checkpointing": True}):
        run = on_cuda(**changes)
        steps(run, EAGER + 2)
        assert not any(isinstance(half, Replayed) for half in run.halves)
