"""Classified images to look at: those with the highest loss, those with the lowest, and some at random.

Shapes: f images of a band, S side of an image in pixels.
"""

import numpy as np
from matplotlib.figure import Figure

from vitpipe.figures.painting import Arrays, Drawn, band
from vitpipe.figures.style import BLUE, INK, MUTED, ORANGE, Sheet, styled
from vitpipe.figures.text import beginning, extent, fitted, shortened

BANDS = {"worst": "highest loss", "best": "lowest loss", "random": "random"}
GAP, WIDTH = 12, 1320  # of the images of a band side by side
LINE_HEIGHT = 18
NARROWEST = 800  # room for title and note


def draw(arrays: Arrays) -> Drawn:
    """The figure with its caption. `arrays`: see `ranking`."""
    count = len(arrays["worst_ids"])
    caption = (
        f"{count} with the highest loss, {count} with the lowest and {count} at random: "
        "predicted and real class, probability of the predicted class, loss."
    )
    yield "ranking", ranking(arrays), "Test images by loss", caption


@styled
def ranking(arrays: Arrays) -> Figure:
    """Three bands of test images, with what the model took them for and what it cost.

    Args:
        arrays: of the bands worst, best and random, each of the same number f of images, 10 at most, as BAND_NAME:
            images (f, S, S, 3) uint8, small ones drawn with their pixels visible; ids (f,); predicted, actual (f,)
            class names; probability (f,) of the predicted class, 0 to 1; loss (f,), -ln(probability of the actual
            class), in nats.
    """
    groups = {name: band(arrays, name) for name in BANDS}
    count, pixels = len(arrays["worst_ids"]), max(arrays["worst_images"].shape[1:3])
    column = int(np.clip(WIDTH / count - GAP, 120, 180))
    side = pixels * round(column / pixels) if pixels <= column else column  # whole pixels where they are seen
    column = max(column, side)
    names = {str(name) for group in groups.values() for key in ("predicted", "actual") for name in group[key]}
    size = 10.5 if max(extent(f"✗ {name}", 10.5, "bold") for name in names) <= column else 9
    left, top, height = 12, 80, 28 + side + 5 * LINE_HEIGHT + 26
    sheet = Sheet(max(2 * left + count * (column + GAP) - GAP, NARROWEST), top + len(BANDS) * height)
    title = f"Test images by loss: {count} with the highest, {count} with the lowest, {count} at random"
    note = "✓ blue: predicted right, ✗ orange: wrong; probability of the predicted class; loss in nats"
    sheet.title(left, 10, title, note)
    for row, (name, group) in enumerate(groups.items()):
        y = top + row * height
        sheet.text(left, y, BANDS[name].capitalize(), size=12.5, weight="bold")
        for i, image in enumerate(group["images"]):
            x, below = left + i * (column + GAP), y + 28 + side + 8
            sample, predicted, actual = (str(group[key][i]) for key in ("ids", "predicted", "actual"))
            sheet.picture(x, y + 28, side, f"{BANDS[name]}: {sample}", image)
            mark, colour = ("✓", BLUE) if predicted == actual else ("✗", ORANGE)
            lines = [
                (f"{mark} {predicted}", size, colour, "bold", beginning),
                (f"real {actual}", size, INK, "normal", beginning),
                (f"{100 * group['probability'][i]:.1f} %", 10.5, INK, "normal", beginning),
                (f"loss {nats(group['loss'][i])}", 10.5, INK, "normal", beginning),
                (sample, 9.5, MUTED, "normal", shortened),
            ]
            for line, (text, points, colour, weight, shorten) in enumerate(lines):
                text = fitted(text, column, points, shorten, weight)
                sheet.text(x, below + line * LINE_HEIGHT, text, size=points, color=colour, weight=weight)
    return sheet.figure


def nats(loss: float) -> str:
    """Two decimals, or two digits where that would be zero."""
    return f"{loss:.2f}" if loss >= 0.01 else f"{loss:.2g}"
