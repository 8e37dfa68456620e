"""What position embeddings know of the grid: how alike they are, beside those of an untrained model.

Shapes: g patches along one side of the grid (rows or columns), n patches in all.
"""

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vitpipe.figures.painting import Arrays, Drawn, blocks
from vitpipe.figures.style import DIFFERENCE, MUTED, Sheet, spread, styled

MOST = 8  # tiles on a side
AREA, GAP = 560, 4  # pixels: the grid of tiles or the matrix, between tiles
LEFT, TOP, BETWEEN = 12, 126, 48
SCALE = Normalize(-1, 1)
TITLE = "Position embeddings: which positions are alike"
MATRIX = "Position embeddings: all pairs of positions"
NAMES = {"trained": "trained", "untrained": "untrained, as control", "fixed": "sine and cosine, not learned"}


def draw(arrays: Arrays) -> Drawn:
    """Tiles and matrix with their captions.

    Args:
        arrays: trained, untrained (n, n), cosine similarities among the patch positions, row-major, and where there
            is a class token cls_token_trained, cls_token_untrained (g, g), its similarities to them; or fixed (n, n)
            alone. grid (2,), rows and columns; a square without it.
    """
    first = present(arrays)[0]
    near, far = neighbours(arrays[first], grid_of(arrays))
    learned = "Trained" if first == "trained" else "Sine and cosine, fixed"
    tiles = (
        "Each tile stands at the place of its patch and shows the similarity of its embedding to all others, on a "
        "fixed scale. "
        f"{learned}: cosine {signed(near)} to neighbours and {signed(far)} to the others."
    )
    pairs = "The same similarities, all pairs at once: a row and a column for each position, counted row by row."
    control = " What the untrained model shows as well was not learned." if first == "trained" else ""
    yield "positions", positions(arrays), TITLE, tiles + control
    yield "position_matrix", matrix(arrays), MATRIX, pairs + control


@styled
def positions(arrays: Arrays) -> Figure:
    """Tiles in the layout of the patches: each maps the cosine similarity of its position to all positions.

    The scale is always -1 to 1, so that noise looks like noise. The untrained model, from the same
    initialisation, is the control; fixed embeddings need none. As in Dosovitskiy et al., arXiv:2010.11929, figure 7.
    Beyond 8 x 8 positions every second (or third, ...) row and column is shown; the note says so. `arrays`: see `draw`.
    """
    grid = grid_of(arrays)
    step = -(-max(grid) // MOST)
    rows, columns = (range(step // 2, side, step) for side in grid)
    across = max(len(rows), len(columns))
    tile = min((AREA - GAP * (across - 1)) // across, 132)
    height, width = (len(shown) * (tile + GAP) - GAP for shown in (rows, columns))
    single = min(max(tile, 96), 132) if "cls_token_trained" in arrays else 0
    note = f"Cosine similarity of each position's embedding to those of all {grid[0]}×{grid[1]}; its own is 1.\n"
    ordinal = {2: "second", 3: "third", 4: "fourth"}.get(step, f"{step}th")
    note += f"Every {ordinal} row and column of positions is shown. " if step > 1 else ""
    sheet, places = parts(arrays, (TITLE, note), max(width, 400), height + 34 + (single + 30 if single else 0), 0)
    for which, x in places.items():
        maps = arrays[which].reshape(*grid, *grid)
        for down, row in enumerate(rows):
            for right, column in enumerate(columns):
                at = x + right * (tile + GAP), TOP + down * (tile + GAP)
                panel = sheet.panel(*at, tile, f"{which}: row {row + 1} column {column + 1}")
                blocks(panel, maps[row, column], norm=SCALE, cmap=DIFFERENCE)
        sheet.text(x, TOP + height + 8, means(arrays[which], grid), size=10.5)
        if single:
            y, text = TOP + height + 38, "class token\nto every position"
            panel = sheet.panel(x, y, single, f"{which}: class token")
            blocks(panel, arrays[f"cls_token_{which}"], norm=SCALE, cmap=DIFFERENCE)
            sheet.text(x + single + 10, y + single / 2, text, size=10.5, color=MUTED, va="center", linespacing=1.4)
    return sheet.figure


@styled
def matrix(arrays: Arrays) -> Figure:
    """All similarities at once: a row and a column for each position, in row-major order, on the scale of the tiles.

    Blocks along the diagonal are positions of one row of the grid, lines parallel to it positions of one column. The
    class token, which has no place in the grid, is a strip of its own. `arrays`: see `draw`.
    """
    grid = grid_of(arrays)
    count = grid[0] * grid[1]
    side = max(1, AREA // count) * count if count <= AREA else AREA  # whole pixels
    strip = 16 if "cls_token_trained" in arrays else 0
    note = f"Cosine similarity of all {count}×{count} pairs, positions counted row by row; ticks: rows of the grid.\n"
    foot = strip + 14 if strip else 0
    sheet, places = parts(arrays, (MATRIX, note), max(side, 400), side + foot + 82, 58)
    for which, x in places.items():
        panel = sheet.panel(x, TOP, side, f"{which}: matrix")
        panel.imshow(arrays[which], norm=SCALE, cmap=DIFFERENCE, interpolation="nearest", aspect="auto")
        rows = spread(grid[0], 16)
        for axis in (panel.xaxis, panel.yaxis):  # ticks in the middle of the rows of the grid
            axis.set_ticks([(row + 0.5) * grid[1] - 0.5 for row in rows], [f"{row + 1}" for row in rows], size=9)
            axis.set_label_text("row of the grid", size=9.5)
        panel.tick_params(length=2)
        y = TOP + side + 52
        if strip:
            axes = sheet.axes(x, y, side, strip, f"{which}: class token")
            axes.set_axis_off()
            axes.imshow(arrays[f"cls_token_{which}"].reshape(1, -1), norm=SCALE, cmap=DIFFERENCE, aspect="auto")
            sheet.text(x - 8, y + strip / 2, "class\ntoken", size=9.5, color=MUTED, ha="right", va="center")
        sheet.text(x, y + foot, means(arrays[which], grid), size=10.5)
    return sheet.figure


def parts(arrays: Arrays, words: tuple[str, str], width: int, height: int, margin: int) -> tuple[Sheet, dict[str, int]]:
    """A sheet with title, colour bar and the name of each kind of similarities, and the left edge of its part.

    `width` and `height` are the size of a part in pixels, to the right of its margin and below `TOP`.
    """
    kinds, (title, note) = present(arrays), words
    step = margin + width + BETWEEN
    sheet = Sheet(max(2 * LEFT + len(kinds) * step - BETWEEN, 800), TOP + height + 70)
    known = "cls_token_trained" in arrays or "fixed" in arrays
    sheet.title(LEFT, 10, title, f"{note}{'' if known else 'There is no class token.'}".rstrip())
    places = {which: LEFT + margin + i * step for i, which in enumerate(kinds)}
    for which, x in places.items():
        sheet.text(x, TOP - 6, NAMES[which], size=12.5, weight="bold", va="bottom")
    label, ticks = "cosine similarity, scale fixed from −1 to 1", {-1: "−1", -0.5: "−0.5", 0: "0", 0.5: "0.5", 1: "1"}
    sheet.colour_bar(LEFT, sheet.height - 56, 420, SCALE, DIFFERENCE, label, ticks)
    return sheet, places


def present(arrays: Arrays) -> list[str]:
    """Whose similarities there are: trained and untrained, or fixed."""
    return [name for name in NAMES if name in arrays]


def grid_of(arrays: Arrays) -> tuple[int, int]:
    """Rows and columns of the grid of patches."""
    side = round(len(arrays[present(arrays)[0]]) ** 0.5)
    rows, columns = arrays.get("grid", (side, side))
    return int(rows), int(columns)


def means(cosine: np.ndarray, grid: tuple[int, int]) -> str:
    """How alike neighbours and others are, in words."""
    near, far = neighbours(cosine, grid)
    return f"mean over neighbours {signed(near)}, over all others {signed(far)}"


def neighbours(cosine: np.ndarray, grid: tuple[int, int]) -> tuple[float, float]:
    """Mean similarity, of (n, n), of positions that share an edge, and of all other pairs."""
    row, column = np.divmod(np.arange(len(cosine)), grid[1])
    distance = abs(row[:, None] - row) + abs(column[:, None] - column)
    return float(cosine[distance == 1].mean()), float(cosine[distance > 1].mean())


def signed(cosine: float) -> str:
    """Two digits, and no minus before a zero."""
    return f"{round(cosine, 2) + 0.0:.2f}".replace("-", "−")
