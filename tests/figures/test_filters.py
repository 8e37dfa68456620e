"""Filters keep their signs and sizes on the one scale of the figure."""

import numpy as np
import pytest

from vitpipe.figures.filters import filters, percent


def tiles(figure, name: str = "trained") -> list:
    return [axes for axes in figure.axes if axes.get_label().startswith(f"{name} ")]


def test_tiles_hold_their_component_on_one_scale_around_grey(make, texts):
    arrays = make("filters")
    limit = max(np.abs(arrays["trained"]).max(), np.abs(arrays["untrained"][:3]).max())
    figure = filters(arrays)
    for name, count in (("trained", 28), ("untrained", 3)):
        panels = tiles(figure, name)
        assert [axes.get_label() for axes in panels] == [f"{name} {i + 1}" for i in range(count)]
        for i, axes in enumerate(panels):
            drawn = np.asarray(axes.images[0].get_array())
            np.testing.assert_allclose((drawn - 0.5) * 2 * limit, arrays[name][i], atol=1e-5)
            assert axes.images[0].get_interpolation() == "nearest"
    assert f"black is −{limit:.2g} and white {limit:.2g}" in texts(figure)


def test_seven_to_a_row_with_what_they_explain_below(make):
    arrays = make("filters", count=12)
    figure = filters(arrays)
    places = [axes.get_position() for axes in tiles(figure)]
    assert len({place.y0 for place in places}) == 2
    assert [place.y0 for place in places[:7]] == [places[0].y0] * 7
    assert places[7].x0 == places[0].x0
    assert places[7].y1 < places[0].y0
    for place, share in zip(places, arrays["trained_explained"], strict=True):
        below = [
            t for t in figure.texts if abs(t.get_position()[0] - place.x0) < 1e-6 and t.get_position()[1] < place.y0
        ]
        assert max(below, key=lambda text: text.get_position()[1]).get_text() == percent(share)


def test_rings_too_faint_to_see_are_left_out_and_that_is_said(make, texts):
    arrays = make("filters", reach=3)
    for name in ("trained", "untrained"):
        outer = np.ones((9, 9), bool)
        outer[2:-2, 2:-2] = False
        arrays[name][:, outer] *= 1e-4
    arrays["trained"][5, 4, 1] = 1.0  # one pixel of the middle ring is seen
    figure = filters(arrays)
    assert {axes.images[0].get_array().shape for axes in figure.axes if axes.images} == {(7, 7, 3)}
    assert "2 are drawn" in texts(figure)
    box = tiles(figure)[0].patches[0].get_bbox()
    assert (box.x0, box.y0, box.x1, box.y1) == (1.5, 1.5, 4.5, 4.5)
    np.testing.assert_allclose(np.asarray(tiles(figure)[5].images[0].get_array())[3, 0] > 0.5, True)


def test_bare_patches_have_no_frame_and_no_talk_of_convolutions(make, texts):
    figure = filters(make("filters", count=3, reach=0))
    assert not tiles(figure)[0].patches
    assert "A tile is a patch of 3×3 pixels" in texts(figure)
    assert "convolutions" not in texts(figure)


def test_the_curve_adds_up(make, axes_of):
    arrays = make("filters", count=6)
    axes = axes_of(filters(arrays))["cumulative"]
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    for name in ("trained", "untrained"):
        np.testing.assert_array_equal(lines[name][:, 0], np.arange(1, 7))
        np.testing.assert_allclose(lines[name][:, 1], 100 * np.cumsum(arrays[f"{name}_explained"]))


@pytest.mark.parametrize(("count", "patch", "reach"), [(1, 2, 0), (28, 3, 5), (9, 32, 5)])
def test_texts_lie_within_the_figure(make, inside, count, patch, reach):
    figure = filters(make("filters", count=count, patch=patch, reach=reach))
    assert inside(figure)
    for axes in tiles(figure):
        side = axes.get_window_extent().width
        assert round(side) == round(axes.get_window_extent().height)
        shown = axes.images[0].get_array().shape[0]
        assert round(side) % shown == 0  # every pixel as large


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.5, "50 %"), (0.0994, "9.9 %"), (0.0996, "10 %"), (0.004, "0.4 %"), (1e-5, "< 0.1 %"), (0, "0.0 %")],
)
def test_percent(share, text):
    assert percent(share) == text
