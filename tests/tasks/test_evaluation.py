"""Any predictor is scored the same way: rows belong to images, parts are joined in order, baselines stand beside."""

import json

import numpy as np
import pandas as pd
import pytest

from vitpipe.metrics.image_quality import image_quality
from vitpipe.tasks import base, training_task
from vitpipe.tasks.base import scoring_task
from vitpipe.tasks.evaluation import evaluate

MEASURES = ["mse", "mse01", "psnr", "ssim", "psnr_y", "ssim_y"]


def test_tasks_are_found_by_the_name_in_the_settings(settings):
    for name in ("supersample", "classify"):
        made, training = scoring_task(settings(name), ("a", "b")), training_task(settings(name), ("a", "b"))
        assert type(made).__module__ == f"vitpipe.tasks.{name}.scoring"
        assert isinstance(made, type(training))
        assert (made.settings, made.classes) == (settings(name), ("a", "b"))


def test_scores_belong_to_the_image_of_their_row(task, test):
    noisy = lambda lr: task.interpolation("bicubic")(lr) ^ lr[:, :1, :1]  # noqa: E731 - differs from image to image
    scores = task.scores(noisy, test)
    for row in (0, 7, 11):
        alone = image_quality(noisy(test.images("lr", np.array([row]))), test.images("hr", np.array([row])), 2)
        assert scores["psnr"][row] == pytest.approx(alone["psnr"][0], rel=1e-6)
    some = task.scores(noisy, test, np.array([7, 0]))
    np.testing.assert_allclose(some["psnr"], scores["psnr"][[7, 0]])


def test_no_score_depends_on_how_many_images_are_scored_together(task, test, monkeypatch):
    found = []
    for size in (1, 5, 12):
        batches = lambda dataset, rows, size=size: np.array_split(np.arange(12), range(size, 12, size))  # noqa: E731
        monkeypatch.setattr(base, "scoring_batches", batches)
        found.append(task.scores(task.interpolation("bicubic"), test))
    for scores in found[1:]:
        for name, values in scores.items():
            np.testing.assert_allclose(values, found[0][name], rtol=1e-6)


def test_baselines_are_scored_by_name(task, baseline):
    assert list(baseline) == ["nearest", "bilinear", "bicubic", "lanczos", "images", "protocol"]
    assert all(list(baseline[name]) == MEASURES for name in list(baseline)[:4])
    assert (baseline["images"], baseline["protocol"]) == (12, [task.protocol])
    assert baseline["nearest"]["psnr"] < baseline["bilinear"]["psnr"] < baseline["bicubic"]["psnr"]
    json.dumps(baseline, allow_nan=False)


def test_metrics_and_table_have_the_keys_that_scripts_rely_on(task, test, baseline):
    model = task.build()
    metrics, table = evaluate(task, model, test, baseline)
    assert list(metrics) == [*MEASURES, "bicubic", "gain", "self_ensemble", "images", "seconds", "parameters"]
    assert list(metrics["self_ensemble"]) == [*MEASURES, "gain"]
    assert metrics["images"] == 12
    assert metrics["parameters"] == sum(p.numel() for p in model.parameters())
    assert list(table) == [f"{prefix}{name}" for prefix in ("", "bicubic_", "self_ensemble_") for name in MEASURES]
    assert list(table.index) == list(test.samples.index)
    for name in MEASURES:
        assert metrics[name] == pytest.approx(table[name].mean(), rel=1e-5)
    json.dumps(metrics, allow_nan=False)


def test_scoring_twice_gives_the_same_and_leaves_the_weights_alone(task, test, baseline):
    model = task.build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tables = []
    for _ in range(2):
        model.train()
        tables.append(evaluate(task, model, test, baseline)[1])
        assert not model.training
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert all((before[name] == tensor).all() for name, tensor in model.state_dict().items())


def test_a_perfect_predictor_reaches_the_cap(task, test, baseline, monkeypatch):
    lr, hr = (test.images(name, np.arange(12)) for name in ("lr", "hr"))
    hr = {row.tobytes(): image for row, image in zip(lr, hr, strict=True)}
    monkeypatch.setattr(type(task), "predict", lambda self, model, images: np.stack([hr[i.tobytes()] for i in images]))
    metrics, _ = evaluate(task, task.build(), test, baseline)
    assert (metrics["mse"], metrics["psnr"], metrics["ssim"], metrics["gain"]["mse_ratio"]) == (0, 100, 1, 0)
