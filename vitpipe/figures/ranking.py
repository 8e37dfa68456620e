"""Classified images to look at: those with the highest loss, those with the lowest, and some at random."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from vitpipe.figures.style import BLUE, INK, MUTED, ORANGE, Sheet, enlarge, shortened, styled
from vitpipe.figures.text import beginning, extent, fitted

BANDS = {"worst": "highest loss", "best": "lowest loss", "random": "random"}
GAP, WIDTH = 12, 1320  # of the images of a band side by side
LINE_HEIGHT = 18
NARROWEST = 800  # room for title and note


@styled
def ranking(groups: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Three bands of test images, with what the model took them for and what it cost.

    Args:
        groups: "worst", "best" and "random", each of the same number k of images, 10 at most, with
            images: (k, H, W, 3) uint8, drawn in order, small ones with their pixels visible;
            ids: k sample ids;
            predicted, actual: k class names;
            probability: (k,) of the predicted class, 0 to 1;
            loss: (k,) -ln(probability of the actual class), in nats.
    """
    images = np.stack([groups[band]["images"] for band in BANDS])
    count, pixels = images.shape[1], max(images.shape[2:4])
    column = int(np.clip(WIDTH / count - GAP, 120, 180))
    side = pixels * round(column / pixels) if pixels <= column else column  # whole pixels where they are seen
    column = max(column, side)
    names = {str(name) for band in BANDS for key in ("predicted", "actual") for name in groups[band][key]}
    size = 10.5 if max(extent(f"✗ {name}", 10.5, "bold") for name in names) <= column else 9
    left, top, band_height = 12, 80, 28 + side + 5 * LINE_HEIGHT + 26
    sheet = Sheet(max(2 * left + count * (column + GAP) - GAP, NARROWEST), top + len(BANDS) * band_height)
    title = f"Test images by loss: {count} with the highest, {count} with the lowest, {count} at random"
    note = "✓ blue: predicted right, ✗ orange: wrong; probability of the predicted class; loss in nats"
    sheet.title(left, 10, title, note)
    for row, (key, name) in enumerate(BANDS.items()):
        y, group = top + row * band_height, groups[key]
        sheet.text(left, y, name.capitalize(), size=12.5, weight="bold")
        for i, picture in enumerate(images[row]):
            x, below = left + i * (column + GAP), y + 28 + side + 8
            sample, predicted, actual = (str(group[part][i]) for part in ("ids", "predicted", "actual"))
            panel = sheet.panel(x, y + 28, side, f"{name}: {sample}")
            panel.imshow(enlarge(picture, side), aspect="auto")
            mark, colour = ("✓", BLUE) if predicted == actual else ("✗", ORANGE)
            lines = [
                (f"{mark} {predicted}", size, colour, "bold"),
                (f"real {actual}", size, INK, "normal"),
                (f"{100 * group['probability'][i]:.1f} %", 10.5, INK, "normal"),
                (f"loss {nats(group['loss'][i])}", 10.5, INK, "normal"),
            ]
            for line, (text, points, colour, weight) in enumerate(lines):
                style = {"size": points, "color": colour, "weight": weight}
                sheet.text(x, below + line * LINE_HEIGHT, fitted(text, column, points, beginning, weight), **style)
            label = fitted(sample, column, 9.5, shortened)
            sheet.text(x, below + len(lines) * LINE_HEIGHT, label, size=9.5, color=MUTED)
    return sheet.figure


def nats(loss: float) -> str:
    """Two decimals, or two digits where that would be zero."""
    return f"{loss:.2f}" if loss >= 0.01 else f"{loss:.2g}"
