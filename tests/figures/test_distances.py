"""Every head is drawn at its layer and distance, beside the untrained one."""

import numpy as np
import pytest

from vitpipe.figures.distances import distances, draw


def made(layers: int = 3, heads: int = 4) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    trained, untrained = random.uniform(2, 30, (layers, heads)), random.uniform(20, 22, (layers, heads))
    return {"trained": trained, "untrained": untrained, "uniform": np.array(21.0)}


def dots(figure) -> dict[str, np.ndarray]:
    """Places (l * h, 2) of trained and untrained dots."""
    return {line.get_label(): line.get_xydata() for line in figure.axes[0].lines if line.get_marker() == "o"}


def test_dots_are_the_distances_of_their_layer():
    arrays = made()
    found = dots(distances(arrays))
    for name in ("trained", "untrained"):
        np.testing.assert_array_equal(found[name][:, 1], arrays[name].ravel())
        np.testing.assert_array_equal(found[name][:, 0].round(), np.repeat([1, 2, 3], 4))
        assert (np.diff(found[name][:, 0]) > 0).all()  # heads in order, none upon another
    gap = found["trained"][:, 0] - found["untrained"][:, 0]
    assert (gap > 0).all()
    assert gap.max() < np.diff(found["trained"][:, 0]).min()  # the hollow dot is that of the head beside it


def test_hollow_dots_are_the_untrained():
    lines = {line.get_label(): line for line in distances(made()).axes[0].lines}
    assert lines["untrained"].get_markerfacecolor() == "white"
    assert lines["trained"].get_markerfacecolor() == lines["trained"].get_color() != "white"


def test_uniform_is_a_line_and_written():
    figure = distances(made())
    assert [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_linestyle() == "--"] == [21]
    assert any("21.0 px" in text.get_text() for text in figure.texts)


def test_bars_are_the_means_of_the_layers():
    arrays = made()
    segments = np.array(distances(arrays).axes[0].collections[0].get_segments())  # l, ends, xy
    np.testing.assert_allclose(segments[:, 0, 1], arrays["trained"].mean(1))


@pytest.mark.parametrize("uniform", [5.0, 90.0])
def test_the_axis_starts_at_zero_and_holds_all(uniform):
    arrays = made() | {"uniform": np.array(uniform)}
    low, high = distances(arrays).axes[0].get_ylim()
    assert low == 0
    assert high > max(arrays["trained"].max(), arrays["untrained"].max(), uniform)
    assert distances(arrays).axes[0].get_ylabel() == "distance in px of the LR input"


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (2, 32), (12, 32)])
def test_texts_and_dots_lie_within_the_figure(layers, heads):
    figure = distances(made(layers, heads))
    figure.canvas.draw()
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [text.get_window_extent() for text in figure.texts]
    assert all(0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height for box in boxes)
    low, high = figure.axes[0].get_xlim()
    assert all(((places[:, 0] > low) & (places[:, 0] < high)).all() for places in dots(figure).values())


def test_draw_is_the_same_every_time(tmp_path):
    captions = draw(made(), tmp_path / "a")
    assert draw(made(), tmp_path / "b") == captions
    assert list(captions) == ["distances.png"] == [path.name for path in (tmp_path / "a").iterdir()]
    assert (tmp_path / "a" / "distances.png").read_bytes() == (tmp_path / "b" / "distances.png").read_bytes()
    assert "21.0 px" in captions["distances.png"]["caption"]
