"""What each method calls important in the same images, on one scale.

Shapes: f images, S side of an image in pixels, m methods, g patches along one side of the grid.
"""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from vitpipe.figures.painting import CLIP, PAINT, Arrays, Drawn, outline, painted
from vitpipe.figures.style import INK, MUTED, Sheet, styled
from vitpipe.figures.text import extent, fitted
from vitpipe.metrics.faithfulness import NAMES

SIDE, GAP, LABELS = 132, 6, 132  # pixels: a panel, between panels, the column that says whose row it is
WIDEST = 17  # letters of a name over its panel
TITLE = "What each method calls important"


def draw(arrays: Arrays) -> Drawn:
    """The figure with its caption. `arrays`: see `methods`."""
    caption = (
        "Maps of all methods for the same images, as multiples of an even share of the map's total, on one scale. "
        "They disagree: deletion, insertion and randomised weights tell which of them to trust."
    )
    yield "methods", methods(arrays), TITLE, caption


@styled
def methods(arrays: Arrays) -> Figure:
    """A row per image: the image, and the map of each method painted over it in grey.

    Maps have units of their own, so each is drawn as the share of its own total that a patch has, in multiples of
    an even share, all on one logarithmic scale. What counts against the explained number is left bare.

    Args:
        arrays: ids (f,); images (f, S, S, 3) uint8; methods (m,) names; maps (m, f, g, g), higher is more
            important; and what is explained. That is a window of the output, with windows (f, 4), left, top, right
            and bottom in pixels of the images, and points (f,), what lies there; or else the predicted class, with
            predicted (f,), and actual (f,) where it is known.
    """
    ratios = np.stack([shares(values) for values in arrays["maps"]])
    norm = LogNorm(1, max(float(np.percentile(ratios, CLIP)), 2))
    left, top = 12, 108
    lefts = [left + LABELS + i * (SIDE + GAP) + 6 * (i > 0) for i in range(len(ratios) + 1)]
    sheet = Sheet(lefts[-1] + SIDE + left, top + len(arrays["ids"]) * (SIDE + GAP) + 66)
    asked = "the framed window of the output" if "windows" in arrays else "the predicted class"
    note = f"For {asked}: share of the map's total, as a multiple of an even share of all patches"
    sheet.title(left, 10, TITLE, note)
    for x, name in zip(lefts, ["image", *(NAMES[name] for name in arrays["methods"])], strict=True):
        broken = name.replace(" grad", "\ngrad") if len(name) > WIDEST else name
        sheet.text(x + SIDE / 2, top - 7, broken, size=11, ha="center", va="bottom", weight="bold")
    for row, sample in enumerate(arrays["ids"]):
        y, image = top + row * (SIDE + GAP), arrays["images"][row]
        labels(sheet, left, y, arrays, row)
        panels = [sheet.picture(lefts[0], y, SIDE, f"image: {sample}", image)]
        for x, name, values in zip(lefts[1:], arrays["methods"], ratios[:, row], strict=True):
            panels.append(sheet.panel(x, y, SIDE, f"{name}: {sample}"))
            painted(panels[-1], image, np.maximum(values, 1), norm)
        for panel in panels if "windows" in arrays else ():
            outline(panel, arrays["windows"][row], 1.2)
    high = float(norm.vmax or 0)
    above = 100 * (ratios > high).mean()
    label = f"share / even share, log scale; no colour up to an even share; {above:.2g} % lie above {high:.3g}"
    ticks = {1.0: "even"} | {tick: f"{tick:.3g} ×" for tick in np.geomspace(1, high, 5)[1:]}
    sheet.colour_bar(lefts[1], sheet.height - 54, 3 * (SIDE + GAP) - GAP, norm, PAINT, label, ticks)
    return sheet.figure


def shares(maps: np.ndarray) -> np.ndarray:
    """Maps (f, g, g) without what is negative, over their own mean: 1 is an even share. A map of zeros stays zero."""
    positive = np.maximum(maps, 0)
    mean = positive.mean((1, 2), keepdims=True)
    return np.divide(positive, mean, out=np.zeros_like(positive), where=mean > 0)


def labels(sheet: Sheet, x: float, y: float, arrays: Arrays, row: int) -> None:
    """What is explained in an image, and its id, as far as they are known."""
    lines = {"points": ("at: ", INK), "predicted": ("model: ", INK), "actual": ("true: ", MUTED), "ids": ("", MUTED)}
    for i, key in enumerate(key for key in lines if key in arrays):
        label, colour = lines[key]
        size = 10 if colour is INK else 9.5
        name = fitted(str(arrays[key][row]), LABELS - GAP - extent(label, size), size)
        sheet.text(x, y + 18 * i, label + name, size=size, color=colour)
