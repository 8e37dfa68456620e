"""Confusion matrices: a row per actual class, a column per predicted one, never-seen pairs left white.

Shapes: k classes.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vitpipe.figures.painting import Arrays, Drawn
from vitpipe.figures.style import INK, LINE, MUTED, STRENGTH, Sheet, styled
from vitpipe.figures.text import beginning, extent

CMAP = f"{STRENGTH}_r"  # pale for little, so that white for nothing stands at the right end
LARGEST, SMALLEST = 13.0, 6.5  # type sizes of numbers in cells; where they had to be smaller, there are none
NARROWEST = 720  # room for the note and the label of the colour bar
NONE = "no test images"
COUNTS, ROWS = "Confusion matrix", "Confusion matrix in % of each class"


def draw(arrays: Arrays) -> Drawn:
    """Both matrices with their captions.

    Args:
        arrays: matrix (k, k) integers, row: actual class, column: predicted class; classes (k,), their names.
    """
    matrix, classes = arrays["matrix"], arrays["classes"]
    numbers = "Test images by actual class (rows) and predicted class (columns), logarithmic colours; white: none."
    shares = "Of the test images of each actual class, the share predicted as each class; the diagonal is the recall."
    yield "confusion", counts(matrix, classes), COUNTS, numbers
    yield "confusion_rows", recalls(matrix, classes), ROWS, shares


def counts(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Test images (k, k) per actual and predicted class, logarithmic colours, with totals."""
    right, total = int(np.trace(matrix)), int(matrix.sum())
    note = f"accuracy {100 * right / total:.2f} %: {right} of {total} test images on the diagonal"
    texts = np.array([[str(value) if value else "" for value in row] for row in matrix])
    high = max(10, int(matrix.max()))
    decades = 10.0 ** np.arange(np.log10(high))
    ticks = [*decades[np.log(high / decades) > 0.15 * np.log(high)], high]  # the last label keeps clear of the others
    words = COUNTS, note, "test images, log scale; white: none"
    return table(matrix, matrix, texts, LogNorm(1, high), classes, words, ticks, totals=True)


def recalls(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Of the images (k, k) of each actual class, the percentage that was predicted as each class.

    Colours go from 0 to 100 % in every figure, so that figures compare. Classes without test images are left out of
    the mean.
    """
    seen = matrix.sum(axis=1)
    shares = 100 * matrix / np.maximum(seen, 1)[:, None]
    note = f"mean of the diagonal (balanced accuracy) {np.diag(shares)[seen > 0].mean():.2f} %"
    texts = np.array([[in_percent(value) for value in row] for row in shares])
    words = ROWS, note, "% of the actual class, 0 to 100; white: none"
    return table(matrix, shares, texts, Normalize(0, 100), classes, words, range(0, 101, 20), totals=False)


def in_percent(share: float) -> str:
    """Whole percent, but never a 0 or a 100 that is not exact."""
    if share == 0:
        return ""
    return "<1" if share < 1 else ">99" if 99.5 <= share < 100 else f"{share:.0f}"


@styled
def table(
    matrix: np.ndarray,
    values: np.ndarray,
    texts: np.ndarray,
    norm: Normalize,
    classes: Sequence[str],
    words: tuple[str, str, str],
    ticks: Sequence[float],
    *,
    totals: bool,
) -> Figure:
    """A square of cells with names and totals around it, sized to what they say.

    Args:
        matrix: test images (k, k). Rows without any are grey.
        values: what colours stand for (k, k), white where zero.
        texts: in the cells (k, k), if they fit.
        classes: k names.
        words: title, note and label of the colour bar.
        ticks: of the colour bar.
        totals: whether there are totals below the columns, too.
    """
    names, count = [beginning(str(name), 28) for name in classes], len(classes)
    images, predicted = ([str(total) for total in matrix.sum(axis)] for axis in (1, 0))
    cell = round(np.clip(620 / count, 10, 110))
    size = float(np.clip(0.6 * cell, 6, 11))  # of type outside the cells
    widest, longest = (max(extent(text, size) for text in texts) for texts in (names, predicted))
    on_end = {"rotation": 90} if widest > cell - 6 else {}  # names of columns
    totals_on_end = {"rotation": 90} if longest > cell - 2 else {}
    left, top = round(max(widest, extent("actual", 10.5))) + 24, 88 + (round(widest) if on_end else 20) + 12
    side, below = cell * count, (longest if totals_on_end else 18) if totals else 0
    right = max(extent(text, size) for text in (*images, "images"))
    sheet = Sheet(max(left + side + right + 24, NARROWEST), top + side + below + 88)
    title, note, label = words
    sheet.title(12, 10, title, note)
    panel = sheet.panel(left, top, side, "matrix")
    shown = np.where(matrix == 0, np.nan, values)
    panel.imshow(shown, norm=norm, cmap=CMAP, interpolation="nearest", aspect="auto")
    for line in np.arange(1, count) - 0.5 if cell >= 14 else ():
        panel.axhline(line, color=LINE, linewidth=0.5)
        panel.axvline(line, color=LINE, linewidth=0.5)
    if (in_cells := fitting(texts, cell)) >= SMALLEST:
        for (row, column), text in np.ndenumerate(texts):
            if text:
                colour = on(norm(values[row, column]))
                panel.text(column, row, text, size=in_cells, color=colour, ha="center", va="center_baseline")
    for empty in np.flatnonzero(matrix.sum(1) == 0):
        panel.add_patch(Rectangle((-0.5, empty - 0.5), count, 1, color="0.9", linewidth=0, zorder=3))
        place, style = ((count - 1) / 2, float(empty)), {"ha": "center", "va": "center_baseline"}
        panel.text(*place, NONE, style, size=min(size, 10), color=MUTED, zorder=4)
    for i, name in enumerate(names):
        x, y = left + (i + 0.5) * cell, top + (i + 0.5) * cell
        sheet.text(left - 8, y, name, size=size, ha="right", va="center")
        sheet.text(x, top - 7, name, size=size, ha="center", va="bottom", **on_end)
        sheet.text(left + side + 8, y, images[i], size=size, color=MUTED, va="center")
        if totals:
            sheet.text(x, top + side + 7, predicted[i], size=size, color=MUTED, ha="center", **totals_on_end)
    sheet.text(left - 8, top - 7, "actual", size=10.5, weight="bold", ha="right", va="bottom")
    sheet.text(left, 66, "predicted", size=10.5, weight="bold")
    sheet.text(left + side + 8, top - 7, "images", size=size, color=MUTED, va="bottom")
    if totals:
        sheet.text(left - 8, top + side + 7, "images", size=size, color=MUTED, ha="right")
    width, numbers = float(np.clip(side, 260, 420)), {tick: f"{tick:.0f}" for tick in ticks}
    sheet.colour_bar(left, sheet.height - 56, width, norm, CMAP, label, numbers)
    return sheet.figure


def fitting(texts: np.ndarray, cell: float) -> float:
    """The largest type size with which all texts fit into a cell, at most `LARGEST`."""
    widest = max(extent(text, 10) for text in texts.flat)
    height = 14  # pixels of a digit with its margins in type of 10 points
    return min(LARGEST, 10 * (cell - 3) / max(widest, 1), 10 * (cell - 2) / height)


def on(strength: float) -> str:
    """White or ink, whichever is read better on this part of the colour map."""
    luminance = np.dot(colormaps[CMAP](float(strength))[:3], (0.299, 0.587, 0.114))
    return "white" if luminance < 0.52 else INK
