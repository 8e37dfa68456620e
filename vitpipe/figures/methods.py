"""What each method calls important in the same images, on one scale."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from vitpipe.figures.attention import outline, paint, painted
from vitpipe.figures.class_attention import marks, picture
from vitpipe.figures.style import INK, MUTED, Sheet, save, shortened, styled
from vitpipe.figures.text import extent, fitted
from vitpipe.metrics.faithfulness import NAMES

SIDE, GAP, LABELS = 132, 6, 132  # pixels: a panel, between panels, the column that says whose row it is
CLIP = 99.5
WIDEST = 17  # letters of a name over its panel
TITLE = "What each method calls important"


@styled
def methods(arrays: Mapping[str, np.ndarray]) -> Figure:
    """A row per image: the image, and the map of each method painted over it in grey.

    Maps have units of their own, so each is drawn as the share of its own total that a patch has, in multiples of
    an even share, all on one logarithmic scale. What counts against the explained number is left bare.

    Args:
        arrays: ids (f,); images (f, S, S, 3) uint8; methods (m,) names; maps (m, f, g, g), higher is more
            important; of a classifier actual, predicted (f,) class names; of a super-sampler windows (f, 4), the
            explained part as left, top, right, bottom in pixels of the images, and points (f,), where that is.
    """
    ratios = np.stack([shares(values) for values in arrays["maps"]])
    norm, cmap = LogNorm(1, max(float(np.percentile(ratios, CLIP)), 2)), paint()
    left, top = 12, 108
    lefts = [left + LABELS + i * (SIDE + GAP) + 6 * (i > 0) for i in range(len(ratios) + 1)]
    sheet = Sheet(lefts[-1] + SIDE + left, top + len(arrays["ids"]) * (SIDE + GAP) + 66)
    asked = "the framed window of the output" if "windows" in arrays else "the predicted class"
    sheet.title(
        left, 10, TITLE, f"For {asked}: share of the map's total, as a multiple of an even share of all patches"
    )
    for x, name in zip(lefts, ["image", *(NAMES[name] for name in arrays["methods"])], strict=True):
        broken = name.replace(" grad", "\ngrad") if len(name) > WIDEST else name
        sheet.text(x + SIDE / 2, top - 7, broken, size=11, ha="center", va="bottom", weight="bold")
    for row, sample in enumerate(arrays["ids"]):
        y, image = top + row * (SIDE + GAP), arrays["images"][row]
        naming(sheet, left, y, arrays, row)
        panels = [sheet.panel(lefts[0], y, SIDE, f"image: {sample}")]
        picture(panels[0], image)
        for x, name, values in zip(lefts[1:], arrays["methods"], ratios[:, row], strict=True):
            panels.append(sheet.panel(x, y, SIDE, f"{name}: {sample}"))
            painted(panels[-1], image, np.maximum(values, 1), norm, cmap)
        if "windows" in arrays:
            box = tuple(arrays["windows"][row].tolist())
            for panel in panels:
                outline(panel, box, 1.2)
    high = float(norm.vmax or 0)
    above = 100 * (ratios > high).mean()
    label = f"share / even share, log scale; up to even stays bare; {above:.2g} % lie above {high:.3g}"
    bar = sheet.colour_bar(lefts[1], sheet.height - 54, 3 * (SIDE + GAP) - GAP, norm, cmap, label)
    bar.set_facecolor("0.55")
    ticks = np.geomspace(1, high, 5)
    marks(bar, ticks, ["even", *(f"{tick:.3g} ×" for tick in ticks[1:])])
    return sheet.figure


def shares(maps: np.ndarray) -> np.ndarray:
    """Maps (f, g, g) without what is negative, over their own mean: 1 is an even share. A map of zeros stays zero."""
    positive = np.maximum(maps, 0)
    mean = positive.mean((1, 2), keepdims=True)
    return np.divide(positive, mean, out=np.zeros_like(positive), where=mean > 0)


def naming(sheet: Sheet, x: float, y: float, arrays: Mapping[str, np.ndarray], row: int) -> None:
    """What is explained in an image, and its id."""
    if "windows" in arrays:
        lines = [("at: ", "points", INK)]
    else:
        lines = [("model: ", "predicted", INK), ("true: ", "actual", MUTED)]
    for i, (label, key, colour) in enumerate([*lines, ("", "ids", MUTED)]):
        size = 10 if colour is INK else 9.5
        name = fitted(str(arrays[key][row]), LABELS - GAP - extent(label, size), size, shortened)
        sheet.text(x, y + 18 * i, label + name, size=size, color=colour)


def draw(arrays: Mapping[str, np.ndarray], folder: Path) -> dict[str, dict[str, str]]:
    """Writes the figure as a PNG file; returns its title and caption by file name."""
    save(methods(arrays), folder / "methods.png")
    caption = (
        "Maps of all methods for the same images, as multiples of an even share of the map's total, on one scale. "
        "They disagree: deletion, insertion and randomised weights tell which of them to trust."
    )
    return {"methods.png": {"title": TITLE, "caption": caption}}
