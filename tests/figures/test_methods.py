"""Maps are drawn over their own image, as shares on one scale."""

import numpy as np
import pytest

from vitpipe.figures.methods import draw, methods, shares

IDS = ["b.png", "a.png"]


def made(task: str = "classify", size: int = 24) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    names = ["raw", "integrated"] if task == "classify" else ["raw", "local"]
    shown = {
        "ids": np.array(IDS),
        "images": random.integers(0, 256, (2, size, size, 3), dtype=np.uint8),
        "methods": np.array(names),
        "maps": random.normal(0.5, 1, (2, 2, 4, 4)) * np.array([1, 1000])[:, None, None, None],
    }
    if task == "classify":
        return shown | {"actual": np.array(["cat", "dog"]), "predicted": np.array(["cat", "$cat_$"])}
    boxes = np.array([[6, 0, 12, 6], [12, 18, 18, 24]])
    return shown | {"windows": boxes, "points": np.array(["eye", "centre"])}


def axes_of(figure) -> dict:
    return {axes.get_label(): axes for axes in figure.axes}


@pytest.mark.parametrize("task", ["classify", "supersample"])
def test_maps_lie_over_the_image_of_their_id_on_one_scale(task):
    arrays = made(task)
    axes = axes_of(methods(arrays))
    limits = set()
    for m, name in enumerate(arrays["methods"]):
        for i, sample in enumerate(IDS):
            grey, paint = axes[f"{name}: {sample}"].images
            np.testing.assert_allclose(grey.get_array(), arrays["images"][i] @ [0.299, 0.587, 0.114])
            positive = np.maximum(arrays["maps"][m, i], 0)
            np.testing.assert_allclose(paint.get_array(), np.maximum(positive / positive.mean(), 1))
            assert paint.get_extent() == grey.get_extent()
            limits.add(paint.get_clim())
            frames = [patch.get_bbox().extents for patch in axes[f"{name}: {sample}"].patches]
            if task == "supersample":
                assert all((frame + 0.5 == arrays["windows"][i]).all() for frame in frames)
            assert len(frames) == (2 if task == "supersample" else 0)
    assert len(limits) == 1
    assert limits.pop()[0] == 1


@pytest.mark.parametrize("task", ["classify", "supersample"])
def test_wide_names_keep_to_their_column(task):
    wide = np.array(["W" * 40] * 2)
    keys = ["ids", *(("actual", "predicted") if task == "classify" else ("points",))]
    figure = methods(made(task) | dict.fromkeys(keys, wide))
    edge = figure.axes[0].get_window_extent().x0
    boxes = [text.get_window_extent() for text in figure.texts if "WWW" in text.get_text()]
    assert len(boxes) == 2 * len(keys)
    assert all(box.x1 < edge for box in boxes)


def test_shares_of_an_even_map_and_of_one_without_importance():
    maps = np.stack([np.full((2, 2), 7.0), np.zeros((2, 2)), [[4, -9], [0, 0]], np.full((2, 2), -1)])
    assert shares(maps).tolist() == [[[1, 1], [1, 1]], [[0, 0], [0, 0]], [[4, 0], [0, 0]], [[0, 0], [0, 0]]]


@pytest.mark.parametrize("task", ["classify", "supersample"])
def test_draw_is_the_same_every_time(task, tmp_path):
    arrays = made(task)
    captions = draw(arrays, tmp_path / "a")
    assert draw(arrays, tmp_path / "b") == captions
    assert list(captions) == ["methods.png"]
    assert (tmp_path / "a" / "methods.png").read_bytes() == (tmp_path / "b" / "methods.png").read_bytes()
