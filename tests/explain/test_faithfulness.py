"""Deletion and insertion on models that read known patches, and the report of both tasks."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError
from vitpipe.explain import deletion, explanations, faithfulness
from vitpipe.explain.deletion import Trial, curves, heavily_blurred, on_pixels
from vitpipe.explain.faithfulness import views
from vitpipe.explain.methods import Maps
from vitpipe.metrics import faithfulness as measures
from vitpipe.tasks import classify, supersample

CPU = torch.device("cpu")
GRID, PATCH = 4, 3


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def planted(batch: torch.Tensor, used: list[list[int]]) -> Trial:
    """A score that is the share of the used patches which are as they were."""
    spots = np.zeros((len(batch), GRID**2), bool)
    for row, patches in enumerate(used):
        spots[row, patches] = True
    where = on_pixels(spots, batch)

    def score(made: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
        same = ((made == batch[of]) & where[of]).sum((1, 2, 3))
        return same / (3 * where[of].sum((1, 2, 3)))

    return Trial(
        images=batch,
        deleted=torch.full_like(batch, -1),
        fixed=np.zeros((len(batch), GRID**2), bool),
        score=score,
        maps=lambda net, count: Maps({}, {}),
        controls={},
        shown={},
    )


def areas(trial: Trial, maps: list[np.ndarray], at: np.ndarray) -> dict[str, np.ndarray]:
    places = np.stack([measures.ranks(values, trial.fixed, 0) for values in maps])
    return curves(trial, places, at)


def test_curves_of_a_map_that_knows_and_of_one_that_errs(monkeypatch):
    """Two patches count in each image: deleted first, the score falls by a half each; last, it stays to the end."""
    used = [[5, 6], [0, 15], [3, 9]]
    trial, at = planted(images(), used), np.arange(17)
    truth = np.zeros((3, GRID**2))
    for row, patches in enumerate(used):
        truth[row, patches] = 1
    right = truth.reshape(3, GRID, GRID)
    monkeypatch.setattr(deletion, "PIXELS_AT_ONCE", 7 * 12**2)  # batches end within images and orders
    found = areas(trial, [right, -right], at)
    falls = np.array([1, 0.5] + 15 * [0])
    rises = 1 - falls
    for row in range(3):
        np.testing.assert_allclose(found["deletion"][0, row], falls)
        np.testing.assert_allclose(found["insertion"][0, row], rises)
        np.testing.assert_allclose(found["deletion"][1, row], rises[::-1])
        np.testing.assert_allclose(found["insertion"][1, row], falls[::-1])


def test_a_map_of_another_image_does_worse():
    trial = planted(images(), [[5], [0], [9]])
    truth = np.zeros((3, GRID**2))
    truth[[0, 1, 2], [5, 0, 9]] = 1
    right = truth.reshape(3, GRID, GRID)
    found = areas(trial, [right, right[[1, 2, 0]]], np.array([0, 1, 16]))
    assert found["deletion"][:, :, 1].tolist() == [[0, 0, 0], [1, 1, 1]]


def test_fixed_patches_are_never_deleted_and_always_there():
    trial = planted(images(), [[5]] * 3)
    trial.fixed[:, 5] = True
    found = areas(trial, [np.ones((3, GRID, GRID))], np.arange(16))
    assert (found["deletion"] == 1).all()
    assert (found["insertion"] == 1).all()


def test_masks_cover_the_pixels_of_their_patch():
    chosen = np.zeros((1, 16), bool)
    chosen[0, 6] = True  # row 1, column 2
    mask = on_pixels(chosen, images(1))[0, 0]
    assert mask.sum() == 9
    assert mask[3:6, 6:9].all()


def test_the_heavy_blur_keeps_the_colour_and_little_else():
    blurred = heavily_blurred(images())
    assert blurred.var((2, 3)).max() < 0.1 * images().var((2, 3)).min()
    torch.testing.assert_close(blurred.mean((2, 3)), images().mean((2, 3)), atol=0.05, rtol=0)


@pytest.fixture
def table(table):
    return table.assign(odd=2 * table["odd"] - 1)  # an attribute: has it or has it not


@pytest.fixture
def made(settings, packed, monkeypatch):
    """A trained-looking and an untrained model of a task, with what `views` takes."""
    for name, few in (("ON_CURVES", 4), ("RANDOMISED", 3), ("POINTS", 4)):
        for job in ("classify", "supersample"):
            monkeypatch.setattr(explanations(job), name, few)
    monkeypatch.setattr(faithfulness.methods, "CLASSIFY_SAMPLES", 3)

    def make(task: str, **changes):
        checked = settings(**{"task.name": task} | changes)
        part = PackedDataset(packed / "test", "odd" if task == "classify" else None)
        job = classify if task == "classify" else supersample
        models = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            models.append(job.build(checked, part.classes))
        if task == "supersample":
            nn.init.normal_(models[0].last.weight, std=0.1)
        return *models, part, checked, CPU

    return make


@pytest.mark.parametrize("task", ["classify", "supersample"])
def test_report_and_arrays_of_both_tasks(made, task):
    given = made(task)
    model, _, part, _, _ = given
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report, arrays = views(*given)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    shown, summary = arrays["methods"], arrays["faithfulness"]
    rows = [list(part.samples.index).index(sample) for sample in shown["ids"]]
    size = "lr" if task == "classify" else "hr"  # as the model sees them; the window lies in its output
    np.testing.assert_array_equal(shown["images"], part.images(size, np.array(rows)))
    names = list(shown["methods"])
    assert names == [entry["method"] for entry in report["methods"]] == list(summary["methods"])
    assert shown["maps"].shape == (len(names), 4, 4, 4)
    assert shown["pixels"].shape == (len(shown["pixel_methods"]), 4, 12, 12)
    assert list(summary["steps"]) == ["head", "block 2", "block 1", "embedding"]
    assert set(summary["controls"]) == {"random", "centre", "edge"} | ({"near"} if task == "supersample" else set())
    assert report["relevance"]["deletion"] == round(summary["deletion_area"][names.index("relevance"), 0], 4)
    assert report["images"] == summary["images"] == 4
    deleted = [0, 1, 4, 9, 16] if task == "classify" else [0, 1, 2, 6, 15]
    assert summary["share"].tolist() == [count / deleted[-1] for count in deleted]
    for curve in ("deletion", "insertion"):
        means = summary[curve][:, 0]
        assert np.ptp(means[:, [0, -1]], axis=0).max() < 1e-6, "all orders begin and end alike"
        assert ((summary[curve] >= 0) & (summary[curve] <= 1 + 1e-6)).all()
    assert report["protocol"][0].keys() >= {"deletion", "insertion", "random", *names}
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    if task == "supersample":
        assert 0 < report["diffusion_index"] < 100
        assert shown["windows"].shape == (4, 4)
        assert summary["deletion"][0, 0, [0, -1]] == pytest.approx([1, 0], abs=1e-6)
        assert (np.diff(shown["windows"][:, [0, 2]]) == 6).all()
    else:
        assert shown["predicted"].shape == shown["actual"].shape == (4,)
    again, _ = views(*given)
    assert again == report


def test_raw_attention_does_not_see_the_head_but_the_gradient_does(made):
    _, arrays = views(*made("classify"))
    found = dict(zip(arrays["faithfulness"]["methods"], arrays["faithfulness"]["correlations"][:, 0, 0], strict=True))
    assert found["raw"] == pytest.approx(1, abs=1e-6)
    assert found["gradient"] < 0.999


def test_deleted_patches_become_what_the_protocol_says(made):
    model, _, part, _, _ = made("classify")
    trial = explanations("classify").trial(model, part, np.array([1, 5, 7]), CPU)
    mean = trial.images.mean((2, 3), keepdim=True)
    assert mean.abs().min() > 0.01  # grey is another colour
    torch.testing.assert_close(trial.deleted, mean.expand(3, 3, 12, 12))
    model, _, part, _, _ = made("supersample")
    trial = explanations("supersample").trial(model, part, np.array([1, 5, 7]), CPU)
    torch.testing.assert_close(trial.deleted, heavily_blurred(trial.images))


def test_the_window_is_at_the_eye_of_each_image(made):
    model, _, part, _, _ = made("supersample")
    rows = np.array([1, 5, 7])
    trial = explanations("supersample").trial(model, part, rows, CPU)
    for row, box in zip(rows, trial.shown["windows"], strict=True):
        left, top, right, bottom = box
        x, y = part.samples.iloc[row][["lefteye_x", "lefteye_y"]]
        assert left <= min(x, 23.99) < right
        assert top <= min(y, 23.99) < bottom
    tokens = trial.shown["windows"][:, 1] // 6 * 4 + trial.shown["windows"][:, 0] // 6
    assert trial.fixed.nonzero()[1].tolist() == tokens.tolist()
    assert trial.controls["near"].reshape(3, 16).argmax(1).tolist() == tokens.tolist()


def test_a_model_without_attention(made):
    for task in ("classify", "supersample"):
        model, untrained, *rest = made(task)
        model.encoder.blocks = nn.ModuleList()
        with pytest.raises(InputError, match="no attention"):
            views(model, untrained, *rest)
