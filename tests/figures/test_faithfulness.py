"""The words and colours follow the numbers; curves and areas are those of the arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.text import Text

from vitpipe.figures.faithfulness import apart, faithfulness, verdict, words
from vitpipe.figures.style import BLUE, MUTED, ORANGE
from vitpipe.metrics.faithfulness import CONTROLS, NAMES

METHODS = ["raw", "gradient", "integrated"]


def test_verdicts_follow_the_interval(make):
    assert [verdict(make("faithfulness"), "deletion", method) for method in range(3)] == [-1, 0, 1]


def test_title_says_what_to_trust(make):
    arrays = make("faithfulness")
    title, *notes = words(arrays)
    assert title == "Trust integrated gradients: better than the best control in deletion and insertion"
    assert notes == [
        "Score: probability of the class, mean of 7 test images.",
        "Better than a random order in both: integrated gradients.",
    ]
    nothing = "Trust no map: none beats the best control in deletion and insertion and changes with the weights"
    assert words(arrays | {"insertion_gain": arrays["insertion_gain"] - 1})[0] == nothing
    every = {f"{curve}_gain": np.full((3, 3), 0.1) for curve in ("deletion", "insertion")}
    assert words(arrays | every)[0].startswith("Trust raw attention, gradient and integrated gradients: ")
    assert "random order in both: none." in words(arrays | {"deletion_over_random": np.zeros((3, 3))})[2]


def test_a_map_that_random_weights_leave_alone_is_not_to_be_trusted(make):
    arrays = make("faithfulness")
    arrays["correlations"][[0, 2], -1] = [0.9, 0.8, 1]
    title, *notes = words(arrays)
    assert title.startswith("Trust no map: ")
    assert notes[-1] == "Much the same with random weights, so not learned: raw attention and integrated gradients."


@pytest.mark.parametrize("share", [(0, 0.5, 1), (0, 0.1, 1)])
def test_curves_are_those_of_the_arrays(make, axes_of, share):
    arrays = make("faithfulness", share=share)
    axes = axes_of(faithfulness(arrays))
    x = np.array(share) if share[1] == 0.5 else np.sqrt(share)
    for curve in ("deletion", "insertion"):
        for m, name in enumerate(METHODS):
            panel = axes[f"{curve}: {name}"]
            *controls, line = panel.lines
            np.testing.assert_allclose(line.get_ydata(), arrays[curve][m, 0])
            np.testing.assert_allclose(line.get_xdata(), x)
            assert to_hex(line.get_color()).upper() == (ORANGE, MUTED, BLUE)[m].upper()
            for c, control in enumerate(controls):
                assert control.get_label() == arrays["controls"][c]
                np.testing.assert_allclose(control.get_ydata(), arrays[curve][3 + c, 0])
            band = panel.collections[0].get_paths()[0].vertices[:, 1]
            assert band.min() == pytest.approx(arrays[curve][m, 1].min())
            assert band.max() == pytest.approx(arrays[curve][m, 2].max())


def test_texts_lie_within_the_figure(make):
    """With the longest names, three of them to be trusted or all alike with random weights."""
    every = make("faithfulness", controls=("centre", "edge", "near", "random"))
    every["methods"] = np.array(["gradient_input", "integrated", "local"])
    for curve in ("deletion", "insertion"):
        every[f"{curve}_gain"] = every[f"{curve}_over_random"] = np.full((3, 3), 0.1)
    for correlation in (0.1, 0.9):
        figure = faithfulness(every | {"correlations": np.full((3, 2, 3), correlation)})
        figure.canvas.draw()
        for text in [text for text in figure.findobj(Text) if text.get_text()]:
            box = text.get_window_extent()
            assert 0 <= box.x0 < box.x1 <= figure.bbox.x1, text
            assert 0 <= box.y0 < box.y1 <= figure.bbox.y1, text


@pytest.mark.parametrize(("curve", "sign"), [("deletion", 1), ("insertion", -1)])
def test_areas_are_ranked_with_the_best_on_top(make, axes_of, curve, sign):
    arrays = make("faithfulness")
    axes = axes_of(faithfulness(arrays))[f"{curve} areas"]
    names = [NAMES[name] for name in METHODS] + [CONTROLS[name] for name in arrays["controls"]]
    order = np.argsort(sign * arrays[f"{curve}_area"][:, 0])
    assert [label.get_text() for label in axes.get_yticklabels()] == [names[i] for i in order]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    bars = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    for y, i in enumerate(order):
        assert list(bars[y].get_xdata()) == arrays[f"{curve}_area"][i, 1:].tolist()
    assert [text.get_text() for text in axes.texts] == [f"{arrays[f'{curve}_area'][i, 0]:.3f}" for i in order]


def test_randomised_lines_begin_at_one_and_end_at_their_labels(make, axes_of):
    arrays = make("faithfulness")
    axes = axes_of(faithfulness(arrays))["randomised"]
    lines = {line.get_label(): line for line in axes.lines if line.get_label() in METHODS}
    for m, name in enumerate(METHODS):
        assert list(lines[name].get_ydata()) == [1, *arrays["correlations"][m, :, 0]]
        assert axes.texts[m].get_text() == f"{NAMES[name]} 0.10"
    heights = sorted(text.xyann[1] for text in axes.texts)
    assert np.diff(heights).min() > 0.05


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=7))
def test_labels_keep_apart_and_near(values):
    values = np.array(values)
    places = apart(values, 0.2, -1, 1)
    assert (np.diff(np.sort(places)) >= 0.2 - 1e-9).all()
    assert places.min() >= -1 - 1e-9
    assert places.max() <= 1 + 1e-9
    order = np.argsort(values)
    assert (np.diff(places[order]) > 0).all()
    if len(values) == 1:
        assert places == pytest.approx(values)
