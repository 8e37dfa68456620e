"""Scores: those of the model stand beside bicubic's, and are right where the right number is known."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.fft import dctn

from vitpipe.data.batches import Batch
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import pack
from vitpipe.data.pixels import normalize
from vitpipe.figures.supersample import draw
from vitpipe.metrics.image_quality import PROTOCOL, image_quality
from vitpipe.training.compute import Compute
from vitpipe.models.supersampler import upsample
from vitpipe.tasks import supersample, task
from vitpipe.training.checkpoint import save_weights

CPU = Compute(torch.device("cpu"), torch.float32)
MEASURES = ["mse", "mse01", "psnr", "ssim", "psnr_y", "ssim_y"]
CURVE = ["epoch", "step", "lr", "train_loss", "val_loss", "train_psnr", "val_psnr", "val_bicubic_psnr"]


@pytest.fixture
def test(packed) -> PackedDataset:
    return PackedDataset(packed / "test")


@pytest.fixture
def baseline(packed, test, settings) -> dict:
    return supersample.baseline(PackedDataset(packed / "train"), PackedDataset(packed / "val"), test, settings())


@pytest.fixture
def untrained(settings):
    torch.manual_seed(0)
    return supersample.build(settings())


@pytest.fixture
def changed(untrained):
    """A model that predicts something of its own."""
    torch.nn.init.normal_(untrained.last.weight, std=0.02)
    return untrained


def test_tasks_are_found_by_name():
    assert task("supersample") is supersample


def test_untrained_model_scores_exactly_as_bicubic(untrained, test, baseline, settings):
    metrics, table = supersample.evaluate(untrained, test, baseline, settings(), CPU)
    assert metrics["gain"] == {"psnr": 0, "mse_ratio": 1}
    assert {name: metrics[name] for name in MEASURES} == metrics["bicubic"]
    assert supersample.means(table.filter(like="bicubic_").rename(columns=lambda c: c[8:])) == baseline["bicubic"]
    assert (table["psnr"] == table["bicubic_psnr"]).all()


@pytest.fixture
def consistent(settings):
    return settings(**{"model.consistent": True, "model.mirrored": True})


def test_untrained_but_consistent_it_is_better_than_bicubic(consistent, test, baseline):
    metrics, table = supersample.evaluate(supersample.build(consistent), test, baseline, consistent, CPU)
    assert metrics["gain"]["mse_ratio"] < 1
    assert (table["psnr"] > table["bicubic_psnr"]).all()


def test_what_was_reduced_comes_back(consistent, test):
    """By the reduction that made the packed LR images, up to its rounding."""
    torch.manual_seed(0)
    model = supersample.build(consistent)
    torch.nn.init.normal_(model.last.weight, std=0.02)
    lr = test.images("lr", np.arange(len(test)))
    hr = supersample.predict(model, lr, CPU.device)
    again = np.stack(
        [np.asarray(Image.fromarray(image).resize(lr.shape[2:0:-1], Image.Resampling.BICUBIC)) for image in hr]
    )
    clipped = (hr == 0) | (hr == 255)
    inside = ~clipped.any((1, 2, 3))
    assert inside.any()
    assert np.abs(again.astype(int) - lr)[inside].max() <= 1


@pytest.mark.parametrize("crop", [0, 3])
def test_a_process_learns_from_its_part_of_what_all_would_draw(test, settings, crop):
    setting = settings(**{"train.crop": crop}).train
    found = []
    for part in (slice(None), slice(2, 5)):
        torch.manual_seed(0)
        found.append(supersample.inputs(Batch(test, np.arange(8), CPU.device, part=part), setting))
    for name, whole, own in zip(("lr", "hr"), *found, strict=True):
        packed = torch.from_numpy(test.images(name, np.arange(8))).permute(0, 3, 1, 2)
        assert whole.shape == packed.shape
        assert torch.equal(whole, packed) == (crop == 0)
        assert torch.equal(whole[2:5], own)


def test_images_are_shifted_as_far_as_is_set_and_no_further(test, settings, monkeypatch):
    drawn = []
    monkeypatch.setattr(supersample, "shift", lambda hr, moves, scale: (drawn.extend(moves.tolist()), scale))
    for seed in (*range(20), 0):
        torch.manual_seed(seed)
        _, scale = supersample.inputs(Batch(test, np.arange(12), CPU.device), settings(**{"train.crop": 1}).train)
    assert scale == 2
    assert {tuple(move) for move in drawn} == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}
    assert drawn[-12:] == drawn[:12] != drawn[12:24], "what is drawn depends on torch's generator"


def test_metrics_have_the_keys_that_scripts_rely_on(changed, test, baseline, settings):
    metrics, table = supersample.evaluate(changed, test, baseline, settings(), CPU)
    assert list(metrics) == [*MEASURES, "bicubic", "gain", "self_ensemble", "images", "seconds", "parameters"]
    assert list(metrics["bicubic"]) == MEASURES
    assert list(metrics["self_ensemble"]) == [*MEASURES, "gain"]
    assert metrics["images"] == 12
    assert metrics["parameters"] == sum(p.numel() for p in changed.parameters())
    assert list(table.columns) == [
        f"{prefix}{name}" for prefix in ("", "bicubic_", "self_ensemble_") for name in MEASURES
    ]
    assert list(table.index) == list(test.samples.index)
    json.dumps(metrics, allow_nan=False)


def test_metrics_are_means_over_images_of_what_is_in_the_table(changed, test, baseline, settings):
    metrics, table = supersample.evaluate(changed, test, baseline, settings(), CPU)
    for name in MEASURES:
        assert metrics[name] == pytest.approx(table[name].mean(), rel=1e-5)
    assert metrics["gain"]["psnr"] == pytest.approx(metrics["psnr"] - metrics["bicubic"]["psnr"])
    assert metrics["gain"]["mse_ratio"] == pytest.approx(metrics["mse"] / metrics["bicubic"]["mse"], rel=1e-5)
    assert metrics["mse"] == pytest.approx(4 * metrics["mse01"], rel=1e-4)
    assert metrics["psnr"] != metrics["bicubic"]["psnr"]


class Ramp(torch.nn.Module):
    """Bicubic and an error that grows from left to right: mirrored it is its opposite."""

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return upsample(lr, 2, "bicubic") + torch.linspace(-0.3, 0.3, 24)


def test_what_a_mirrored_image_undoes_is_gone_from_the_mean(test, baseline, settings):
    metrics, table = supersample.evaluate(Ramp(), test, baseline, settings(), CPU)
    assert metrics["gain"]["psnr"] < -3
    assert metrics["self_ensemble"]["mse"] == pytest.approx(metrics["bicubic"]["mse"], abs=1e-4)
    mean = {name: metrics["self_ensemble"][name] for name in MEASURES}
    assert mean == supersample.means(table.filter(like="self_ensemble_").rename(columns=lambda c: c[14:]))
    assert metrics["self_ensemble"]["gain"] == supersample.gain(mean, metrics["bicubic"])


def test_scores_belong_to_the_image_of_their_id(changed, test, baseline, settings):
    _, table = supersample.evaluate(changed, test, baseline, settings(), CPU)
    for row in (0, 7):
        lr, hr = test.images("lr", np.array([row])), test.images("hr", np.array([row]))
        alone = image_quality(supersample.predict(changed, lr, CPU.device), hr, 2)
        assert table.iloc[row]["psnr"] == pytest.approx(alone["psnr"][0], rel=1e-6)


def test_no_score_depends_on_the_batch(changed, test, baseline, settings, monkeypatch):
    scores = []
    for batch in (1, 5, 32):
        monkeypatch.setattr(supersample, "BATCH", batch)
        _, table = supersample.evaluate(changed, test, baseline, settings(), CPU)
        shown = supersample.validate(changed, test, CPU, settings().train)
        scores.append((table, shown, supersample.baseline(test, test, test, settings())))
    for table, shown, scored in scores[1:]:
        pd.testing.assert_frame_equal(table, scores[0][0], rtol=1e-3)  # a pixel may round to the next level
        assert shown == pytest.approx(scores[0][1], rel=1e-5)
        assert scored == scores[0][2]


def test_scoring_twice_gives_the_same_and_leaves_the_model_alone(changed, test, baseline, settings):
    before = {name: tensor.clone() for name, tensor in changed.state_dict().items()}
    changed.train()
    first = supersample.evaluate(changed, test, baseline, settings(), CPU)[1]
    second = supersample.evaluate(changed, test, baseline, settings(), CPU)[1]
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert not changed.training
    assert all(torch.equal(before[name], tensor) for name, tensor in changed.state_dict().items())


def test_a_perfect_model_reaches_the_cap(test, baseline, settings, untrained, monkeypatch):
    hr = supersample.to_input(test.images("hr", np.arange(12)), CPU.device)
    monkeypatch.setattr(supersample, "self_ensemble", lambda model, lr: (hr, hr))
    metrics, _ = supersample.evaluate(untrained, test, baseline, settings(), CPU)
    for own in (metrics, metrics["self_ensemble"]):
        assert (own["mse"], own["psnr"], own["ssim"], own["gain"]["mse_ratio"]) == (0, 100, 1, 0)


def test_baseline_has_all_four_and_the_protocol(baseline):
    assert list(baseline) == ["nearest", "bilinear", "bicubic", "lanczos", "images", "protocol"]
    assert all(list(baseline[name]) == MEASURES for name in list(baseline)[:4])
    assert baseline["images"] == 12
    assert baseline["protocol"] == [PROTOCOL]
    assert baseline["nearest"]["psnr"] < baseline["bilinear"]["psnr"] < baseline["bicubic"]["psnr"]


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_interpolations_are_pillows(test, method):
    lr = test.images("lr", np.arange(12)) // 2 + 64  # of medium contrast: Pillow clips between its two passes
    ours = supersample.interpolated(lr, 2, method)
    assert ours.dtype == np.uint8
    for image, made in zip(lr, ours, strict=True):
        theirs = np.asarray(Image.fromarray(image).resize((24, 24), getattr(Image.Resampling, method.upper())))
        assert np.abs(made.astype(int) - theirs.astype(int)).max() <= 1


@pytest.mark.parametrize(("kind", "expected"), [("mse", 0.25), ("l1", 0.5), ("charbonnier", (0.25 + 0.03**2) ** 0.5)])
def test_losses_of_a_known_error(kind, expected):
    output, target = torch.full((2, 3, 4, 4), 0.25), torch.full((2, 3, 4, 4), -0.25)
    assert float(supersample.distance(output, target, kind)) == pytest.approx(expected)


def test_charbonniers_derivative():
    torch.manual_seed(0)
    error = torch.randn(2, 3, 4, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(supersample.Charbonnier.apply, error)
    by_autograd = torch.autograd.grad(3 * (error.square() + 0.03**2).sqrt().mean(), error)
    torch.testing.assert_close(torch.autograd.grad(3 * supersample.Charbonnier.apply(error), error), by_autograd)


def test_spectral_loss_is_that_of_scipys_transform():
    torch.manual_seed(0)
    error = torch.randn(2, 3, 8, 8)
    found = float(supersample.distance(error, torch.zeros_like(error), "spectral"))
    waves = dctn(error.double().numpy(), axes=(2, 3), norm="ortho")
    both = [np.sqrt(numbers**2 + 0.03**2).mean() for numbers in (error.double().numpy(), waves)]
    assert found == pytest.approx(both[0] + 2 * both[1], rel=1e-5)


@pytest.mark.parametrize(("side", "block"), [(192, 64), (96, 48), (24, 24), (67, 1)])
def test_a_spectrum_is_taken_of_blocks(side, block):
    with torch.inference_mode():  # where a constant is made must not matter
        images = torch.randn(1, 2, side, side)
        found = supersample.spectrum(images)
    blocks = images.numpy().reshape(1, 2, side // block, block, side // block, block)
    np.testing.assert_allclose(found, dctn(blocks, axes=(3, 5), norm="ortho"), atol=1e-4)
    learned = torch.randn(1, 1, side, side, requires_grad=True)
    supersample.spectrum(learned).square().sum().backward()
    torch.testing.assert_close(learned.grad, 2 * learned.detach(), rtol=1e-3, atol=1e-4)  # lengths are kept


def test_a_spectrum_is_precise_within_autocast():
    images = torch.randn(1, 1, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        found = supersample.spectrum(images)
    torch.testing.assert_close(found, supersample.spectrum(images), rtol=0, atol=0)


def test_psnr_of_a_known_error():
    """An error of 1 on [-1, 1] is half of the range: 10 log10(4) dB."""
    zeros = torch.zeros(2, 3, 4, 4)
    assert supersample.psnr(zeros, zeros + 1).tolist() == pytest.approx([6.0206, 6.0206])
    assert supersample.psnr(zeros + 9, zeros + 1)[0] > 90  # clipped, as the picture would be


def test_shown_psnr_agrees_with_the_reported_one(changed, test, baseline, settings):
    shown = supersample.validate(changed, test, CPU, settings().train)
    metrics, _ = supersample.evaluate(changed, test, baseline, settings(), CPU)
    assert shown["val_psnr"] == pytest.approx(metrics["psnr"], abs=0.05)
    assert shown["val_bicubic_psnr"] == pytest.approx(metrics["bicubic"]["psnr"], abs=0.05)


def test_loss_is_that_of_the_batch(changed, packed, settings):
    batch = Batch(PackedDataset(packed / "train"), np.arange(8), CPU.device)
    loss, shown = supersample.loss(changed, batch.lr, batch.hr, settings(**{"train.loss": "mse"}).train)
    error = changed(normalize(batch.lr)) - normalize(batch.hr)
    assert float(loss.detach()) == pytest.approx(float(error.detach().square().mean()))
    assert loss.requires_grad
    assert not shown["psnr"].requires_grad


def test_examples_show_what_was_scored(changed, test, baseline, settings):
    _, table = supersample.evaluate(changed, test, baseline, settings(), CPU)
    shown = supersample.examples(changed, test, table, settings(), CPU)
    assert list(shown) == ["gallery", "best", "worst"]
    gain = table["psnr"] - table["bicubic_psnr"]
    assert shown["best"]["ids"][0] == gain.idxmax()
    assert shown["worst"]["ids"][0] == gain.idxmin()
    assert shown["gallery"]["ids"][0] == table.index[0]
    assert shown["gallery"]["ids"][-1] == table.index[-1]
    for part in shown.values():
        for i, sample in enumerate(part["ids"]):
            row = np.array([test.samples.index.get_loc(sample)])
            np.testing.assert_array_equal(part["hr"][i], test.images("hr", row)[0])
            np.testing.assert_array_equal(part["lr"][i], test.images("lr", row)[0])
            for name in ("model", "bicubic"):
                scores = image_quality(part[name][i : i + 1], part["hr"][i : i + 1], 2)
                assert part[f"psnr_{name}"][i] == pytest.approx(scores["psnr"][0], abs=1e-3)


def test_a_single_test_image_is_shown_in_all_figures(changed, table, shapes, settings, tmp_path):
    few = table.groupby("part").head(1)
    pack(few, shapes, settings().data, tmp_path / "few")
    train, test = (PackedDataset(tmp_path / "few" / part) for part in ("train", "test"))
    baseline = supersample.baseline(train, train, test, settings())
    _, scores = supersample.evaluate(changed, test, baseline, settings(), CPU)
    shown = supersample.examples(changed, test, scores, settings(), CPU)
    assert [len(shown[name]["ids"]) for name in ("gallery", "best", "worst")] == [1, 1, 1]
    curve = pd.DataFrame({name: [1.0] for name in CURVE})
    draw(shown, curve, tmp_path)
    assert {"gallery.png", "best.png", "worst.png"} <= {path.name for path in tmp_path.glob("*.png")}


def test_figures_are_drawn_with_their_captions(changed, test, baseline, settings, tmp_path):
    _, table = supersample.evaluate(changed, test, baseline, settings(), CPU)
    curve = pd.DataFrame(
        {"epoch": [1, 2], "step": [5, 10], "lr": [1, 0.5]} | {name: [20.0, 21.0] for name in CURVE[3:]}
    )
    folder = tmp_path / "figures"
    folder.mkdir()
    draw(supersample.examples(changed, test, table, settings(), CPU), curve, folder)
    captions = json.loads((folder / "captions.json").read_text())
    assert set(captions) == {path.name for path in folder.glob("*.png")}
    assert {"curve.png", "gallery.png", "best.png", "worst.png", "hero.png"} == set(captions)
    assert all(text["title"] and text["caption"] for text in captions.values())


def test_stages_write_what_they_promise(packed, stage, settings, untrained, tmp_path):
    done = stage("baseline")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "reports" / "baseline.json").read_text())["images"] == 12

    done = stage("evaluate")
    assert (done.returncode, done.stderr) == (
        1,
        "evaluate: models/model.safetensors is missing: run the train stage first (dvc repro train)\n",
    )
    save_weights(
        tmp_path / "models" / "model.safetensors",
        untrained.state_dict(),
        {"epoch": 2, "settings": settings().model_dump()},
    )
    curve = {"epoch": [1], "step": [5], "lr": [1.0], "train_loss": [1.0], "val_loss": [1.0]}
    curve |= {"train_psnr": [20.0], "val_psnr": [20.0], "val_bicubic_psnr": [20.0]}
    pd.DataFrame(curve).to_csv(tmp_path / "reports" / "curve.csv", index=False)
    done = stage("evaluate")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "reports" / "metrics.json").read_text())
    assert {*MEASURES, "bicubic", "gain", "self_ensemble", "images", "seconds", "parameters", "protocol"} <= set(
        metrics
    )
    assert metrics["protocol"] == [supersample.PROTOCOL]
    assert metrics["gain"] == {"psnr": 0, "mse_ratio": 1}
    assert metrics["epoch"] == 2
    rows = pd.read_csv(tmp_path / "reports" / "metrics.csv", index_col="id")
    assert list(rows.index) == list(PackedDataset(packed / "test").samples.index)
    assert (tmp_path / "reports" / "figures" / "gallery.png").exists()
