"""Confusion matrices: a row per actual class, a column per predicted one, never-seen pairs left white."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vitpipe.figures.style import INK, LINE, MUTED, STRENGTH, Sheet, styled
from vitpipe.figures.text import beginning, extent

CMAP = f"{STRENGTH}_r"  # pale for little, so that white for nothing stands at the right end
LARGEST, SMALLEST = 13.0, 6.5  # type sizes of numbers in cells; where they had to be smaller, there are none
NARROWEST = 720  # room for the note and the label of the colour bar
NONE = "no test images"


@styled
def counts(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Test images per actual and predicted class, logarithmic colours, with totals.

    Args:
        matrix: (c, c) integers, row: actual class, column: predicted class.
        classes: their c names.
    """
    right, total = int(np.trace(matrix)), int(matrix.sum())
    note = f"accuracy {100 * right / total:.2f} %: {right} of {total} test images on the diagonal"
    norm = LogNorm(1, max(10, matrix.max()))
    table = Table(classes, [str(row.sum()) for row in matrix], [str(column.sum()) for column in matrix.T])
    texts = np.array([[str(value) if value else "" for value in row] for row in matrix])
    table.draw(np.where(matrix == 0, np.nan, matrix), texts, norm, "Confusion matrix", note)
    bar = table.bar(norm, "test images, log scale; white: none")
    high = float(norm.vmax or 10)
    decades = 10.0 ** np.arange(np.log10(high))
    ticks = [*decades[np.log(high / decades) > 0.15 * np.log(high)], high]  # the last label keeps clear of the others
    bar.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    return table.sheet.figure


@styled
def rows(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Of each actual class, the percentage that was predicted as each class: recall on the diagonal.

    Colours go from 0 to 100 % in every figure, so that figures compare.

    Args:
        matrix: (c, c) integers, row: actual class, column: predicted class. Rows of zeros, classes
            without test images, are grey and left out of the mean.
        classes: their c names.
    """
    seen = matrix.sum(axis=1)
    shares = 100 * matrix / np.maximum(seen, 1)[:, None]
    note = f"mean of the diagonal (balanced accuracy) {np.diag(shares)[seen > 0].mean():.2f} %"
    if not seen.all():
        note += f"; grey: {NONE}"
    norm = Normalize(0, 100)
    table = Table(classes, [str(count) for count in seen])
    texts = np.array([[in_percent(value) for value in row] for row in shares])
    table.draw(np.where(matrix == 0, np.nan, shares), texts, norm, "Confusion matrix in % of each class", note)
    for row in np.flatnonzero(seen == 0):
        table.empty_row(int(row))
    bar = table.bar(norm, "% of the actual class, 0 to 100; white: none")
    bar.set_xticks(range(0, 101, 20))
    return table.sheet.figure


def in_percent(share: float) -> str:
    """Whole percent, but never a 0 or a 100 that is not exact."""
    if share == 0:
        return ""
    return "<1" if share < 1 else ">99" if 99.5 <= share < 100 else f"{share:.0f}"


class Table:
    """A square of cells with names and totals around it, sized to what they say."""

    def __init__(self, classes: Sequence[str], images: Sequence[str], predicted: Sequence[str] = ()):
        """Lays out: `images` are the totals right of the rows, `predicted` those below the columns."""
        self.names = [beginning(str(name), 28) for name in classes]
        self.images, self.predicted = images, predicted
        self.cell = round(np.clip(620 / len(classes), 10, 110))
        self.size = float(np.clip(0.6 * self.cell, 6, 11))  # of type outside the cells
        widest = max(extent(name, self.size) for name in self.names)
        self.upright = widest > self.cell - 6  # column names that stand on end
        self.left = round(max(widest, extent("actual", 10.5))) + 24
        self.top = 88 + (round(widest) if self.upright else 20) + 12
        self.side = self.cell * len(classes)
        self.upright_totals = max((extent(count, self.size) for count in predicted), default=0) > self.cell - 2
        below = (
            0 if not predicted else max(extent(count, self.size) for count in predicted) if self.upright_totals else 18
        )
        right = max(extent(count, self.size) for count in (*images, "images"))
        self.sheet = Sheet(max(self.left + self.side + right + 24, NARROWEST), self.top + self.side + below + 88)

    def draw(self, values: np.ndarray, texts: np.ndarray, norm: Normalize, title: str, note: str) -> None:
        """Cells (c, c), white where nan, with `texts` in them if they fit, and everything around."""
        sheet, side, cell = self.sheet, self.side, self.cell
        sheet.title(12, 10, title, note)
        panel = self.panel = sheet.panel(self.left, self.top, side, "matrix")
        panel.imshow(values, norm=norm, cmap=CMAP, interpolation="nearest", aspect="auto")
        if cell >= 14:
            for line in np.arange(1, len(values)) - 0.5:
                panel.axhline(line, color=LINE, linewidth=0.5)
                panel.axvline(line, color=LINE, linewidth=0.5)
        if (size := fitting(texts, cell)) >= SMALLEST:
            for (row, column), text in np.ndenumerate(texts):
                if text:
                    colour = on(norm(values[row, column]))
                    panel.text(column, row, text, size=size, color=colour, ha="center", va="center_baseline")
        style = {"size": self.size}
        muted = style | {"color": MUTED}
        for i, name in enumerate(self.names):
            x, y = self.left + (i + 0.5) * cell, self.top + (i + 0.5) * cell
            sheet.text(self.left - 8, y, name, ha="right", va="center", **style)
            turned = {"rotation": 90} if self.upright else {}
            sheet.text(x, self.top - 7, name, ha="center", va="bottom", **turned, **style)
            sheet.text(self.left + side + 8, y, self.images[i], va="center", **muted)
            if self.predicted:
                turned = {"rotation": 90} if self.upright_totals else {}
                sheet.text(x, self.top + side + 7, self.predicted[i], ha="center", **turned, **muted)
        sheet.text(self.left - 8, self.top - 7, "actual", size=10.5, weight="bold", ha="right", va="bottom")
        sheet.text(self.left, 66, "predicted", size=10.5, weight="bold")
        sheet.text(self.left + side + 8, self.top - 7, "images", va="bottom", **muted)
        if self.predicted:
            sheet.text(self.left - 8, self.top + side + 7, "images", ha="right", **muted)

    def empty_row(self, row: int) -> None:
        """Greys a row out and says why."""
        self.panel.add_patch(Rectangle((-0.5, row - 0.5), len(self.names), 1, color="0.9", linewidth=0, zorder=3))
        middle = (len(self.names) - 1) / 2
        size = min(self.size, 10)
        self.panel.text(middle, row, NONE, size=size, color=MUTED, ha="center", va="center_baseline", zorder=4)

    def bar(self, norm: Normalize, label: str) -> Axes:
        """The colour bar, below the cells."""
        width = float(np.clip(self.side, 260, 420))
        return self.sheet.colour_bar(self.left, self.sheet.height - 56, width, norm, CMAP, label)


def fitting(texts: np.ndarray, cell: float) -> float:
    """The largest type size with which all texts fit into a cell, at most `LARGEST`."""
    widest = max(extent(text, 10) for text in texts.flat)
    height = 14  # pixels of a digit with its margins in type of 10 points
    return min(LARGEST, 10 * (cell - 3) / max(widest, 1), 10 * (cell - 2) / height)


def on(strength: float) -> str:
    """White or ink, whichever is read better on this part of the colour map."""
    luminance = np.dot(colormaps[CMAP](float(strength))[:3], (0.299, 0.587, 0.114))
    return "white" if luminance < 0.52 else INK
