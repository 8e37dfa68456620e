"""Maps are drawn over their own image, as shares on one scale."""

import numpy as np
import pytest

from vitpipe.figures.methods import methods, shares


@pytest.mark.parametrize("windows", [False, True])
def test_maps_lie_over_the_image_of_their_id_on_one_scale(make, axes_of, windows):
    arrays, limits = make("methods", windows=windows), set()
    axes = axes_of(methods(arrays))
    for m, name in enumerate(arrays["methods"]):
        for i, sample in enumerate(arrays["ids"]):
            grey, paint = axes[f"{name}: {sample}"].images
            np.testing.assert_allclose(grey.get_array(), arrays["images"][i] @ [0.299, 0.587, 0.114])
            positive = np.maximum(arrays["maps"][m, i], 0)
            np.testing.assert_allclose(paint.get_array(), np.maximum(positive / positive.mean(), 1))
            assert paint.get_extent() == grey.get_extent()
            limits.add(paint.get_clim())
            frames = [patch.get_bbox().extents for patch in axes[f"{name}: {sample}"].patches]
            assert len(frames) == 2 * windows
            assert all((frame + 0.5 == arrays["windows"][i]).all() for frame in frames)
    assert len(limits) == 1
    assert limits.pop()[0] == 1


@pytest.mark.parametrize("keys", [("ids", "actual", "predicted"), ("ids", "predicted"), ("ids", "points", "windows")])
def test_what_is_asked_is_said_and_wide_names_keep_to_their_column(make, texts, keys):
    arrays = {name: values for name, values in make("methods", windows="windows" in keys).items() if name != "actual"}
    wide = dict.fromkeys((key for key in keys if key != "windows"), np.array(["W" * 40] * 2))
    figure = methods(arrays | wide)
    asked = "the framed window of the output" if "windows" in keys else "the predicted class"
    assert f"For {asked}: " in texts(figure)
    edge = figure.axes[0].get_window_extent().x0
    boxes = [text.get_window_extent() for text in figure.texts if "WWW" in text.get_text()]
    assert len(boxes) == 2 * len(wide)
    assert all(box.x1 < edge for box in boxes)


def test_shares_of_an_even_map_and_of_one_without_importance():
    maps = np.stack([np.full((2, 2), 7.0), np.zeros((2, 2)), [[4, -9], [0, 0]], np.full((2, 2), -1)])
    assert shares(maps).tolist() == [[[1, 1], [1, 1]], [[0, 0], [0, 0]], [[4, 0], [0, 0]], [[0, 0], [0, 0]]]
