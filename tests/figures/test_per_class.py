"""Medians and differences belong to their class and layer, and only what is more than chance is outlined."""

import numpy as np
import pytest

from vitpipe.figures.per_class import per_class


def lines(panel) -> set[frozenset]:
    """Ends of the outline's lines; the dark and the light ones must be the same."""
    dark, light = [
        {frozenset(map(tuple, segment.tolist())) for segment in collection.get_segments()}
        for collection in panel.collections
    ]
    assert dark == light
    return dark


def square(row: int, column: int) -> set[frozenset]:
    """The four sides of a patch."""
    left, top = column - 0.5, row - 0.5
    corners = [(left, top), (left + 1, top), (left + 1, top + 1), (left, top + 1)]
    return {frozenset((corners[i], corners[i - 1])) for i in range(4)}


def test_panels_hold_the_arrays_of_their_class_and_layer(make, axes_of):
    arrays = make("per_class")
    axes = axes_of(per_class(arrays))
    for layer in range(2):
        shown = axes[f"all images: layer {layer + 1}"].images[0].get_array()
        np.testing.assert_array_equal(shown, arrays["all_median"][layer])
        for i, name in enumerate(("cat", "dog")):
            for key in ("median", "difference"):
                shown = axes[f"{name}: layer {layer + 1} {key}"].images[0].get_array()
                np.testing.assert_array_equal(shown, arrays[key][i, layer])
    for i, name in enumerate(("cat", "dog")):
        shown = axes[f"{name}: mean image"].images[0].get_array()
        np.testing.assert_array_equal(shown, np.round(arrays["images"][i]))
    boxes = [axes[f"{name}: layer 1 {key}"].get_position() for name, key in (("cat", "median"), ("cat", "difference"))]
    assert boxes[0].x0 < boxes[1].x0 < axes["dog: layer 1 median"].get_position().x0
    assert boxes[0].y0 > axes["cat: layer 2 median"].get_position().y0


def test_scales_are_common_and_differences_symmetric(make, axes_of):
    figure = per_class(make("per_class"))
    panels = {name: axes.images[0].get_clim() for name, axes in axes_of(figure).items() if "layer" in name}
    [(low, high)] = {limits for name, limits in panels.items() if "difference" in name}
    assert low == -high
    assert 0.6 < high < 0.7
    [(low, high)] = {limits for name, limits in panels.items() if "difference" not in name}
    assert low == 0
    assert 2.5 < high < 3
    [medians, differences] = [axes.get_xlim() for axes in figure.axes if axes.get_label() == "colour bar"]
    assert medians == (low, high)
    assert differences == panels["cat: layer 1 difference"]


def test_only_patches_beyond_chance_are_outlined(make, axes_of, texts):
    arrays = make("per_class")
    assert "0 of 64 patches differ by more than chance" in texts(per_class(arrays))
    arrays["p"][0, 1, 2, 3] = 0.05
    arrays["p"][1, 0, 0, :2] = 0.001
    figure = per_class(arrays)
    axes = axes_of(figure)
    assert lines(axes["cat: layer 2 difference"]) == square(2, 3)
    both = square(0, 0) ^ square(0, 1)  # a region: its inner border is not drawn
    assert lines(axes["dog: layer 1 difference"]) == both
    assert lines(axes["cat: layer 1 difference"]) == lines(axes["dog: layer 2 difference"]) == set()
    assert not axes["dog: layer 1 median"].collections
    assert "3 of 64 patches differ by more than chance" in texts(figure)
    assert "All other differences may be chance." in texts(figure)
    places = {text.get_text(): text.get_position()[0] for text in figure.texts}
    cat, dog = axes["cat: mean image"].get_position(), axes["dog: mean image"].get_position()
    assert cat.x1 < places["1 differ"] < dog.x0 < dog.x1 < places["2 differ"]
    assert cat.x1 < places["n = 41"] < dog.x0 < dog.x1 < places["n = 42"]


@pytest.mark.parametrize("k", [2, 10])
def test_headers_keep_to_their_class(make, axes_of, k):
    figure = per_class(make("per_class", classes=tuple("W" * 50 + end for end in "0123456789"[:k])))
    headers = [text for text in figure.texts if "WWW" in text.get_text()]
    edges = [axes.get_window_extent().x1 for name, axes in axes_of(figure).items() if "layer 1 difference" in name]
    assert [text.get_window_extent().x1 <= edge for text, edge in zip(headers, edges, strict=True)] == [True] * k


def test_what_is_left_out_is_said(make, axes_of, texts):
    classes = tuple(f"american_pit_bull_terrier {i}" for i in range(37))
    arrays = make("per_class", classes=classes, layers=24, grid=4)
    arrays["p"][-1, -1, 2, 3] = 0.01
    figure = per_class(arrays)
    assert "All other differences may be chance; 12 of 24 layers and 10 of 37 classes shown." in texts(figure)
    drawn = {int(name.split(": layer ")[1]) for name in axes_of(figure) if name.startswith("all images")}
    assert len(drawn) == 12
    assert {1, 24} <= drawn
    axes = axes_of(figure)
    np.testing.assert_array_equal(axes["all images: layer 24"].images[0].get_array(), arrays["all_median"][-1])
    for key in ("median", "difference"):
        shown = axes[f"{classes[-1]}: layer 24 {key}"].images[0].get_array()
        np.testing.assert_array_equal(shown, arrays[key][-1, -1])
    assert lines(axes[f"{classes[-1]}: layer 24 difference"]) == square(2, 3)


def test_every_layer_of_a_usual_model_is_drawn(make, axes_of):
    figure = per_class(make("per_class", classes=("cat",), layers=12))
    drawn = {int(name.split(": layer ")[1]) for name in axes_of(figure) if name.startswith("all images")}
    assert drawn == set(range(1, 13))
