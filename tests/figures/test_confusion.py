"""Cells, names and totals stand where the matrix says, and nothing that is zero has a colour."""

import numpy as np
import pytest

from vitpipe.figures.confusion import counts, in_percent, recalls

MATRIX = np.array([[90, 10, 0], [0, 3, 1], [2, 0, 1994]])
CLASSES = ["cat", "dog", "ship"]


def axes_of(figure, label: str):
    return next(axes for axes in figure.axes if axes.get_label() == label)


def texts(figure) -> dict[str, list[tuple[float, float]]]:
    """Positions of every text outside the axes, from the top left in pixels."""
    width, height = figure.get_size_inches() * figure.dpi
    found: dict[str, list[tuple[float, float]]] = {}
    for text in figure.texts:
        x, y = text.get_position()
        found.setdefault(text.get_text(), []).append((x * width, (1 - y) * height))
    return found


def cells(figure) -> dict[tuple[int, int], str]:
    """Text in the cell of (row, column)."""
    shown = axes_of(figure, "matrix").texts
    return {(round(y), round(x)): text.get_text() for text in shown for x, y in [text.get_position()]}


def drawn(figure) -> np.ndarray:
    """The matrix behind the colours, 0 where a cell has none."""
    return np.ma.masked_invalid(axes_of(figure, "matrix").images[0].get_array()).filled(0)


def test_counts_are_in_their_cells_on_a_log_scale_and_zeros_are_bare():
    figure = counts(MATRIX, CLASSES)
    np.testing.assert_array_equal(drawn(figure), MATRIX)
    assert cells(figure) == {place: str(value) for place, value in np.ndenumerate(MATRIX) if value}
    image, norm = axes_of(figure, "matrix").images[0], axes_of(figure, "matrix").images[0].norm
    assert list(image.to_rgba(np.ma.masked_invalid([np.nan]))[0]) == [0, 0, 0, 0]  # nothing: the white below
    assert (norm.vmin, norm.vmax) == (1, 1994)
    assert norm(10) - norm(1) == pytest.approx(norm(1000) - norm(100))
    bar = axes_of(figure, "colour bar")
    assert [tick.get_text() for tick in bar.get_xticklabels()] == ["1", "10", "100", "1994"]
    np.testing.assert_allclose(bar.get_xticks(), [1, 10, 100, 1994])
    note = "accuracy 99.38 %: 2087 of 2100 test images on the diagonal"
    shown = {note, "Confusion matrix", "test images, log scale; white: none"}
    assert shown | {"100", "4", "1996", "92", "13", "1995"} <= set(texts(figure))


def test_names_and_totals_stand_beside_their_cells():
    figure = counts(MATRIX, CLASSES)
    shown, box = texts(figure), axes_of(figure, "matrix").get_window_extent()
    height = figure.get_size_inches()[1] * figure.dpi
    side = box.width / 3
    for i, name in enumerate(CLASSES):
        centre_x, centre_y = box.x0 + (i + 0.5) * side, height - box.y1 + (i + 0.5) * side
        rows_name, columns_name = sorted(shown[name])  # the name of the row stands left of the cells
        assert rows_name[0] < box.x0
        assert rows_name[1] == pytest.approx(centre_y)
        assert columns_name[0] == pytest.approx(centre_x)
        assert columns_name[1] < height - box.y1
        [total_right] = shown[str(MATRIX[i].sum())]
        [total_below] = shown[str(MATRIX[:, i].sum())]
        assert total_right[0] > box.x1
        assert total_right[1] == pytest.approx(centre_y)
        assert total_below[0] == pytest.approx(centre_x)
        assert total_below[1] > height - box.y0
    assert shown["actual"][0][0] < box.x0
    assert shown["predicted"][0][1] < height - box.y1


def test_rows_are_percent_of_the_actual_class():
    figure = recalls(MATRIX, CLASSES)
    np.testing.assert_allclose(drawn(figure), 100 * MATRIX / [[100], [4], [1996]])
    assert cells(figure)[0, 0] == "90"
    assert cells(figure)[1, 1] == "75"
    assert cells(figure)[2, 0] == "<1"
    assert cells(figure)[2, 2] == ">99"
    assert (0, 2) not in cells(figure)
    assert axes_of(figure, "matrix").images[0].get_clim() == (0, 100)
    assert "mean of the diagonal (balanced accuracy) 88.30 %" in texts(figure)


@pytest.mark.parametrize(
    ("draw", "note"),
    [
        (recalls, "mean of the diagonal (balanced accuracy) 65.00 %"),
        (counts, "accuracy 65.00 %: 13 of 20 test images on the diagonal"),
    ],
)
def test_classes_without_images_are_said_and_left_out_of_the_mean(draw, note):
    figure = draw(np.array([[8, 2, 0], [0, 0, 0], [0, 5, 5]]), CLASSES)
    assert note in texts(figure)
    matrix = axes_of(figure, "matrix")
    [grey] = matrix.patches
    assert (grey.get_y(), grey.get_height(), grey.get_width()) == (0.5, 1, 3)
    assert [text.get_position() for text in matrix.texts if text.get_text() == "no test images"] == [(1, 1)]
    assert not axes_of(draw(MATRIX, CLASSES), "matrix").patches


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, ""), (0.01, "<1"), (0.5, "<1"), (1.2, "1"), (49.7, "50"), (99.4, "99"), (99.6, ">99"), (100, "100")],
)
def test_percent_is_never_rounded_to_none_or_all(share, text):
    assert in_percent(share) == text


@pytest.mark.parametrize(("draw", "count"), [(counts, 2), (counts, 37), (counts, 100), (recalls, 1)])
def test_everything_lies_on_the_sheet_and_apart(count, draw, inside):
    classes = [f"staffordshire bull terrier $number$ {i}"[-34:] for i in range(count)]
    matrix = np.random.default_rng(0).poisson(2, (count, count)) + 90 * np.eye(count, dtype=int)
    figure = draw(matrix, classes)
    assert inside(figure)
    bar = axes_of(figure, "colour bar").get_window_extent()
    assert not any(text.get_window_extent().overlaps(bar) for text in figure.texts)
    matrix_axes = axes_of(figure, "matrix")
    side = matrix_axes.get_window_extent().width / count
    assert bool(matrix_axes.texts) == (count < 100)
    for text in matrix_axes.texts:
        assert text.get_window_extent().width < side
