"""Position tiles lie where their patches do, on a scale that never changes."""

import numpy as np
import pytest

from vitpipe.figures.positions import draw, matrix, neighbours, positions


def made(grid: int, token: bool = True) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    arrays = {}
    for which in ("trained", "untrained"):
        vectors = random.normal(size=(grid * grid + 1, 8))
        cosine = np.corrcoef(vectors)
        arrays[which] = cosine[1:, 1:]
        if token:
            arrays[f"token_{which}"] = cosine[0, 1:].reshape(grid, grid)
    return arrays


def axes_of(figure) -> dict:
    return {axes.get_label(): axes for axes in figure.axes}


def texts(figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def test_tiles_hold_the_similarities_of_their_position():
    arrays = made(3)
    axes = axes_of(positions(arrays))
    for which in ("trained", "untrained"):
        for token in range(9):
            panel = axes[f"{which}: row {token // 3 + 1} column {token % 3 + 1}"]
            np.testing.assert_array_equal(panel.images[0].get_array(), arrays[which][token].reshape(3, 3))
        np.testing.assert_array_equal(axes[f"{which}: class token"].images[0].get_array(), arrays[f"token_{which}"])
    boxes = [axes[f"trained: row {i} column {j}"].get_position() for i, j in ((1, 1), (1, 2), (2, 1))]
    assert boxes[0].x0 < boxes[1].x0
    assert boxes[0].y0 > boxes[2].y0
    assert boxes[1].x1 < axes["untrained: row 1 column 1"].get_position().x0


def test_scale_is_fixed_whatever_the_values():
    arrays = made(4)
    for name in arrays:
        arrays[name] = arrays[name] * 0.01
    figure = positions(arrays)
    assert {axes.images[0].get_clim() for axes in figure.axes if axes.images} == {(-1, 1)}
    assert axes_of(figure)["colour bar"].get_xlim() == (-1, 1)


def test_no_class_token_is_said():
    figure = positions(made(4, token=False))
    assert not [name for name in axes_of(figure) if "class token" in name]
    assert "There is no class token" in texts(figure)


@pytest.mark.parametrize(("grid", "rows", "word"), [(8, list(range(1, 9)), ""), (16, list(range(2, 17, 2)), "second")])
def test_large_grids_show_some_positions_and_say_so(grid, rows, word):
    figure = positions(made(grid))
    shown = {name for name in axes_of(figure) if name.startswith("trained: row")}
    assert shown == {f"trained: row {i} column {j}" for i in rows for j in rows}
    assert ("Every second row and column" in texts(figure)) == bool(word)


def test_neighbours_share_an_edge():
    cosine = np.full((4, 4), 0.25)  # a 2 x 2 grid: 0 and 3, 1 and 2 lie diagonally
    cosine[[0, 3, 1, 2], [3, 0, 2, 1]] = -0.5
    np.fill_diagonal(cosine, 1)
    assert neighbours(cosine) == (0.25, -0.5)
    figure = positions({"trained": cosine, "untrained": -cosine})
    assert "mean over neighbours 0.25, over all others −0.50" in texts(figure)


def test_matrix_holds_all_pairs_on_the_scale_of_the_tiles():
    arrays = made(4)
    figure = matrix(arrays)
    axes = axes_of(figure)
    for which in ("trained", "untrained"):
        np.testing.assert_array_equal(axes[f"{which}: matrix"].images[0].get_array(), arrays[which])
        strip = axes[f"{which}: class token"].images[0].get_array()
        np.testing.assert_array_equal(strip, arrays[f"token_{which}"].reshape(1, 16))
    assert {axes.images[0].get_clim() for axes in figure.axes if axes.images} == {(-1, 1)}
    assert axes["trained: matrix"].get_position().x1 < axes["untrained: matrix"].get_position().x0
    ticks = axes["trained: matrix"].get_yticks()
    assert list(ticks) == [1.5, 5.5, 9.5, 13.5]  # the middle of the four positions of a row


def test_matrix_without_a_class_token_says_so():
    figure = matrix(made(4, token=False))
    assert not [name for name in axes_of(figure) if "class token" in name]
    assert "There is no class token" in texts(figure)


@pytest.mark.parametrize(("drawn", "panels"), [(positions, 9), (matrix, 1)])
def test_fixed_embeddings_stand_alone(drawn, panels):
    figure = drawn({"fixed": made(3)["trained"]})
    named = [name for name in axes_of(figure) if name.startswith("fixed: ")]
    assert len(named) == panels
    assert len(figure.axes) == panels + 1  # and the colour bar
    assert "not learned" in texts(figure)
    assert "There is no class token" not in texts(figure)


@pytest.mark.parametrize("drawn", [positions, matrix])
@pytest.mark.parametrize("grid", [2, 24])
def test_texts_lie_within_the_figure(drawn, grid):
    for arrays in (made(grid), made(grid, token=False), {"fixed": made(grid)["trained"]}):
        figure = drawn(arrays)
        figure.canvas.draw()
        width, height = figure.get_size_inches() * figure.dpi
        boxes = [text.get_window_extent() for text in figure.texts]
        assert all(0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height for box in boxes)


@pytest.mark.parametrize("grid", [2, 9])
def test_draw_is_the_same_every_time(grid, tmp_path):
    captions = draw(made(grid), tmp_path / "a")
    assert draw(made(grid), tmp_path / "b") == captions
    assert sorted(captions) == sorted(path.name for path in (tmp_path / "a").iterdir())
    assert set(captions) == {"positions.png", "position_matrix.png"}
    for name in captions:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_captions_speak_of_training_where_there_was_some(tmp_path):
    fixed = draw({"fixed": made(3)["trained"]}, tmp_path / "fixed")
    learned = draw(made(3), tmp_path / "learned")
    for name in fixed:
        assert "rained" not in fixed[name]["caption"]
        assert "was not learned" in learned[name]["caption"]
