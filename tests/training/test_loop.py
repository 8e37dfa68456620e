"""Training in this process, on toy pictures; kills and restarts are in test_resume.py."""

import copy
import json
import math
import shutil

import pandas as pd
import pytest
import torch

from vitpipe.data.batches import shuffled
from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError
from vitpipe.training.compute import Compute
from vitpipe.tasks import classify, supersample
from vitpipe.training import loop
from vitpipe.training.checkpoint import Resume, load_weights, resume_folder, read_metadata
from vitpipe.training.loop import Training, train

CPU = Compute(torch.device("cpu"), torch.float32)


@pytest.fixture(autouse=True)
def one_thread():
    """Several threads have nothing to gain on tiny tensors; the processes of test_resume.py use all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def trained(packed, settings, tmp_path):
    """Trains into a named folder; gives the folder with model.safetensors and curve.csv."""

    def run(name: str, task=supersample, **changes):
        folder = tmp_path / name
        parts = PackedDataset(packed / "train"), PackedDataset(packed / "val")
        train(task, settings(**changes), *parts, CPU, Resume(folder / "scratch"), folder, folder / "curve.csv")
        return folder

    return run


def training(packed, settings, **changes) -> Training:
    return Training(supersample, settings(**changes), PackedDataset(packed / "train"), PackedDataset(packed / "val"), CPU)


def test_muon_multiplies_in_the_type_that_the_model_does(packed, settings):
    made = settings(**{"train.optimizer": "muon"})
    parts = PackedDataset(packed / "train"), PackedDataset(packed / "val")
    for dtype in (torch.float32, torch.bfloat16):
        assert Training(supersample, made, *parts, Compute(torch.device("cpu"), dtype)).optimizers[0].dtype is dtype


def test_learns_more_than_bicubic_knows(trained):
    changes = {"train.epochs": 50, "train.lr": 0.01, "train.ema": 0.9, "train.loss": "mse"}
    curve = pd.read_csv(trained("a", **changes) / "curve.csv")
    gain = curve["val_psnr"] - curve["val_bicubic_psnr"]
    assert gain.iloc[-1] > 1.0
    assert curve["train_loss"].iloc[-1] < 0.8 * curve["train_loss"].iloc[0]


@pytest.mark.parametrize("changes", [{}, {"model.mirrored": True, "model.consistent": True}])
def test_the_same_settings_give_the_same_bytes_and_another_seed_does_not(trained, changes):
    torch.manual_seed(1)
    first = trained("a", **changes)
    torch.manual_seed(2)
    again, other = trained("b", **changes), trained("c", seed=1, **changes)
    assert (first / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    assert (first / "curve.csv").read_bytes() == (again / "curve.csv").read_bytes()
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_curve_has_a_row_per_epoch(trained):
    curve = pd.read_csv(trained("a", **{"train.epochs": 3}) / "curve.csv")
    assert list(curve["epoch"]) == [1, 2, 3]
    assert list(curve["step"]) == [5, 10, 15]
    assert {"lr", "train_loss", "train_psnr", "val_loss", "val_psnr", "val_bicubic_psnr"} <= set(curve)
    assert curve["val_bicubic_psnr"].nunique() == 1


def test_first_row_is_worked_out_by_hand(packed, settings, trained):
    """Two plain steps of a one-epoch run with torch's own tools alone."""
    changes = {"train.epochs": 1, "train.batch": 20, "train.ema": 0.0, "train.loss": "mse", "train.warmup": 0.0}
    changes |= {"train.flip": False, "train.weight_decay": 0.1, "train.clip": 1e9}
    made = settings(**changes)
    torch.manual_seed(made.seed)
    model = supersample.build(made)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003, weight_decay=0.1)
    losses = []
    for step, batch in enumerate(shuffled(PackedDataset(packed / "train"), 20, CPU.device, seed=0, epoch=0, flip=False)):
        optimizer.param_groups[0]["lr"] = (0.003, 0.003)[step]
        error = model(batch.lr / 127.5 - 1) - (batch.hr / 127.5 - 1)
        loss = error.square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder = trained("a", **changes)
    found = supersample.build(made)
    load_weights(folder / "model.safetensors", found, made)
    for name, expected in model.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], expected, rtol=1e-4, atol=1e-6, msg=name)
    assert pd.read_csv(folder / "curve.csv")["train_loss"][0] == pytest.approx(sum(losses) / 2, rel=1e-4)


def test_averaged_weights_follow_the_model(packed, settings):
    run = training(packed, settings, **{"train.ema": 0.5})
    weight = run.averaged.last.bias.clone()
    for step, batch in enumerate(shuffled(run.train, 8, CPU.device, seed=0, epoch=0, flip=False)):
        run.learn(batch)
        decay = min(0.5, (1 + step) / (10 + step))
        weight = decay * weight + (1 - decay) * run.model.last.bias.detach()
        torch.testing.assert_close(run.averaged.last.bias, weight)
    assert not torch.equal(run.averaged.last.bias, run.model.last.bias)
    assert all(tensor.grad_fn is None for tensor in run.averaged.parameters()), "or memory would grow with every step"


def test_gradients_are_clipped_to_their_norm(packed, settings, monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def watched(self, *args, **kwargs):
        norms.append(torch.nn.utils.get_total_norm([p.grad for g in self.param_groups for p in g["params"]]))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    run = training(packed, settings, **{"train.clip": 1e-3})
    for batch in shuffled(run.train, 8, CPU.device, seed=0, epoch=0, flip=False):
        run.learn(batch)
    assert max(norms) == pytest.approx(1e-3, rel=1e-3)


def test_sgd_with_momentum_is_worked_out_by_hand(packed, settings):
    changes = {"train.optimizer": "sgd", "train.momentum": 0.8, "train.lr": 0.05, "train.weight_decay": 0.1}
    changes |= {"train.schedule": "constant", "train.warmup": 0.0, "train.clip": 1e9, "train.loss": "mse"}
    run = training(packed, settings, **changes)
    torch.nn.init.normal_(run.model.last.weight, std=0.1)  # or the first step changes nothing else
    velocity = [torch.zeros_like(weight) for weight in run.model.parameters()]
    for batch in list(shuffled(run.train, 8, CPU.device, seed=0, epoch=0, flip=False))[:3]:
        weights = list(copy.deepcopy(run.model).parameters())
        loss, _ = supersample.loss(run.model, batch.lr, batch.hr, run.settings.train)
        gradients = torch.autograd.grad(loss, list(run.model.parameters()))
        velocity = [0.8 * v + g + 0.1 * w.detach() for v, g, w in zip(velocity, gradients, weights, strict=True)]
        run.learn(batch)
        for found, weight, v in zip(run.model.parameters(), weights, velocity, strict=True):
            torch.testing.assert_close(found, weight - 0.05 * v, rtol=1e-4, atol=1e-6)


def test_the_rate_of_every_step_is_that_of_the_schedule(packed, settings):
    run = training(packed, settings, **{"train.schedule": "step", "train.warmup": 0.0, "train.epochs": 12})
    rates = []
    for run.epoch in (0, 4, 5, 10):
        for batch in list(shuffled(run.train, 8, CPU.device, seed=0, epoch=0, flip=False))[:1]:
            run.learn(batch)
            rates.append(run.optimizers[0].param_groups[0]["lr"])
            run.batch = 0
    assert rates == pytest.approx([0.003, 0.003, 0.003 * 0.7, 0.003 * 0.49])


class Planned:
    """The task, with validation scores that were planned."""

    BEST = supersample.BEST
    build = staticmethod(supersample.build)
    inputs = staticmethod(supersample.inputs)
    loss = staticmethod(supersample.loss)

    def __init__(self, scores, losses=(0.0,) * 6):
        self.scores, self.losses = list(scores), list(losses)
        self.seen = []

    def validate(self, model, packed, compute, train, only):
        assert packed.folder.name == "val"
        self.seen.append(copy.deepcopy(model.state_dict()))
        epoch = len(self.seen) - 1
        return {"val_loss": self.losses[epoch], "val_psnr": self.scores[epoch]}


def test_checkpoint_is_the_best_epoch_on_validation(trained, settings):
    task = Planned([1, 5, 2, 5])
    folder = trained("a", task, **{"train.epochs": 4})
    facts = read_metadata(folder / "model.safetensors")
    assert (facts["epoch"], facts["val_psnr"]) == (2, 5)
    assert facts["settings"] == settings(**{"train.epochs": 4}).model_dump(exclude={"data": {"root"}})
    model = supersample.build(settings())
    load_weights(folder / "model.safetensors", model, settings())
    kept = model.state_dict()
    assert all(torch.equal(kept[name], task.seen[1][name]) for name in kept)
    assert not all(torch.equal(kept[name], task.seen[3][name]) for name in kept)


def test_of_equal_scores_the_lower_loss_is_better(trained):
    task = Planned([1, 5, 5, 5, 2], [0.1, 0.5, 0.2, 0.3, 0.0])
    folder = trained("a", task, **{"train.epochs": 5, "train.patience": 3})
    assert read_metadata(folder / "model.safetensors")["epoch"] == 3


@pytest.mark.parametrize(
    ("scores", "patience", "best", "epochs"),
    [
        ([1, 5, 2, 3, 9, 9], 2, 2, 4),
        ([1, 5, 2, 3, 9, 9], 3, 5, 6),
        ([1, 5, 5, 5, 9, 9], 2, 2, 4),  # as good is not better
        ([3, 2, 9, 9, 9, 9], 1, 1, 2),
        ([1, 2, 3, 4, 5, 6], 1, 6, 6),
        ([9, 1, 1, 1, 1, 1], None, 1, 6),
    ],
)
def test_patience_stops_and_the_best_epoch_is_kept(trained, settings, scores, patience, best, epochs):
    task = Planned(scores)
    folder = trained("a", task, **{"train.epochs": 6, "train.patience": patience})
    assert list(pd.read_csv(folder / "curve.csv")["epoch"]) == list(range(1, epochs + 1))
    assert read_metadata(folder / "model.safetensors")["epoch"] == best
    model = supersample.build(settings())
    load_weights(folder / "model.safetensors", model, settings())
    assert all(torch.equal(weight, task.seen[best - 1][name]) for name, weight in model.state_dict().items())


def test_killed_after_it_had_stopped_early_learns_nothing_more(trained, monkeypatch):
    changes = {"train.epochs": 6, "train.patience": 1}
    with monkeypatch.context() as patch:
        patch.setattr(Resume, "clear", lambda self: None)
        before = (trained("a", Planned([3, 2]), **changes) / "model.safetensors").read_bytes()
    assert (trained("a", Planned([]), **changes) / "model.safetensors").read_bytes() == before


def test_classifier_is_trained_and_its_classes_are_kept(labelled, settings, tmp_path):
    made = settings(**{"task.name": "classify", "data.scale": 1})
    parts, scratch = (PackedDataset(labelled / part, "odd") for part in ("train", "val")), Resume(tmp_path / "r")
    train(classify, made, *parts, CPU, scratch, tmp_path / "m", tmp_path / "curve.csv")
    facts = read_metadata(tmp_path / "m" / "model.safetensors")
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert facts["classes"] == ["not odd", "odd"]
    assert list(curve) == ["epoch", "step", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy"]
    assert facts["val_accuracy"] == curve["val_accuracy"].max()


def test_test_images_are_not_needed(packed, trained):
    whole = trained("a")
    shutil.rmtree(packed / "test")
    assert (trained("b") / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["mse", "l1", "charbonnier", "spectral"])
@pytest.mark.parametrize("patch", [1, 6])
def test_every_loss_and_patch_trains(trained, kind, patch):
    folder = trained("a", **{"train.loss": kind, "model.patch": patch, "train.epochs": 1})
    assert math.isfinite(pd.read_csv(folder / "curve.csv")["train_loss"][0])


def test_bfloat16_trains_on_images_made_without_it(packed, settings, tmp_path, monkeypatch):
    """Else the geometry of an augmentation would be rounded."""
    lower = []
    inputs = supersample.inputs
    monkeypatch.setattr(
        supersample, "inputs", lambda *a: (lower.append(torch.is_autocast_enabled("cpu")), inputs(*a))[1]
    )
    compute = Compute(torch.device("cpu"), torch.bfloat16)
    parts, scratch = (PackedDataset(packed / "train"), PackedDataset(packed / "val")), Resume(tmp_path / "r")
    train(supersample, settings(), *parts, compute, scratch, tmp_path / "m", tmp_path / "curve.csv")
    assert lower
    assert not any(lower)
    assert pd.read_csv(tmp_path / "curve.csv")["val_psnr"].notna().all()


class Exploding(Planned):
    """The loss becomes not finite at the given step."""

    def __init__(self, step, value):
        super().__init__([1] * 9)
        self.left, self.value = step, value

    def loss(self, *arguments):
        loss, shown = supersample.loss(*arguments)
        self.left -= 1
        return (loss * self.value if self.left < 0 else loss), shown


class Drawing(Planned):
    """Keeps a number that augmentation could have drawn, of every step."""

    def __init__(self):
        super().__init__([1] * 9)
        self.drawn = []

    def inputs(self, *arguments):
        self.drawn.append(float(torch.rand(())))
        return supersample.inputs(*arguments)


def test_every_step_draws_its_own_numbers_by_the_seed(trained):
    tasks = [Drawing() for _ in range(3)]
    for number, task in enumerate(tasks):
        torch.manual_seed(number)
        trained(f"run{number}", task, seed=number // 2)
    drawn = [task.drawn for task in tasks]
    assert drawn[0] == drawn[1]
    assert len({*drawn[0], *drawn[2]}) == 20


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_stops_with_one_line_and_keeps_the_last_state(trained, tmp_path, value):
    with pytest.raises(
        InputError, match=rf"the loss became {value} in epoch 2, batch 3: lower train\.lr \(now 0\.003\)"
    ) as caught:
        trained("a", Exploding(7, value))
    assert "\n" not in str(caught.value)
    state = Resume(tmp_path / "a" / "scratch").load()
    assert (state["epoch"], state["batch"]) == (1, 0)  # the end of epoch 1
    assert all(tensor.isfinite().all() for tensor in state["model"].values())
    assert not (tmp_path / "a" / "model.safetensors").exists()
    assert not (tmp_path / "a" / "curve.csv").exists()


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change(packed, settings, monkeypatch):
    """The loss is a number: the root of what is zero adds nothing to it, but infinity to its slope."""
    made = supersample.loss

    def steep(*arguments):
        loss, shown = made(*arguments)
        return loss + (loss - loss.detach()).sqrt(), shown

    monkeypatch.setattr(supersample, "loss", steep)
    run = training(packed, settings)
    before = [weight.detach().clone() for weight in run.weights]
    with pytest.raises(InputError, match=r"the gradient became (nan|inf) in epoch 1, batch 1: lower train\.lr"):
        run.learn(next(iter(shuffled(run.train, 8, CPU.device, seed=0, epoch=0, flip=False))))
    assert all(torch.equal(old, weight) for old, weight in zip(before, run.weights, strict=True))


def test_validation_that_is_not_finite_stops_too(trained):
    with pytest.raises(InputError, match="val_psnr became nan in epoch 1: lower"):
        trained("a", Planned([math.nan, 1]))


def test_validation_loss_that_is_not_finite_stops_too(trained, monkeypatch):
    """A score such as accuracy is a number whatever the weights have become."""
    scores = {"val_loss": math.nan, "val_psnr": 1.0}
    monkeypatch.setattr(supersample, "validate", lambda *arguments: scores)
    with pytest.raises(InputError, match="val_loss became nan in epoch 1: lower"):
        trained("a")


def test_scratch_is_removed_when_done(trained):
    assert not (trained("a") / "scratch").exists()


def test_killed_between_writing_and_clearing_up_ends_the_same(trained, monkeypatch, tmp_path):
    whole = trained("a")
    with monkeypatch.context() as patch:
        patch.setattr(Resume, "clear", lambda self: None)
        trained("b")
    assert (tmp_path / "b" / "scratch").exists()
    again = trained("b")
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert (again / "curve.csv").read_bytes() == (whole / "curve.csv").read_bytes()
    assert not (tmp_path / "b" / "scratch").exists()


def test_scratch_of_other_settings_is_left_alone(packed, settings, tmp_path, monkeypatch):
    """A run that stopped half-way does not leak into one with other settings."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))

    def run(name, task=supersample, **changes):
        made, folder = settings(**changes), tmp_path / name
        parts, scratch = (PackedDataset(packed / "train"), PackedDataset(packed / "val")), Resume(resume_folder(made, ["d"], CPU))
        train(task, made, *parts, CPU, scratch, folder, folder / "curve.csv")
        return (folder / "model.safetensors").read_bytes()

    clean = run("clean", seed=5)
    with pytest.raises(InputError):
        run("broken", Exploding(7, math.nan))
    assert len(list((tmp_path / ".resume").iterdir())) == 1
    assert run("after", seed=5) == clean
    assert len(list((tmp_path / ".resume").iterdir())) == 1


def test_state_goes_through_the_file_unchanged(packed, settings, tmp_path):
    run, other = training(packed, settings), training(packed, settings, seed=3)
    for batch in list(shuffled(run.train, 8, CPU.device, seed=0, epoch=0, flip=False))[:3]:
        run.learn(batch)
    resume = Resume(tmp_path)
    assert resume.load() is None
    resume.save(run.state())
    other.restore(resume.load())
    assert (other.epoch, other.batch, other.sums, other.best["score"]) == (0, 3, run.sums, -math.inf)
    for part in ("model", "averaged"):
        ours, theirs = getattr(run, part).state_dict(), getattr(other, part).state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_weights_hold_no_code(trained):
    content = (trained("a") / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F32"}


def test_states_are_saved_now_and_then(packed, settings, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(Resume, "save", lambda self, state: saved.append((state["epoch"], state["batch"])))
    training(packed, settings).run(Resume(tmp_path))
    assert saved == [(e, b) for e in (0, 1) for b in range(1, 6)][:5] + [(1, 0)] + [(1, b) for b in range(1, 6)] + [
        (2, 0)
    ]
