"""Position tiles lie where their patches do, on a scale that never changes."""

import numpy as np
import pytest

from vitpipe.figures.positions import draw, neighbours, positions


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


@pytest.mark.parametrize("absent", [{}, {"token_trained": np.nan, "token_untrained": np.full((4, 4), np.nan)}])
def test_no_class_token_is_said(absent):
    figure = positions(made(4, token=False) | absent)
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


@pytest.mark.parametrize("grid", [2, 9])
def test_draw_is_the_same_every_time(grid, tmp_path):
    captions = draw(made(grid), tmp_path / "a")
    assert draw(made(grid), tmp_path / "b") == captions
    assert list(captions) == [path.name for path in (tmp_path / "a").iterdir()] == ["positions.png"]
    assert (tmp_path / "a" / "positions.png").read_bytes() == (tmp_path / "b" / "positions.png").read_bytes()
