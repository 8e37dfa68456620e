"""Every head is drawn at its layer and distance, beside the untrained one."""

import numpy as np
import pytest

from vitpipe.figures.distances import distances


def dots(figure) -> dict[str, np.ndarray]:
    """Places (l * h, 2) of trained and untrained dots."""
    return {line.get_label(): line.get_xydata() for line in figure.axes[0].lines if line.get_marker() == "o"}


def test_dots_are_the_distances_of_their_layer(make):
    arrays = make("distances")
    found = dots(distances(arrays))
    for name in ("trained", "untrained"):
        np.testing.assert_array_equal(found[name][:, 1], arrays[name].ravel())
        np.testing.assert_array_equal(found[name][:, 0].round(), np.repeat([1, 2, 3], 4))
        assert (np.diff(found[name][:, 0]) > 0).all()  # heads in order, none upon another
    gap = found["trained"][:, 0] - found["untrained"][:, 0]
    assert (gap > 0).all()
    assert gap.max() < np.diff(found["trained"][:, 0]).min()  # the hollow dot is that of the head beside it


def test_hollow_dots_are_untrained_uniform_is_a_line_and_bars_are_means_of_layers(make, texts):
    arrays = make("distances")
    figure = distances(arrays)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["untrained"].get_markerfacecolor() == "white"
    assert lines["trained"].get_markerfacecolor() == lines["trained"].get_color() != "white"
    assert [line.get_ydata()[0] for line in lines.values() if line.get_linestyle() == "--"] == [21]
    assert "21.0 px" in texts(figure)
    segments = np.array(figure.axes[0].collections[0].get_segments())  # l, ends, xy
    np.testing.assert_allclose(segments[:, 0, 1], arrays["trained"].mean(1))


@pytest.mark.parametrize("uniform", [5.0, 90.0])
def test_the_axis_starts_at_zero_and_holds_all(make, uniform):
    arrays = make("distances") | {"uniform": np.array(uniform)}
    low, high = distances(arrays).axes[0].get_ylim()
    assert low == 0
    assert high > max(arrays["trained"].max(), arrays["untrained"].max(), uniform)
    assert distances(arrays).axes[0].get_ylabel() == "distance in px of the input"


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (2, 32), (12, 32)])
def test_texts_and_dots_lie_within_the_figure(make, inside, layers, heads):
    figure = distances(make("distances", layers=layers, heads=heads))
    assert inside(figure)
    low, high = figure.axes[0].get_xlim()
    assert all(((places[:, 0] > low) & (places[:, 0] < high)).all() for places in dots(figure).values())
