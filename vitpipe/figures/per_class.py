"""Attention per class: where the images of one class are attended to more or less than all images, beyond chance.

Shapes: k classes, l layers, g patches along one side of the grid, S side of an image in pixels.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vitpipe.figures.painting import CLIP, Arrays, Drawn, blocks, selection
from vitpipe.figures.style import DIFFERENCE, INK, MUTED, STRENGTH, Sheet, spread, styled
from vitpipe.figures.text import fitted

LEVEL = 0.05  # family-wise error
MOST_LAYERS, MOST_CLASSES = 12, 10
TITLE = "Attention per class"
CHANCE = "All other differences may be chance"


def draw(arrays: Arrays) -> Drawn:
    """The figure with its caption. `arrays`: see `per_class`."""
    what = f"Median attention of the {arrays['query']} in each layer, and each class minus all images."
    caption = f"{what} {verdict(arrays['p'] <= LEVEL)} {CHANCE}."
    yield "per_class", per_class(arrays), TITLE, caption


@styled
def per_class(arrays: Arrays) -> Figure:
    """A row per layer; for all images and for each class the median attention, and the class minus all images.

    Medians share one scale from zero, differences one that is symmetric about zero. Patches whose difference
    is more than chance are outlined; the others lie within what permuted labels give.

    Args:
        arrays: classes (k,) names; counts (k,) images of each; median (k, l, g, g) and all_median (l, g, g) over
            images, ratio to uniform attention; difference (k, l, g, g) class minus all; p (k, l, g, g) family-wise
            p-values; images (k, S, S, 3) mean image of each class, uint8 or on 0 to 255; query, whose attention it is.
            At most 12 layers and 10 classes, evenly spread, are drawn; the note says so.
    """
    every = arrays["median"].shape[1], len(arrays["classes"])
    layers, chosen = spread(every[0], MOST_LAYERS), spread(every[1], MOST_CLASSES)
    medians = np.concatenate([arrays["all_median"][None, layers], arrays["median"][np.ix_(chosen, layers)]])
    differences, significant = arrays["difference"][np.ix_(chosen, layers)], arrays["p"] <= LEVEL
    high, limit = max(np.percentile(medians, CLIP), 1.5), max(np.percentile(np.abs(differences), CLIP), 0.01)
    strong, change = Normalize(0, high), Normalize(-limit, limit)

    side = round(np.clip(1120 / (2 * len(chosen) + 1), 64, 132))
    left, gap, between = 76, 4, 20
    head, top = 112, 112 + 20 + side + 28
    lefts = [left + side + between + i * (2 * side + gap + between) for i in range(len(chosen))]
    sheet = Sheet(max(lefts[-1] + 2 * side + gap + 12, 900), top + len(layers) * (side + gap) + 66)
    note = f"Query: {arrays['query']}. Mean over heads, median over test images, as a multiple of uniform attention."
    sheet.title(12, 10, TITLE, note)
    shown = selection((len(layers), every[0], "layers"), (len(chosen), every[1], "classes"))
    sheet.text(12, 56, f"{verdict(significant)}\n{CHANCE}{shown}.", size=10.5, linespacing=1.4)
    small = 9 if side < 80 else 10.5
    names = [(left, "median\nall images"), *((x, "median") for x in lefts), *((x + side + gap, "− all") for x in lefts)]
    for x, text in names:
        sheet.text(x + side / 2, top - 6, text, size=small, ha="center", va="bottom", color=MUTED)
    for row, layer in enumerate(layers):
        y = top + row * (side + gap)
        sheet.text(left - 8, y + side / 2, f"layer {layer + 1}", size=10.5, ha="right", va="center")
        panel = sheet.panel(left, y, side, f"all images: layer {layer + 1}")
        blocks(panel, medians[0, row], norm=strong, cmap=STRENGTH)
        for column, x in enumerate(lefts):
            label = f"{arrays['classes'][chosen[column]]}: layer {layer + 1}"
            panel = sheet.panel(x, y, side, f"{label} median")
            blocks(panel, medians[column + 1, row], norm=strong, cmap=STRENGTH)
            panel = sheet.panel(x + side + gap, y, side, f"{label} difference")
            blocks(panel, differences[column, row], norm=change, cmap=DIFFERENCE)
            outlined(panel, significant[chosen[column], layer])
    for x, i in zip(lefts, chosen, strict=True):
        name, image = str(arrays["classes"][i]), np.clip(np.round(arrays["images"][i]), 0, 255).astype(np.uint8)
        sheet.text(x, head, fitted(name, 2 * side, small, weight="bold"), size=small, weight="bold")
        sheet.picture(x, head + 20, side, f"{name}: mean image", image)
        for line, text in enumerate((f"n = {arrays['counts'][i]}", f"{significant[i].sum()} differ")):
            sheet.text(x + side + 8, head + 20 + line * 1.8 * small, text, size=small, color=MUTED)
    label = f"median attention / uniform, up to {medians.max():.3g}"
    ticks: dict[float, str] = {0: "0"} if high <= 9 else {}  # where uniform is close to zero, its label needs the place
    ticks |= {1: "uniform"} | {tick: f"{tick:.3g}" for tick in (((1 + high) / 2, high) if high >= 2.5 else (high,))}
    sheet.colour_bar(12, sheet.height - 54, 380, strong, STRENGTH, label, ticks)
    label = f"class minus all images, multiples of uniform, {differences.min():+.2g} to {differences.max():+.2g}"
    ticks = {tick: f"{tick:+.2g}".replace("-", "−") if tick else "0" for tick in np.linspace(-limit, limit, 5)}
    sheet.colour_bar(452, sheet.height - 54, 380, change, DIFFERENCE, label.replace("-", "−"), ticks)
    return sheet.figure


def outlined(panel: Axes, inside: np.ndarray) -> None:
    """Lines around the regions of patches (g, g) that are True, dark and light so that they are seen on any ground."""
    padded = np.pad(inside, 1)
    lines = [((x - 0.5, y - 0.5), (x + 0.5, y - 0.5)) for y, x in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])]
    lines += [((x - 0.5, y - 0.5), (x - 0.5, y + 0.5)) for y, x in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])]
    dark = float(np.clip(panel.get_window_extent().width / len(inside) / 8, 0.8, 1.5))  # thinner on small patches
    for colour, width in (("white", dark + 1.2), (INK, dark)):
        around = LineCollection(lines, colors=colour, linewidths=width, capstyle="projecting")
        panel.add_collection(around, autolim=False)


def verdict(significant: np.ndarray) -> str:
    """How many differences, of all classes and layers, are more than chance."""
    return (
        f"{significant.sum()} of {significant.size} patches differ by more than chance and are outlined "
        f"(permuted labels, family-wise error {100 * LEVEL:.0f} %)."
    )
