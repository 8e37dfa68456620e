"""The folder has every figure with a caption, and the arrays from which each can be made again."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vitpipe.figures.classify import draw, grouped, redrawn
from vitpipe.figures.ranking import BANDS
from vitpipe.figures.style import enlarge, save

PICTURES = ["confusion", "confusion_rows", "curve", "patches", "ranking"]


@pytest.fixture(scope="module")
def examples() -> dict[str, dict]:
    random = np.random.default_rng(0)
    ranked = {
        band: {
            "images": random.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8),
            "ids": pd.Index([f"{band}/{i}.png" for i in range(3)]),
            "predicted": ["cat", "dog", "dog"],
            "actual": ["cat", "cat", "dog"],
            "probability": random.uniform(0, 1, 3),
            "loss": random.uniform(0, 5, 3),
        }
        for band in BANDS
    }
    image = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return {
        "confusion": {"matrix": [[5, 1], [0, 3]], "classes": ("cat", "dog")},
        "ranking": ranked,
        "patches": {"image": image, "patch": 4, "id": "b/7.png", "class_token": True},
        "training": {"label": "training (augmented)"},
    }


@pytest.fixture(scope="module")
def curve() -> pd.DataFrame:
    scores = {f"{part}_{name}": [0.5, 0.75] for part in ("train", "val") for name in ("loss", "accuracy")}
    return pd.DataFrame({"epoch": [1, 2], "lr": [0.1, 0.0], **scores})


@pytest.fixture(scope="module")
def drawn(examples, curve, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    draw(examples, curve, folder)
    return folder


def load(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    names = ("confusion", "patches", "ranking")
    return {name: dict(np.load(folder / f"{name}.npz", allow_pickle=False)) for name in names}


def test_every_picture_has_a_caption(drawn):
    captions = json.loads((drawn / "captions.json").read_text())
    assert sorted(captions) == [f"{name}.png" for name in PICTURES] == sorted(path.name for path in drawn.glob("*.png"))
    assert all(text["title"] and text["caption"] for text in captions.values())
    assert "3 with the highest loss, 3 with the lowest and 3 at random" in captions["ranking.png"]["caption"]


def test_arrays_are_those_given(drawn, examples):
    saved = load(drawn)
    np.testing.assert_array_equal(saved["confusion"]["matrix"], examples["confusion"]["matrix"])
    assert list(saved["confusion"]["classes"]) == ["cat", "dog"]
    for band, group in examples["ranking"].items():
        for key, values in group.items():
            np.testing.assert_array_equal(saved["ranking"][f"{band}_{key}"], values)
    assert str(saved["patches"]["id"]) == "b/7.png"
    np.testing.assert_array_equal(saved["patches"]["image"], examples["patches"]["image"])


def test_images_drawn_are_those_saved_under_their_id(drawn):
    saved = load(drawn)
    figures = redrawn(saved)
    shown = {axes.get_label(): axes.images[0].get_array() for axes in figures["ranking"].axes}
    assert len(shown) == 9
    for band, name in BANDS.items():
        for sample, image in zip(saved["ranking"][f"{band}_ids"], saved["ranking"][f"{band}_images"], strict=True):
            pixels = shown[f"{name}: {sample}"]
            np.testing.assert_array_equal(pixels, enlarge(image, pixels.shape[0]))
    whole = next(axes for axes in figures["patches"].axes if axes.get_label() == "image").images[0].get_array()
    np.testing.assert_array_equal(whole, enlarge(saved["patches"]["image"], whole.shape[0]))
    matrix = next(axes for axes in figures["confusion"].axes if axes.get_label() == "matrix")
    np.testing.assert_array_equal(matrix.images[0].get_array().filled(0), saved["confusion"]["matrix"])
    assert any("b/7.png" in text.get_text() for text in figures["patches"].texts)


@pytest.mark.parametrize("token", [True, False])
def test_patches_say_whether_a_class_token_comes_before_them(drawn, token):
    saved = load(drawn)
    assert saved["patches"]["class_token"]
    saved["patches"]["class_token"] = np.array(token)
    assert any("class token" in text.get_text() for text in redrawn(saved)["patches"].texts) == token


def test_pictures_can_be_made_again_from_the_arrays(drawn, tmp_path):
    for name, figure in redrawn(load(drawn)).items():
        save(figure, tmp_path / "again.png")
        assert (tmp_path / "again.png").read_bytes() == (drawn / f"{name}.png").read_bytes(), name


def test_grouped_takes_an_opened_file(drawn, examples):
    with np.load(drawn / "ranking.npz") as file:
        groups = grouped(file)
    assert {band: list(group["ids"]) for band, group in groups.items()} == {
        band: list(group["ids"]) for band, group in examples["ranking"].items()
    }


@pytest.mark.parametrize("name", ["training (augmented)", "training"])
def test_curve_says_what_it_is_of(examples, curve, tmp_path, monkeypatch, name):
    legends = {}
    monkeypatch.setattr(
        "vitpipe.figures.classify.save",
        lambda figure, path: legends.update({path.name: figure.axes[0].get_legend()}),
    )
    draw(examples | {"training": {"label": name}}, curve, tmp_path)
    assert [text.get_text() for text in legends["curve.png"].get_texts()] == [name, "validation"]
