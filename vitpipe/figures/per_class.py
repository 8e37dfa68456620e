"""Attention per class: where the images of one class are attended to more or less than all images, beyond chance."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vitpipe.figures.attention import CLIP, blocks
from vitpipe.figures.class_attention import marks, picture
from vitpipe.figures.style import DIFFERENCE, INK, MUTED, STRENGTH, Sheet, save, shortened, spread, styled
from vitpipe.figures.text import fitted

LEVEL = 0.05  # family-wise error
MOST_LAYERS, MOST_CLASSES = 12, 10
TITLE = "Attention per class"


@styled
def per_class(arrays: Mapping[str, np.ndarray]) -> Figure:
    """A row per layer; for all images and for each class the median attention, and the class minus all images.

    Medians share one scale from zero, differences one that is symmetric about zero. Patches whose difference
    is more than chance are outlined; the others lie within what permuted labels give.

    Args:
        arrays: classes (k,) names; counts (k,) images of each; median (k, l, g, g) and all_median (l, g, g) over
            images, ratio to uniform attention; difference (k, l, g, g) class minus all; p (k, l, g, g) family-wise
            p-values; images (k, S, S, 3) mean image of each class, uint8 or on 0 to 255; query, whose attention it is.
            At most 12 layers and 10 classes, evenly spread, are drawn; the note says so.
    """
    layers, chosen = spread(arrays["median"].shape[1], MOST_LAYERS), spread(len(arrays["classes"]), MOST_CLASSES)
    medians = np.concatenate([arrays["all_median"][None, layers], arrays["median"][np.ix_(chosen, layers)]])
    differences, significant = arrays["difference"][np.ix_(chosen, layers)], arrays["p"] <= LEVEL
    strong = Normalize(0, max(float(np.percentile(medians, CLIP)), 1.5))
    limit = max(float(np.percentile(np.abs(differences), CLIP)), 0.01)
    change = Normalize(-limit, limit)

    side = round(np.clip(1120 / (2 * len(chosen) + 1), 64, 132))
    left, gap, between = 76, 4, 20
    head, top = 112, 112 + 20 + side + 28
    lefts = [left + side + between + i * (2 * side + gap + between) for i in range(len(chosen))]
    sheet = Sheet(max(lefts[-1] + 2 * side + gap + 12, 900), top + len(layers) * (side + gap) + 66)
    note = f"Query: {arrays['query']}. Mean over heads, median over test images, as a multiple of uniform attention."
    sheet.title(12, 10, TITLE, note)
    sheet.text(12, 56, f"{verdict(significant)}\n{rest(arrays, layers, chosen)}", size=10.5, linespacing=1.4)
    small = 9 if side < 80 else 10.5
    for x, text in [
        (left, "median\nall images"),
        *((x, "median") for x in lefts),
        *((x + side + gap, "− all") for x in lefts),
    ]:
        sheet.text(x + side / 2, top - 6, text, size=small, ha="center", va="bottom", color=MUTED)
    for row, layer in enumerate(layers):
        y = top + row * (side + gap)
        sheet.text(left - 8, y + side / 2, f"layer {layer + 1}", size=10.5, ha="right", va="center")
        panel = sheet.panel(left, y, side, f"all images: layer {layer + 1}")
        blocks(panel, medians[0, row], norm=strong, cmap=STRENGTH)
        for column, x in enumerate(lefts):
            name = arrays["classes"][chosen[column]]
            panel = sheet.panel(x, y, side, f"{name}: layer {layer + 1} median")
            blocks(panel, medians[column + 1, row], norm=strong, cmap=STRENGTH)
            panel = sheet.panel(x + side + gap, y, side, f"{name}: layer {layer + 1} difference")
            blocks(panel, differences[column, row], norm=change, cmap=DIFFERENCE)
            outlined(panel, significant[chosen[column], layer])
    for x, index in zip(lefts, chosen, strict=True):
        header(sheet, x, head, side, arrays, index, int(significant[index].sum()))
    bars(sheet, strong, change, medians, differences)
    return sheet.figure


def header(
    sheet: Sheet, x: float, y: float, side: int, arrays: Mapping[str, np.ndarray], index: int, found: int
) -> None:
    """The name and mean image of a class, how many images it has, and how many patches differ in all layers."""
    name, size = str(arrays["classes"][index]), 9 if side < 80 else 10.5
    sheet.text(x, y, fitted(name, 2 * side, size, shortened, "bold"), size=size, weight="bold")
    image = np.clip(np.round(arrays["images"][index]), 0, 255).astype(np.uint8)
    picture(sheet.panel(x, y + 20, side, f"{name}: mean image"), image)
    for i, line in enumerate((f"n = {arrays['counts'][index]}", f"{found} differ")):
        sheet.text(x + side + 8, y + 20 + i * 1.8 * size, line, size=size, color=MUTED)


def outlined(panel: Axes, inside: np.ndarray) -> None:
    """Lines around the regions of patches (g, g) that are True, dark and light so that they are seen on any ground."""
    padded = np.pad(inside, 1)
    lines = [((x - 0.5, y - 0.5), (x + 0.5, y - 0.5)) for y, x in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])]
    lines += [((x - 0.5, y - 0.5), (x - 0.5, y + 0.5)) for y, x in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])]
    dark = float(np.clip(panel.get_window_extent().width / len(inside) / 8, 0.8, 1.5))  # thinner on small patches
    for colour, width in (("white", dark + 1.2), (INK, dark)):
        panel.add_collection(
            LineCollection(lines, colors=colour, linewidths=width, capstyle="projecting"), autolim=False
        )


def verdict(significant: np.ndarray) -> str:
    """How many differences, of all classes and layers, are more than chance."""
    return (
        f"{significant.sum()} of {significant.size} patches differ by more than chance and are outlined "
        f"(permuted labels, family-wise error {100 * LEVEL:.0f} %)."
    )


def rest(arrays: Mapping[str, np.ndarray], layers: list[int], chosen: list[int]) -> str:
    """What the other patches mean, and what of all layers and classes is shown."""
    counts = ((len(layers), arrays["median"].shape[1], "layers"), (len(chosen), len(arrays["classes"]), "classes"))
    parts = [f"{shown} of {every} {what}" for shown, every, what in counts if shown < every]
    return "All others lie within chance." + (f" {' and '.join(parts)} shown." if parts else "")


def bars(sheet: Sheet, strong: Normalize, change: Normalize, medians: np.ndarray, differences: np.ndarray) -> None:
    """Both colour bars, with the largest values beyond them."""
    high, limit = float(strong.vmax or 0), float(change.vmax or 0)
    y = sheet.height - 54
    bar = sheet.colour_bar(12, y, 380, strong, STRENGTH, f"median attention / uniform, up to {medians.max():.3g}")
    ticks = [0, 1, high] if high < 2.5 else [0, 1, (1 + high) / 2, high]
    names = ["0", "uniform", *(f"{tick:.3g}" for tick in ticks[2:])]
    crowded = high > 9  # where uniform is close to zero, its label needs the place
    marks(bar, ticks[crowded:], names[crowded:])
    label = f"class minus all images, multiples of uniform, {differences.min():+.2g} to {differences.max():+.2g}"
    bar = sheet.colour_bar(452, y, 380, change, DIFFERENCE, label.replace("-", "−"))
    ticks = [-limit, -limit / 2, 0, limit / 2, limit]
    marks(bar, ticks, [f"{tick:+.2g}".replace("-", "−") if tick else "0" for tick in ticks])


def draw(arrays: Mapping[str, np.ndarray], folder: Path) -> dict[str, dict[str, str]]:
    """Writes the figure as a PNG file; returns its title and caption by file name."""
    save(per_class(arrays), folder / "per_class.png")
    caption = f"Median attention of the {arrays['query']} in each layer, and each class minus all images. "
    return {
        "per_class.png": {
            "title": TITLE,
            "caption": caption + f"{verdict(arrays['p'] <= LEVEL)} All others lie within chance.",
        }
    }
