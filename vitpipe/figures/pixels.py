"""Which pixels the loss is sensitive to, over the image that they belong to.

Shapes: f images, S side of an image in pixels.
"""

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vitpipe.figures.painting import GAP, NAMES, PAINT, SIDE, Arrays, Drawn, naming, painted
from vitpipe.figures.style import STRENGTH, Sheet, styled

CLIP = 99
METHODS = {"gradient": "|∂ loss / ∂ pixel|", "smooth": "SmoothGrad"}
TITLE = "Pixel importance"


def draw(arrays: Arrays) -> Drawn:
    """The figure with its caption. `arrays`: see `pixels`."""
    caption = (
        "Absolute gradient of the loss for each input pixel, and SmoothGrad, the mean over noisy copies. Each map is "
        "scaled by its own 99th percentile, printed under it, so colours compare within a map and not between images."
    )
    yield "pixels", pixels(arrays), TITLE, caption


@styled
def pixels(arrays: Arrays) -> Figure:
    """A row per image: the image, the plain gradient of the loss and SmoothGrad, each also painted over the image.

    The gradient of a sure and right prediction is orders of magnitude smaller than that of a wrong one, so
    every panel is scaled by the 99th percentile of its own map, and that number stands under it.
    SmoothGrad is the mean over noisy copies of the image (Smilkov et al., arXiv:1706.03825).

    Args:
        arrays: ids (f,); images (f, S, S, 3) uint8; actual, predicted (f,) class names; gradient, smooth
            (f, S, S), not negative.
    """
    left, top, height = 12, 106, SIDE + 32
    lefts = [left + NAMES + i * (SIDE + GAP) + (i + 1) // 2 * 12 for i in range(5)]
    sheet = Sheet(lefts[-1] + SIDE + left, top + len(arrays["ids"]) * height + 62)
    note = "How much the loss changes with each pixel: in the image itself, and as the mean over noisy copies of it"
    sheet.title(left, 10, TITLE, note)
    norm = Normalize(0, 1)
    names = ("image", METHODS["gradient"], "over the image", METHODS["smooth"], "over the image")
    for x, name in zip(lefts, names, strict=True):
        sheet.text(x, top - 6, name, size=12, weight="bold", va="bottom")
    for row, sample in enumerate(arrays["ids"]):
        y, image = top + row * height, arrays["images"][row]
        naming(sheet, left, y, arrays, row)
        sheet.picture(lefts[0], y, SIDE, f"image: {sample}", image)
        for x, over, method in ((lefts[1], lefts[2], "gradient"), (lefts[3], lefts[4], "smooth")):
            full = float(np.percentile(arrays[method][row], CLIP))
            shown = arrays[method][row] / (full or 1.0)
            sheet.picture(x, y, SIDE, f"{method}: {sample}", shown, norm=norm, cmap=STRENGTH)
            painted(sheet.panel(over, y, SIDE, f"{method} over the image: {sample}"), image, shown, norm)
            sheet.text(x, y + SIDE + 5, f"full colour at {full:.2e}".replace("e-", "e−"), size=10.5)
    label = f"full: the {CLIP}th percentile of the map itself, printed under it; maps differ by orders of magnitude"
    for x, colours, text in ((lefts[1], STRENGTH, label), (lefts[2], PAINT, "")):
        sheet.colour_bar(x, sheet.height - 54, SIDE, norm, colours, text, {0: "0", 0.5: "half", 1: "full"})
    return sheet.figure
