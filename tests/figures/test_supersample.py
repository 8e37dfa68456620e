"""Every picture shows the images and numbers that its name and caption say."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from vitpipe.figures import supersample

CURVE = {"train_loss": 0.5, "val_loss": 0.5, "train_psnr": 30.0, "val_psnr": 29.5, "val_bicubic_psnr": 27.25}


def group(name: str, seed: int) -> dict:
    random = np.random.default_rng(seed)
    large = {key: random.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8) for key in ("bicubic", "model", "hr")}
    scores = {"psnr_bicubic": [27.0] * 5, "psnr_model": [30.0] * 5}
    lr = random.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    return {"lr": lr, "ids": [f"{name} {i}" for i in range(5)], **large, **scores}


@pytest.fixture
def examples() -> dict[str, dict]:
    return {name: group(name, seed) for seed, name in enumerate(supersample.TITLES)}


@pytest.fixture
def figures(examples, tmp_path, monkeypatch) -> dict[str, Figure]:
    found = {}
    monkeypatch.setattr(supersample, "save", lambda figure, path: found.update({path.name: figure}))
    supersample.draw(
        examples, pd.DataFrame({"epoch": [1, 2]} | {name: [value] * 2 for name, value in CURVE.items()}), tmp_path
    )
    assert set(json.loads((tmp_path / "captions.json").read_text())) == set(found)
    return found


@pytest.mark.parametrize("name", ["gallery", "best", "worst"])
def test_galleries_show_their_own_images(figures, examples, name):
    figure = figures[f"{name}.png"]
    assert {supersample.TITLES[name][0], *examples[name]["ids"]} <= {text.get_text() for text in figure.texts}
    shown = {axes.get_label(): axes.images[0].get_array() for axes in figure.axes if axes.images}
    for sample, image in zip(examples[name]["ids"], examples[name]["model"], strict=True):
        np.testing.assert_array_equal(shown[f"model: {sample}"], image)


def test_the_wide_picture_shows_the_first_of_the_gallery(figures, examples):
    shown = {axes.get_label(): axes.images[0].get_array() for axes in figures["hero.png"].axes}
    assert len(shown) == 16
    for i, image in enumerate(examples["gallery"]["model"][:4]):
        np.testing.assert_array_equal(shown[f"model: {i}"], image)


def test_dashed_line_is_bicubic(figures):
    lines = {line.get_label(): line for axes in figures["curve.png"].axes for line in axes.lines}
    assert set(lines["bicubic"].get_ydata()) == {27.25}
