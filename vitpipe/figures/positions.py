"""What learned position embeddings know of the grid: how alike they are, beside those of an untrained model."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vitpipe.figures.attention import blocks
from vitpipe.figures.class_attention import marks
from vitpipe.figures.style import DIFFERENCE, MUTED, Sheet, save, styled

MOST = 8  # tiles on a side
AREA, GAP = 560, 4  # pixels: the grid of tiles, between tiles
SCALE = Normalize(-1, 1)
TITLE = "Position embeddings: which positions are alike"


@styled
def positions(arrays: Mapping[str, np.ndarray]) -> Figure:
    """Tiles in the layout of the patches: each maps the cosine similarity of its position to all positions.

    The scale is always -1 to 1, so that noise looks like noise. The untrained model, from the same
    initialisation, is the control. As in Dosovitskiy et al., arXiv:2010.11929, figure 7.

    Args:
        arrays: trained, untrained (n, n) cosine similarities among the n = g*g patch positions, row-major;
            token_trained, token_untrained (g, g) those of the class token to them, absent or nan without one.
            Beyond 8 x 8 positions every second (or third, ...) row and column is shown; the note says so.
    """
    grid = round(len(arrays["trained"]) ** 0.5)
    step = -(-grid // MOST)
    chosen = range(step // 2, grid, step)
    across = len(chosen)
    tile = min((AREA - GAP * (across - 1)) // across, 132)
    side = across * tile + (across - 1) * GAP
    block = max(side, 400)
    left, top, between, single = 12, 112, 48, min(max(tile, 96), 132)
    with_token = has_token(arrays)
    foot = single + 30 if with_token else 0
    sheet = Sheet(2 * left + 2 * block + between, top + side + 34 + foot + 70)
    note = f"Cosine similarity of each position's embedding to those of all {grid}×{grid}; its own is 1."
    if step > 1:
        ordinal = {2: "second", 3: "third", 4: "fourth"}.get(step, f"{step}th")
        note += f" Every {ordinal} row and column of positions is shown."
    sheet.title(left, 10, TITLE, note if with_token else f"{note} There is no class token.")
    for x, which, name in (
        (left, "trained", "trained"),
        (left + block + between, "untrained", "untrained, as control"),
    ):
        sheet.text(x, top - 6, name, size=12.5, weight="bold", va="bottom")
        maps = arrays[which].reshape(grid, grid, grid, grid)
        for i, row in enumerate(chosen):
            for j, column in enumerate(chosen):
                at = x + j * (tile + GAP), top + i * (tile + GAP)
                panel = sheet.panel(*at, tile, f"{which}: row {row + 1} column {column + 1}")
                blocks(panel, maps[row, column], norm=SCALE, cmap=DIFFERENCE)
        near, far = neighbours(arrays[which])
        means = f"mean over neighbours {signed(near)}, over all others {signed(far)}"
        sheet.text(x, top + side + 8, means, size=10.5)
        if with_token:
            y = top + side + 38
            blocks(
                sheet.panel(x, y, single, f"{which}: class token"), token(arrays, which), norm=SCALE, cmap=DIFFERENCE
            )
            text = "class token\nto every position"
            sheet.text(x + single + 10, y + single / 2, text, size=10.5, color=MUTED, va="center", linespacing=1.4)
    bar = sheet.colour_bar(
        left, sheet.height - 56, 420, SCALE, DIFFERENCE, "cosine similarity, scale fixed from −1 to 1"
    )
    marks(bar, [-1, -0.5, 0, 0.5, 1], ["−1", "−0.5", "0", "0.5", "1"])
    return sheet.figure


def draw(arrays: Mapping[str, np.ndarray], folder: Path) -> dict[str, dict[str, str]]:
    """Writes the figure as a PNG file; returns its title and caption by file name."""
    save(positions(arrays), folder / "positions.png")
    near, far = neighbours(arrays["trained"])
    caption = (
        "Tiles lie as the patches do; each shows how alike its embedding is to all others, on a fixed scale. "
        f"Trained: cosine {signed(near)} to neighbours and {signed(far)} to the others. What the untrained model shows "
        "as well was not learned."
    )
    return {"positions.png": {"title": TITLE, "caption": caption}}


def neighbours(cosine: np.ndarray) -> tuple[float, float]:
    """Mean similarity (n, n) of positions that share an edge, and of all other pairs."""
    grid = round(len(cosine) ** 0.5)
    row, column = np.divmod(np.arange(grid * grid), grid)
    distance = abs(row[:, None] - row) + abs(column[:, None] - column)
    return float(cosine[distance == 1].mean()), float(cosine[distance > 1].mean())


def signed(cosine: float) -> str:
    """Two digits, and no minus before a zero."""
    return f"{round(cosine, 2) + 0.0:.2f}".replace("-", "−")


def token(arrays: Mapping[str, np.ndarray], which: str) -> np.ndarray:
    """(g, g) similarity of the class token to all positions; empty without one."""
    return np.asarray(arrays.get(f"token_{which}", np.empty((0, 0))))


def has_token(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether the similarities of a class token are there."""
    return all(
        token(arrays, which).ndim == 2 and np.isfinite(token(arrays, which)).any() for which in ("trained", "untrained")
    )
