"""Super-resolution: an untrained model is bicubic, and scores, losses and windows are right where the right number is
known."""

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
from vitpipe.errors import InputError
from vitpipe.metrics.image_quality import image_quality
from vitpipe.models.supersampler import upsample
from vitpipe.tasks.base import scoring_task
from vitpipe.tasks.evaluation import evaluate, score_baselines
from vitpipe.tasks.supersample import training
from vitpipe.tasks.supersample.scoring import interpolate
from vitpipe.tasks.supersample.training import psnr, reconstruction_loss, spectrum

CPU = torch.device("cpu")
MEASURES = ["mse", "mse01", "psnr", "ssim", "psnr_y", "ssim_y"]


@pytest.fixture
def changed(task):
    """A model that predicts something of its own."""
    torch.manual_seed(0)
    model = task.build()
    torch.nn.init.normal_(model.head.weight, std=0.02)
    return model


@pytest.fixture
def evaluated(task, changed, test, baseline):
    return evaluate(task, changed, test, baseline)


def test_untrained_model_scores_exactly_as_bicubic(task, test, baseline):
    metrics, table = evaluate(task, task.build(), test, baseline)
    assert metrics["gain"] == {"psnr": 0, "mse_ratio": 1}
    assert {name: metrics[name] for name in MEASURES} == metrics["bicubic"] == baseline["bicubic"]
    assert (table["psnr"] == table["bicubic_psnr"]).all()


def test_untrained_but_consistent_it_is_better_than_bicubic(settings, test, baseline):
    task = scoring_task(settings(**{"model.consistent": True}))
    metrics, table = evaluate(task, task.build(), test, baseline)
    assert metrics["gain"]["mse_ratio"] < 1
    assert (table["psnr"] > table["bicubic_psnr"]).all()


def test_the_reduced_prediction_of_a_consistent_model_is_its_input(settings, test):
    """By the reduction that made the packed LR images, up to its rounding."""
    torch.manual_seed(0)
    task = scoring_task(settings(**{"model.consistent": True}))
    model = task.build()
    torch.nn.init.normal_(model.head.weight, std=0.004)
    lr = test.images("lr", np.arange(len(test)))
    hr = task.predict(model, lr)
    again = np.stack(
        [np.asarray(Image.fromarray(image).resize(lr.shape[2:0:-1], Image.Resampling.BICUBIC)) for image in hr]
    )
    inside = ~((hr == 0) | (hr == 255)).any((1, 2, 3))
    assert inside.any()
    assert np.abs(again.astype(int) - lr)[inside].max() <= 1


@pytest.mark.parametrize("crop", [0, 3])
def test_a_process_gets_its_part_of_what_all_would_draw(settings, test, crop):
    task, found = scoring_task(settings(**{"train.crop": crop})), []
    for part in (slice(None), slice(2, 5)):
        torch.manual_seed(0)
        found.append(task.augmented(Batch(test, np.arange(8), CPU, part=part)))
    for name, whole, local in zip(("lr", "hr"), *found, strict=True):
        packed = torch.from_numpy(test.images(name, np.arange(8))).permute(0, 3, 1, 2)
        assert whole.shape == packed.shape
        assert torch.equal(whole, packed) == (crop == 0)
        assert torch.equal(whole[2:5], local)


def test_images_are_shifted_as_far_as_is_set_and_no_further(settings, test, monkeypatch):
    drawn = []
    monkeypatch.setattr(training, "shift", lambda hr, moves, scale: (drawn.extend(moves.tolist()), scale))
    for seed in (*range(20), 0):
        torch.manual_seed(seed)
        _, scale = scoring_task(settings(**{"train.crop": 1})).augmented(Batch(test, np.arange(12), CPU))
    assert scale == 2
    assert {tuple(move) for move in drawn} == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}
    assert drawn[-12:] == drawn[:12] != drawn[12:24], "what is drawn depends on torch's generator"


class Ramp(torch.nn.Module):
    """Bicubic and an error that grows from left to right: mirrored it is its opposite."""

    def __init__(self) -> None:
        super().__init__()
        self.error = torch.nn.Parameter(torch.linspace(-0.3, 0.3, 24))

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return upsample(lr, 2, "bicubic") + self.error


def test_the_self_ensemble_averages_with_the_mirrored_images_prediction(task, test, baseline):
    metrics, table = evaluate(task, Ramp(), test, baseline)
    assert metrics["gain"]["psnr"] < -3
    assert metrics["self_ensemble"]["mse"] == pytest.approx(metrics["bicubic"]["mse"], abs=1e-4)
    assert metrics["self_ensemble"]["psnr"] == pytest.approx(table["self_ensemble_psnr"].mean(), rel=1e-5)
    assert metrics["self_ensemble"]["gain"] == task.gain(metrics["self_ensemble"], metrics["bicubic"])


def test_gain_is_over_bicubic(task, evaluated):
    metrics, table = evaluated
    assert metrics["gain"]["psnr"] == pytest.approx(metrics["psnr"] - metrics["bicubic"]["psnr"])
    assert metrics["gain"]["mse_ratio"] == pytest.approx(metrics["mse"] / metrics["bicubic"]["mse"], rel=1e-5)
    assert metrics["psnr"] != metrics["bicubic"]["psnr"]
    assert task.head_scores(table)["importance"].tolist() == table["psnr"].tolist()


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_interpolations_are_pillows(test, method):
    lr = test.images("lr", np.arange(12)) // 2 + 64  # of medium contrast: Pillow clips between its two passes
    ours = interpolate(lr, 2, method)
    assert ours.dtype == np.uint8
    for image, made in zip(lr, ours, strict=True):
        theirs = np.asarray(Image.fromarray(image).resize((24, 24), getattr(Image.Resampling, method.upper())))
        assert np.abs(made.astype(int) - theirs.astype(int)).max() <= 1


@pytest.mark.parametrize(("kind", "expected"), [("mse", 0.25), ("l1", 0.5), ("charbonnier", (0.25 + 0.03**2) ** 0.5)])
def test_losses_of_a_known_error(kind, expected):
    output, target = torch.full((2, 3, 4, 4), 0.25), torch.full((2, 3, 4, 4), -0.25)
    assert reconstruction_loss(output, target, kind).tolist() == pytest.approx([expected] * 2)


def test_spectral_loss_is_that_of_scipys_transform():
    torch.manual_seed(0)
    error = torch.randn(2, 3, 8, 8)
    found = reconstruction_loss(error, torch.zeros_like(error), "spectral")
    waves = dctn(error.double().numpy(), axes=(2, 3), norm="ortho")
    both = [np.sqrt(numbers**2 + 0.03**2).mean((1, 2, 3)) for numbers in (error.double().numpy(), waves)]
    assert found.tolist() == pytest.approx((both[0] + 2 * both[1]).tolist(), rel=1e-5)


@pytest.mark.parametrize(("side", "block"), [(192, 64), (96, 48), (24, 24), (67, 1)])
def test_a_spectrum_is_of_blocks(side, block):
    with torch.inference_mode():  # where a constant is made must not matter
        images = torch.randn(1, 2, side, side)
        found = spectrum(images)
    blocks = images.numpy().reshape(1, 2, side // block, block, side // block, block)
    np.testing.assert_allclose(found, dctn(blocks, axes=(3, 5), norm="ortho"), atol=1e-4)
    learned = torch.randn(1, 1, side, side, requires_grad=True)
    spectrum(learned).square().sum().backward()
    torch.testing.assert_close(learned.grad, 2 * learned.detach(), rtol=1e-3, atol=1e-4)  # lengths are kept
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(spectrum(images), found, rtol=0, atol=0)


def test_psnr_of_a_known_error():
    """An error of 1 on [-1, 1] is half of the range: 10 log10(4) dB."""
    zeros = torch.zeros(2, 3, 4, 4)
    assert psnr(zeros, zeros + 1).tolist() == pytest.approx([6.0206, 6.0206])
    assert psnr(zeros + 9, zeros + 1)[0] > 90  # clipped, as the picture would be


def test_the_loss_is_that_of_the_batch_and_validation_agrees_with_evaluation(settings, task, test, changed, evaluated):
    batch = Batch(test, np.arange(12), CPU)
    loss, means = scoring_task(settings(**{"train.loss": "mse"})).loss(changed, batch.lr, batch.hr)
    output = changed(normalize(batch.lr)).detach()
    error = output - normalize(batch.hr)
    assert float(loss.detach()) == pytest.approx(float(error.square().mean()))
    assert loss.requires_grad
    assert not means["psnr"].requires_grad
    scores = task.validation_scores(output, normalize(batch.lr), task.targets(batch))
    metrics, _ = evaluated
    assert float(scores["psnr"].mean()) == pytest.approx(metrics["psnr"], abs=0.05) == float(means["psnr"])
    assert float(scores["bicubic_psnr"].mean()) == pytest.approx(metrics["bicubic"]["psnr"], abs=0.05)
    assert [len(values) for values in scores.values()] == [12, 12, 12]


def test_examples_show_what_was_scored(task, test, changed, evaluated):
    _, table = evaluated
    curve = pd.DataFrame({"epoch": [1, 2], "val_psnr": [20.0, 21.0]})
    found = task.examples(changed, test, table, curve)
    assert list(found) == ["curve", "gallery"]
    assert found["curve"]["val_psnr"].tolist() == [20, 21]
    assert (found["curve"]["score"], found["curve"]["reference"]) == ("psnr", "bicubic")
    gallery, gain = found["gallery"], table["psnr"] - table["bicubic_psnr"]
    assert gallery["best_ids"][0] == gain.idxmax()
    assert gallery["worst_ids"][0] == gain.idxmin()
    assert gallery["gallery_ids"][[0, -1]].tolist() == [table.index[0], table.index[-1]]
    for band in ("gallery", "best", "worst"):
        for i, sample in enumerate(gallery[f"{band}_ids"]):
            row = np.array([test.samples.index.get_loc(sample)])
            for name in ("hr", "lr"):
                np.testing.assert_array_equal(gallery[f"{band}_{name}"][i], test.images(name, row)[0])
            for name in ("model", "bicubic"):
                scores = image_quality(gallery[f"{band}_{name}"][i : i + 1], gallery[f"{band}_hr"][i : i + 1], 2)
                assert gallery[f"{band}_psnr_{name}"][i] == pytest.approx(scores["psnr"][0], abs=1e-3)


def test_a_single_test_image_is_in_all_bands(task, changed, table, shapes, settings, tmp_path):
    pack(table.groupby("part").head(1), shapes, settings().data, tmp_path / "few")
    train, val, test = (PackedDataset(tmp_path / "few" / part) for part in ("train", "val", "test"))
    _, scores = evaluate(task, changed, test, score_baselines(task, train, val, test))
    gallery = task.examples(changed, test, scores, pd.DataFrame())["gallery"]
    assert [len(gallery[f"{band}_ids"]) for band in ("gallery", "best", "worst")] == [1, 1, 1]


def test_the_outcome_is_what_evaluation_scores(task, test, changed, evaluated):
    rows, (_, table) = np.array([2, 9]), evaluated
    outcome = task.outcome(changed, test, rows)
    assert list(outcome.pictures) == ["input", "bicubic", "model", "original"]
    np.testing.assert_array_equal(outcome.pictures["original"], test.images("hr", rows))
    np.testing.assert_array_equal(outcome.pictures["model"], task.predict(changed, test.images("lr", rows)))
    assert outcome.readings["model"] == [f"{value:.2f} dB" for value in table["psnr"].iloc[rows]]
    assert outcome.readings["bicubic"] == [f"{value:.2f} dB" for value in table["bicubic_psnr"].iloc[rows]]


def test_own_images_have_the_size_of_the_input(task):
    assert task.prepare(Image.new("RGB", (12, 12), "red")).tolist() == [[[255, 0, 0]] * 12] * 12
    with pytest.raises(InputError, match="the image has 48x40 pixels, but this super-sampler takes 12x12"):
        task.prepare(Image.new("RGB", (48, 40)))
    assert task.present(np.zeros((24, 24, 3), np.uint8)).size == (24, 24)
