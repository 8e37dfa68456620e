"""What position embeddings know of the grid: how alike they are, beside those of an untrained model.

Legend of the shapes: g side of the grid of patches, n = g * g positions.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vitpipe.figures.attention import blocks
from vitpipe.figures.class_attention import marks
from vitpipe.figures.style import DIFFERENCE, MUTED, Sheet, save, spread, styled

MOST = 8  # tiles on a side
AREA, GAP = 560, 4  # pixels: the grid of tiles or the matrix, between tiles
LEFT, TOP, BETWEEN = 12, 126, 48
SCALE = Normalize(-1, 1)
TITLE = "Position embeddings: which positions are alike"
MATRIX = "Position embeddings: all pairs of positions"
NAMES = {"trained": "trained", "untrained": "untrained, as control", "fixed": "sine and cosine, not learned"}


@styled
def positions(arrays: Mapping[str, np.ndarray]) -> Figure:
    """Tiles in the layout of the patches: each maps the cosine similarity of its position to all positions.

    The scale is always -1 to 1, so that noise looks like noise. The untrained model, from the same
    initialisation, is the control; fixed embeddings need none. As in Dosovitskiy et al., arXiv:2010.11929, figure 7.

    Args:
        arrays: what `vitpipe.explain.positions.positions` gives: trained, untrained (n, n) cosine similarities among
            the patch positions, row-major, and token_trained, token_untrained (g, g) those of the class token to
            them, absent without one; or fixed (n, n) alone. Beyond 8 x 8 positions every second (or third,
            ...) row and column is shown; the note says so.
    """
    kinds = present(arrays)
    grid = round(len(arrays[kinds[0]]) ** 0.5)
    step = -(-grid // MOST)
    chosen = range(step // 2, grid, step)
    across = len(chosen)
    tile = min((AREA - GAP * (across - 1)) // across, 132)
    side = across * tile + (across - 1) * GAP
    block, single = max(side, 400), min(max(tile, 96), 132)
    with_token = "token_trained" in arrays
    foot = single + 30 if with_token else 0
    sheet = Sheet(wide(len(kinds), block), TOP + side + 34 + foot + 70)
    note = f"Cosine similarity of each position's embedding to those of all {grid}×{grid}; its own is 1."
    ordinal = {2: "second", 3: "third", 4: "fourth"}.get(step, f"{step}th")
    selection = f"Every {ordinal} row and column of positions is shown. " if step > 1 else ""
    sheet.title(LEFT, 10, TITLE, f"{note}\n{selection}{token_note(arrays)}".rstrip())
    for x, which in columns(kinds, block):
        sheet.text(x, TOP - 6, NAMES[which], size=12.5, weight="bold", va="bottom")
        maps = arrays[which].reshape(grid, grid, grid, grid)
        for i, row in enumerate(chosen):
            for j, column in enumerate(chosen):
                at = x + j * (tile + GAP), TOP + i * (tile + GAP)
                panel = sheet.panel(*at, tile, f"{which}: row {row + 1} column {column + 1}")
                blocks(panel, maps[row, column], norm=SCALE, cmap=DIFFERENCE)
        sheet.text(x, TOP + side + 8, means(arrays[which]), size=10.5)
        if with_token:
            y = TOP + side + 38
            panel = sheet.panel(x, y, single, f"{which}: class token")
            blocks(panel, arrays[f"token_{which}"], norm=SCALE, cmap=DIFFERENCE)
            text = "class token\nto every position"
            sheet.text(x + single + 10, y + single / 2, text, size=10.5, color=MUTED, va="center", linespacing=1.4)
    similarity_bar(sheet)
    return sheet.figure


@styled
def matrix(arrays: Mapping[str, np.ndarray]) -> Figure:
    """All similarities at once: a row and a column for each position, in row-major order, on the scale of the tiles.

    Blocks along the diagonal are positions of one row of the grid, lines parallel to it positions of one column.

    Args:
        arrays: as `positions` takes them. The class token, which has no place in the grid, is a strip of its own.
    """
    kinds = present(arrays)
    count = len(arrays[kinds[0]])
    grid, with_token = round(count**0.5), "token_trained" in arrays
    side = max(1, AREA // count) * count if count <= AREA else AREA  # whole pixels
    block, strip, margin = max(side, 400), 16, 58
    foot = strip + 14 if with_token else 0
    sheet = Sheet(wide(len(kinds), block + margin), TOP + side + foot + 152)
    note = f"Cosine similarity of all {count}×{count} pairs, positions counted row by row; ticks: rows of the grid."
    sheet.title(LEFT, 10, MATRIX, f"{note}\n{token_note(arrays)}".rstrip())
    for start, which in columns(kinds, block + margin):
        x = start + margin
        sheet.text(x, TOP - 6, NAMES[which], size=12.5, weight="bold", va="bottom")
        panel = sheet.panel(x, TOP, side, f"{which}: matrix")
        panel.imshow(arrays[which], norm=SCALE, cmap=DIFFERENCE, interpolation="nearest", aspect="auto")
        grid_rows(panel, grid)
        y = TOP + side + 52
        if with_token:
            axes = sheet.axes(x, y, side, strip, f"{which}: class token")
            axes.set_axis_off()
            axes.imshow(arrays[f"token_{which}"].reshape(1, -1), norm=SCALE, cmap=DIFFERENCE, aspect="auto")
            sheet.text(x - 8, y + strip / 2, "class\ntoken", size=9.5, color=MUTED, ha="right", va="center")
        sheet.text(x, y + foot, means(arrays[which]), size=10.5)
    similarity_bar(sheet)
    return sheet.figure


def draw(arrays: Mapping[str, np.ndarray], folder: Path) -> dict[str, dict[str, str]]:
    """Writes both figures as PNG files; returns their titles and captions by file name."""
    save(positions(arrays), folder / "positions.png")
    save(matrix(arrays), folder / "position_matrix.png")
    first = present(arrays)[0]
    near, far = neighbours(arrays[first])
    learned = "Trained" if first == "trained" else "Sine and cosine, fixed"
    caption = (
        "Tiles lie as the patches do; each shows how alike its embedding is to all others, on a fixed scale. "
        f"{learned}: cosine {signed(near)} to neighbours and {signed(far)} to the others."
    )
    control = " What the untrained model shows as well was not learned." if first == "trained" else ""
    pairs = "The same similarities, all pairs at once: a row and a column for each position, counted row by row."
    return {
        "positions.png": {"title": TITLE, "caption": caption + control},
        "position_matrix.png": {"title": MATRIX, "caption": pairs + control},
    }


def present(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Whose similarities there are: trained and untrained, or fixed."""
    return [name for name in NAMES if name in arrays]


def columns(kinds: list[str], block: int) -> list[tuple[int, str]]:
    """The left edge of each kind's part of a figure, `block` pixels wide."""
    return [(LEFT + i * (block + BETWEEN), name) for i, name in enumerate(kinds)]


def wide(count: int, block: int) -> int:
    """Width in pixels of a figure of `count` parts; at least what the title needs."""
    return max(2 * LEFT + count * block + (count - 1) * BETWEEN, 800)


def token_note(arrays: Mapping[str, np.ndarray]) -> str:
    """Why no class token is shown, if none is."""
    return "" if "token_trained" in arrays or "fixed" in arrays else "There is no class token."


def similarity_bar(sheet: Sheet) -> None:
    """The colour bar at the foot of a figure."""
    bar = sheet.colour_bar(
        LEFT, sheet.height - 56, 420, SCALE, DIFFERENCE, "cosine similarity, scale fixed from −1 to 1"
    )
    marks(bar, [-1, -0.5, 0, 0.5, 1], ["−1", "−0.5", "0", "0.5", "1"])


def grid_rows(panel: Axes, grid: int) -> None:
    """Ticks in the middle of the rows of the grid, at most 16 of them, on both axes of a matrix."""
    rows = spread(grid, 16)
    places, labels = [row * grid + (grid - 1) / 2 for row in rows], [f"{row + 1}" for row in rows]
    panel.set_xticks(places, labels, size=9)
    panel.set_yticks(places, labels, size=9)
    panel.tick_params(length=2)
    panel.set_xlabel("row of the grid", size=9.5)
    panel.set_ylabel("row of the grid", size=9.5)


def means(cosine: np.ndarray) -> str:
    """How alike neighbours and others are, in words."""
    near, far = neighbours(cosine)
    return f"mean over neighbours {signed(near)}, over all others {signed(far)}"


def neighbours(cosine: np.ndarray) -> tuple[float, float]:
    """Mean similarity (n, n) of positions that share an edge, and of all other pairs."""
    grid = round(len(cosine) ** 0.5)
    row, column = np.divmod(np.arange(grid * grid), grid)
    distance = abs(row[:, None] - row) + abs(column[:, None] - column)
    return float(cosine[distance == 1].mean()), float(cosine[distance > 1].mean())


def signed(cosine: float) -> str:
    """Two digits, and no minus before a zero."""
    return f"{round(cosine, 2) + 0.0:.2f}".replace("-", "−")
