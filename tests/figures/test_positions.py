"""Position tiles lie where their patches do, on a scale that never changes."""

import numpy as np
import pytest

from vitpipe.figures.positions import draw, matrix, neighbours, positions


def test_tiles_hold_the_similarities_of_their_position(make, axes_of):
    arrays = make("positions")
    axes = axes_of(positions(arrays))
    for which in ("trained", "untrained"):
        for token in range(9):
            panel = axes[f"{which}: row {token // 3 + 1} column {token % 3 + 1}"]
            np.testing.assert_array_equal(panel.images[0].get_array(), arrays[which][token].reshape(3, 3))
        np.testing.assert_array_equal(axes[f"{which}: class token"].images[0].get_array(), arrays[f"cls_token_{which}"])
    boxes = [axes[f"trained: row {i} column {j}"].get_position() for i, j in ((1, 1), (1, 2), (2, 1))]
    assert boxes[0].x0 < boxes[1].x0
    assert boxes[0].y0 > boxes[2].y0
    assert boxes[1].x1 < axes["untrained: row 1 column 1"].get_position().x0


def test_scale_is_fixed_whatever_the_values(make, axes_of):
    arrays = make("positions")
    figure = positions({name: values * (1 if name == "grid" else 0.01) for name, values in arrays.items()})
    assert {axes.images[0].get_clim() for axes in figure.axes if axes.images} == {(-1, 1)}
    assert axes_of(figure)["colour bar"].get_xlim() == (-1, 1)


@pytest.mark.parametrize("drawn", [positions, matrix])
def test_no_class_token_is_said(make, axes_of, texts, drawn):
    figure = drawn(make("positions", token=False))
    assert not [name for name in axes_of(figure) if "class token" in name]
    assert "There is no class token" in texts(figure)


@pytest.mark.parametrize(("grid", "rows", "word"), [(8, list(range(1, 9)), ""), (16, list(range(2, 17, 2)), "second")])
def test_large_grids_show_some_positions_and_say_so(make, axes_of, texts, grid, rows, word):
    figure = positions(make("positions", grid=(grid, grid), token=False))
    shown = {name for name in axes_of(figure) if name.startswith("trained: row")}
    assert shown == {f"trained: row {i} column {j}" for i in rows for j in rows}
    assert ("Every second row and column" in texts(figure)) == bool(word)


def test_neighbours_share_an_edge(texts):
    cosine = np.full((4, 4), 0.25)  # a 2 x 2 grid: 0 and 3, 1 and 2 lie diagonally
    cosine[[0, 3, 1, 2], [3, 0, 2, 1]] = -0.5
    np.fill_diagonal(cosine, 1)
    assert neighbours(cosine, (2, 2)) == (0.25, -0.5)
    assert neighbours(np.arange(9).reshape(3, 3), (1, 3)) == (4, 4)
    assert neighbours(np.eye(6, k=3), (2, 3)) == (3 / 14, 0)
    figure = positions({"trained": cosine, "untrained": -cosine})
    assert "mean over neighbours 0.25, over all others −0.50" in texts(figure)


def test_matrix_holds_all_pairs_on_the_scale_of_the_tiles(make, axes_of):
    arrays = make("positions", grid=(3, 4))
    figure = matrix(arrays)
    axes = axes_of(figure)
    for which in ("trained", "untrained"):
        np.testing.assert_array_equal(axes[f"{which}: matrix"].images[0].get_array(), arrays[which])
        strip = axes[f"{which}: class token"].images[0].get_array()
        np.testing.assert_array_equal(strip, arrays[f"cls_token_{which}"].reshape(1, 12))
    assert {axes.images[0].get_clim() for axes in figure.axes if axes.images} == {(-1, 1)}
    assert axes["trained: matrix"].get_position().x1 < axes["untrained: matrix"].get_position().x0
    ticks = axes["trained: matrix"].get_yticks()
    assert list(ticks) == [1.5, 5.5, 9.5]  # the middle of the four positions of a row


@pytest.mark.parametrize(("drawn", "panels"), [(positions, 9), (matrix, 1)])
def test_fixed_embeddings_stand_alone(make, axes_of, texts, drawn, panels):
    figure = drawn(make("positions", fixed=True))
    named = [name for name in axes_of(figure) if name.startswith("fixed: ")]
    assert len(named) == panels
    assert len(figure.axes) == panels + 1  # and the colour bar
    assert "not learned" in texts(figure)
    assert "There is no class token" not in texts(figure)


@pytest.mark.parametrize("drawn", [positions, matrix])
@pytest.mark.parametrize("grid", [(2, 2), (3, 24)])
def test_texts_lie_within_the_figure(make, inside, drawn, grid):
    for options in ({}, {"token": False}, {"fixed": True}):
        arrays = make("positions", grid=grid, **options)
        if grid == (2, 2):
            del arrays["grid"]  # a square where it is not told
        assert inside(drawn(arrays))


def test_captions_speak_of_training_where_there_was_some(make):
    for fixed in (False, True):
        for _, _, _, caption in draw(make("positions", grid=(2, 2), fixed=fixed)):
            assert ("rained" in caption) == ("was not learned" in caption) == (not fixed)
