"""Training in this process, on toy images; kills and restarts are in test_resume.py."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from vitpipe.data import batches
from vitpipe.data.batches import shuffled
from vitpipe.data.pixels import normalize
from vitpipe.errors import InputError
from vitpipe.training import loop
from vitpipe.training.checkpoint import Resume, read_metadata, read_weights
from vitpipe.training.distributed import Group
from vitpipe.training.loop import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


def batches_of(run: Trainer, count: int = 5) -> list:
    """The first batches of an epoch, not mirrored."""
    size = run.settings.train.batch
    return list(shuffled(run.train, size, CPU, seed=0, epoch=0, flip=False))[:count]


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_learns_more_than_bicubic_knows(training, finished):
    run = training(**{"train.epochs": 25, "train.lr": 0.01, "train.ema": 0.9, "train.loss": "mse"})
    curve = pd.read_csv(finished(run, "a") / "curve.csv")
    gain = curve["val_psnr"] - curve["val_bicubic_psnr"]
    assert gain.iloc[-1] > 0.5
    assert curve["train_loss"].iloc[-1] < 0.8 * curve["train_loss"].iloc[0]


@pytest.mark.parametrize("consistent", [False, True])
def test_equal_settings_give_equal_bytes_and_another_seed_does_not(training, finished, consistent):
    folders = []
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(number)
        folders.append(finished(training(seed=seed, **{"model.consistent": consistent}), str(number)))
    weights, curves = (
        [(folder / name).read_bytes() for folder in folders] for name in ("model.safetensors", "curve.csv")
    )
    assert weights[0] == weights[1] != weights[2]
    assert curves[0] == curves[1]


@pytest.mark.parametrize(
    ("task", "scores"),
    [("supersample", ["val_loss", "val_psnr", "val_bicubic_psnr"]), ("classify", ["val_loss", "val_accuracy"])],
)
def test_curve_metadata_and_weights_tell_one_story(training, finished, task, scores):
    run = training(task, **{"train.epochs": 3, "data.root": "elsewhere"})
    folder = finished(run, "a")
    curve, metadata = pd.read_csv(folder / "curve.csv"), read_metadata(folder / "model.safetensors")
    assert list(curve) == ["epoch", "step", "lr", "train_loss", scores[1].replace("val", "train"), *scores]
    assert list(curve["epoch"]) == [1, 2, 3]
    assert list(curve["step"]) == [5, 10, 15]
    assert metadata["epoch"] == curve.loc[curve[scores[1]].idxmax(), "epoch"]
    assert metadata[scores[1]] == pytest.approx(curve[scores[1]].max())
    assert metadata["classes"] == (["not odd", "odd"] if task == "classify" else [])
    settings = run.settings.model_dump(mode="json")
    assert metadata["settings"] == settings | {"data": settings["data"] | {"root": None}}
    assert {weight.dtype for weight in read_weights(folder / "model.safetensors").values()} == {torch.float32}
    assert not (folder / "scratch").exists()


def test_first_row_is_computed_by_hand(training, finished):
    """Two plain steps of a one-epoch run with torch's own tools alone."""
    changes = {"train.epochs": 1, "train.batch": 20, "train.ema": 0.0, "train.loss": "mse", "train.warmup": 0.0}
    run = training(**changes | {"train.flip": False, "train.weight_decay": 0.1, "train.clip": 1e9})
    torch.manual_seed(run.settings.seed)
    model = run.task.build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003, weight_decay=0.1)
    losses = []
    for batch in batches_of(run):
        error = model(batch.lr / 127.5 - 1) - (batch.hr / 127.5 - 1)
        losses.append(error.square().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    folder = finished(run, "a")
    found = read_weights(folder / "model.safetensors")
    for name, expected in model.state_dict().items():
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-6, msg=name)
    assert pd.read_csv(folder / "curve.csv")["train_loss"][0] == pytest.approx(sum(losses).item() / 2, rel=1e-4)


def test_averaged_weights_follow_the_model(training):
    run = training(**{"train.ema": 0.5})
    weight = run.ema_model.head.bias.clone()
    for step, batch in enumerate(batches_of(run)):
        run.training_step(batch)
        decay = min(0.5, (1 + step) / (10 + step))
        weight = decay * weight + (1 - decay) * run.model.head.bias.detach()
        torch.testing.assert_close(run.ema_model.head.bias, weight)
    assert not torch.equal(run.ema_model.head.bias, run.model.head.bias)
    assert all(tensor.grad_fn is None for tensor in run.ema_model.parameters()), "or memory would grow with every step"


def test_gradients_are_clipped_to_their_norm(training):
    run = training(**{"train.clip": 1e-3})
    for batch in batches_of(run):
        run.training_step(batch)
        assert torch.nn.utils.get_total_norm([weight.grad for weight in run.weights]) <= 1e-3 * (1 + 1e-5)


def test_sgd_with_momentum_is_computed_by_hand(training):
    changes = {"train.optimizer": "sgd", "train.momentum": 0.8, "train.lr": 0.05, "train.weight_decay": 0.1}
    changes |= {"train.schedule": "constant", "train.warmup": 0.0, "train.clip": 1e9, "train.loss": "mse"}
    run = training(**changes)
    torch.nn.init.normal_(run.model.head.weight, std=0.1)  # or the first step changes nothing else
    velocity = [torch.zeros_like(weight) for weight in run.weights]
    for batch in batches_of(run, 3):
        weights = [weight.detach().clone() for weight in run.weights]
        loss, _ = run.task.loss(run.model, batch.lr, batch.hr)
        gradients = torch.autograd.grad(loss, run.weights)
        velocity = [0.8 * v + g + 0.1 * w for v, g, w in zip(velocity, gradients, weights, strict=True)]
        run.training_step(batch)
        for found, weight, v in zip(run.weights, weights, velocity, strict=True):
            torch.testing.assert_close(found, weight - 0.05 * v, rtol=1e-4, atol=1e-6)


def test_the_rate_of_every_step_is_that_of_the_schedule(training):
    run = training(**{"train.schedule": "step", "train.warmup": 0.0, "train.epochs": 12})
    rates = []
    for run.epoch in (0, 4, 5, 10):
        run.batch = 0
        run.training_step(batches_of(run)[0])
        rates.append(run.optimizers[0].param_groups[0]["lr"])
    assert rates == pytest.approx([0.003, 0.003, 0.003 * 0.7, 0.003 * 0.49])


def test_validation_is_the_mean_over_all_images_of_the_averaged_weights(training, monkeypatch):
    run = training(**{"train.ema": 0.5, "train.loss": "l1"})
    for batch in batches_of(run):
        run.training_step(batch)
    monkeypatch.setattr(batches, "SCORED_IMAGES", 3)  # the last batch is a smaller one
    lr, hr = (torch.from_numpy(run.val.images(name, np.arange(8))).permute(0, 3, 1, 2) for name in ("lr", "hr"))
    with torch.inference_mode():
        output, target = run.ema_model(normalize(lr)), normalize(hr)
    mse = ((output.clamp(-1, 1) - target) / 2).square().mean((1, 2, 3))
    found = run.validate()
    assert found["loss"] == pytest.approx((output - target).abs().mean().item(), rel=1e-5)
    assert found["psnr"] == pytest.approx((-10 * mse.log10()).mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("scores", "losses", "patience", "best", "epochs"),
    [
        ([1, 5, 2, 3, 9, 9], [0] * 6, 2, 2, 4),
        ([1, 5, 2, 3, 9, 9], [0] * 6, 3, 5, 6),
        ([1, 5, 5, 5, 9, 9], [0] * 6, 2, 2, 4),  # as good is not better
        ([1, 5, 5, 5, 2, 9], [0.1, 0.5, 0.2, 0.3, 0.0, 0], 2, 3, 5),  # unless the loss is lower
        ([3, 2, 9, 9, 9, 9], [0] * 6, 1, 1, 2),
        ([1, 2, 3, 4, 5, 6], [0] * 6, 1, 6, 6),
        ([9, 1, 1, 1, 1, 1], [0] * 6, None, 1, 6),
    ],
)
def test_the_best_epoch_is_kept_and_patience_stops(training, finished, planned, scores, losses, patience, best, epochs):
    seen = planned(scores, losses)
    folder = finished(training(**{"train.epochs": 6, "train.patience": patience}), "a")
    assert list(pd.read_csv(folder / "curve.csv")["epoch"]) == list(range(1, epochs + 1))
    metadata = read_metadata(folder / "model.safetensors")
    assert (metadata["epoch"], metadata["val_psnr"]) == (best, scores[best - 1])
    assert equal(read_weights(folder / "model.safetensors"), seen[best - 1])


@pytest.mark.parametrize("patience", [None, 1])
def test_killed_when_all_was_learned_ends_the_same(training, finished, planned, monkeypatch, patience):
    planned([3, 2, 1])
    changes = {"train.epochs": 3, "train.patience": patience}
    with monkeypatch.context() as patch:
        patch.setattr(Resume, "clear", lambda self: None)
        before = (finished(training(**changes), "a") / "model.safetensors").read_bytes()
    monkeypatch.setattr(Trainer, "training_step", None)
    assert (finished(training(**changes), "a") / "model.safetensors").read_bytes() == before


def test_bfloat16_is_for_products_alone(training, monkeypatch):
    """Neither augmentation nor scores are rounded to it."""
    run = training(dtype=torch.bfloat16, **{"train.optimizer": "muon"})
    assert run.optimizers[0].dtype is torch.bfloat16
    inside, outside = [], []

    def watch(name, function):
        def watched(*arguments):
            outside.append((name, getattr(arguments[0], "dtype", None), torch.is_autocast_enabled("cpu")))
            return function(*arguments)

        monkeypatch.setattr(run.task, name, watched)

    for model in (run.model, run.ema_model):
        model.encoder.patch_embed.register_forward_hook(lambda _, inputs, output: inside.append(output.dtype))
    watch("augmented", run.task.augmented)
    watch("validation_scores", run.task.validation_scores)
    run.training_step(batches_of(run)[0])
    run.validate()
    assert inside == [torch.bfloat16] * 2
    assert outside == [("augmented", None, False), ("validation_scores", torch.float32, False)]


def test_every_step_draws_its_own_numbers_by_the_seed(training, monkeypatch):
    drawn = []
    for number in range(3):
        run, seen = training(seed=number // 2), []
        torch.manual_seed(number)
        augmented = run.task.augmented
        monkeypatch.setattr(run.task, "augmented", lambda b, a=augmented, s=seen: (s.append(torch.rand(())), a(b))[1])
        for batch in batches_of(run):
            run.training_step(batch)
        drawn.append([float(number) for number in seen])
    assert drawn[0] == drawn[1]
    assert len({*drawn[0], *drawn[2]}) == 10


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_with_one_line_and_keeps_the_last_state(training, tmp_path, monkeypatch, value):
    run, made = training(), []
    loss = run.task.loss

    def exploding(*arguments):
        made.append(loss(*arguments))
        return made[-1][0] * (value if len(made) > 7 else 1), made[-1][1]

    monkeypatch.setattr(run.task, "loss", exploding)
    wrong = rf"the loss became {value} in epoch 2 after 7 steps: lower train\.lr \(now 0\.003\)"
    with pytest.raises(InputError, match=wrong) as caught:
        run.run(Resume(tmp_path))
    assert "\n" not in str(caught.value)
    state = Resume(tmp_path).load()
    assert (state["epoch"], state["batch"]) == (1, 0)  # the end of epoch 1
    assert all(tensor.isfinite().all() for tensor in state["parts"][0].values())


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change(training, monkeypatch):
    """The loss is a number: the root of zero adds nothing to it, but infinity to its slope."""
    run = training()
    loss = run.task.loss

    def steep(*arguments):
        made, means = loss(*arguments)
        return made + (made - made.detach()).sqrt(), means

    monkeypatch.setattr(run.task, "loss", steep)
    before = [weight.detach().clone() for weight in run.weights]
    with pytest.raises(InputError, match=r"the gradient became (nan|inf) in epoch 1 after 0 steps: lower train\.lr"):
        run.training_step(batches_of(run)[0])
    assert all(torch.equal(old, weight) for old, weight in zip(before, run.weights, strict=True))


@pytest.mark.parametrize(("name", "scores", "losses"), [("psnr", [math.nan], [0.0]), ("loss", [1.0], [math.nan])])
def test_validation_that_is_not_finite_stops_too(training, tmp_path, planned, name, scores, losses):
    """Also the loss alone: a score such as accuracy is a number whatever the weights have become."""
    planned(scores, losses)
    with pytest.raises(InputError, match=f"val_{name} became nan in epoch 1 after 5 steps: lower"):
        training().run(Resume(tmp_path))


def test_states_are_saved_now_and_then(training, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(Resume, "save", lambda self, state: saved.append((state["epoch"], state["batch"])))
    training().run(Resume(tmp_path))
    assert saved == [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 0)]


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("supersample", {"train.accumulate": 4}),
        ("classify", {"train.accumulate": 4, "train.mix": "mixup", "train.crop": 2, "train.label_smoothing": 0.1}),
        ("supersample", {"train.batch": 48, "train.accumulate": 16}),  # 40 images: 13 times 3 and 1
    ],
)
def test_parts_of_a_batch_give_the_gradients_of_the_whole(training, monkeypatch, task, changes):
    whole, parts = (training(task, **changes | {"train.clip": 1e-3} | more) for more in ({"train.accumulate": 1}, {}))
    sizes, loss = [], parts.task.loss
    monkeypatch.setattr(parts.task, "loss", lambda model, x, y: (sizes.append(len(x)), loss(model, x, y))[1])
    inputs = whole.task.augmented(batches_of(whole)[0])
    found = []
    for run in (whole, parts):
        run.model.load_state_dict(whole.model.state_dict())
        torch.manual_seed(0)
        torch.nn.init.normal_(run.model.head.weight, std=0.1)  # or its gradient alone is not zero
        found.append(run.compute_gradients(*inputs))
    assert sizes == ([2] * 4 if len(inputs[0]) == 8 else [3] * 13 + [1])
    assert list(found[0]) == list(found[1])
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-6, msg=name)
    assert found[0]["norm"] > 1e-3, "nothing was clipped"
    for one, other in zip(whole.weights, parts.weights, strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("task", ["supersample", "classify"])
def test_without_epochs_the_model_is_saved_as_it_is(training, finished, task):
    run = training(task, **{"train.epochs": 0})
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    folder = finished(run, "none")
    curve = pd.read_csv(folder / "curve.csv")
    usual = pd.read_csv(finished(training(task, **{"train.epochs": 1}), "one") / "curve.csv")
    assert list(curve) == list(usual)
    empty = {"train_loss", "train_psnr" if task == "supersample" else "train_accuracy"}
    assert set(curve.columns[curve.isna().all()]) == empty
    assert curve.loc[0, ["epoch", "step", "lr"]].tolist() == [0, 0, 0]
    metadata = read_metadata(folder / "model.safetensors")
    assert (metadata["epoch"], metadata[run.task.best]) == (0, pytest.approx(curve[run.task.best][0], rel=1e-5))
    assert equal(read_weights(folder / "model.safetensors"), before)


def test_processes_augment_alike_and_drop_differently(training, monkeypatch):
    class Several(Group):
        def means(self, values, count):
            return values

    seeds = []
    for rank in (0, 0, 1):
        run, seen = training("classify"), []
        run.group = Several(rank, 2)
        augmented, loss = run.task.augmented, run.task.loss
        draw = lambda seen=seen: seen.append(float(torch.rand(())))  # noqa: E731
        monkeypatch.setattr(run.task, "augmented", lambda b, draw=draw, f=augmented: (draw(), f(b))[1])
        monkeypatch.setattr(run.task, "loss", lambda *a, draw=draw, f=loss: (draw(), f(*a))[1])
        run.training_step(batches_of(run)[0])
        seeds.append(seen)
    assert seeds[0] == seeds[1]
    assert seeds[0][0] == seeds[2][0]
    assert seeds[0][1] != seeds[2][1]
