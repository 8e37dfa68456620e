"""Where attention goes. All maps are ratios to uniform attention: 1 means as much as if it looked everywhere alike.

Panels of a figure share one scale, which is printed with what lies outside it. Patches are drawn as
the blocks they are, never smoothed. Layers and heads count from 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vitpipe.figures.style import DIFFERENCE, INK, MUTED, STRENGTH, Sheet, shortened, spread, styled
from vitpipe.figures.text import fitted
from vitpipe.metrics.grid import token_at

CLIP = 99.5
NARROWEST = 800  # pixels: room for the title of `received` and `queries`
WIDEST = 4.0  # doublings; beyond, a few patches without attention would drain the colour from all others
FAINTEST = 1.5  # the least ratio painted at full strength, so that nearly uniform attention stays faint
MOST_LAYERS, MOST_HEADS = 12, 32
Box = tuple[float, float, float, float]


@styled
def overview(mean_maps: np.ndarray, title: str, note: str = "") -> Figure:
    """Layers by heads: attention that each patch receives, as log2 of the ratio to uniform.

    Args:
        mean_maps: (L, H, rows, columns), mean over queries and images, ratio to uniform (not negative).
            At most 12 layers and 32 heads, evenly spread, are drawn; the note says so.
        title: above the figure.
        note: below the title, for instance over how many images the mean goes.
    """
    layers, heads = spread(mean_maps.shape[0], MOST_LAYERS), spread(mean_maps.shape[1], MOST_HEADS)
    shown = log_ratio(mean_maps[np.ix_(layers, heads)])
    norm, note = symmetric(shown), "; ".join(filter(None, (note, selection(mean_maps, layers, heads))))
    left, top, gap = 92, 86, 4
    side = round(np.clip(1090 / len(heads), 32, 150))
    width = max(left + len(heads) * (side + gap) + 12, 640)
    sheet = Sheet(width, top + len(layers) * (side + gap) + 62)
    sheet.title(12, 10, title, note)
    for column, head in enumerate(heads):
        if side >= 60 or column % 2 == 0:
            x = left + column * (side + gap) + side / 2
            sheet.text(
                x, top - 8, f"head {head + 1}" if side >= 60 else f"{head + 1}", size=10.5, ha="center", va="bottom"
            )
    for row, layer in enumerate(layers):
        y = top + row * (side + gap)
        sheet.text(left - 10, y + side / 2, f"layer {layer + 1}", size=11.5, ha="right", va="center")
        for column, head in enumerate(heads):
            panel = sheet.panel(left + column * (side + gap), y, side, f"layer {layer + 1} head {head + 1}")
            blocks(panel, shown[row, column], norm=norm, cmap=DIFFERENCE)
    ratio_bar(sheet, left, norm, shown)
    return sheet.figure


@styled
def received(images: np.ndarray, maps: np.ndarray, ids: Sequence[str], title: str, note: str = "") -> Figure:
    """The attention that every patch receives, painted over the images, four to a row.

    Paint grows with the ratio to uniform, from none at 1 to nearly opaque at the 99.5th percentile
    over all images or at 1.5, if that is more. How many patches lie outside is printed.

    Args:
        images: (F, H, W, 3) uint8, drawn in grey.
        maps: (F, rows, columns), ratio to uniform (not negative), of the same images.
        ids: sample ids, printed under the images.
        title: above the figure, for instance which layer and head.
        note: below the title.
    """
    norm, cmap = strength(maps), paint()
    side, gap, left, top, across = 240, 8, 12, 72, min(4, len(images))
    rows = -(-len(images) // across)
    sheet = Sheet(max(2 * left + across * (side + gap), NARROWEST), top + rows * (side + 28) + 60)
    sheet.title(left, 10, title, note)
    for i, sample in enumerate(ids):
        x, y = left + i % across * (side + gap), top + i // across * (side + 28)
        panel = sheet.panel(x, y, side, sample)
        painted(panel, images[i], maps[i], norm, cmap)
        sheet.text(x, y + side + 5, fitted(sample, side, 10.5, shortened), size=10.5, color=MUTED)
    paint_bar(sheet, left, norm, cmap, maps)
    return sheet.figure


@styled
def queries(
    image: np.ndarray, boxes: Mapping[str, Box], maps: Mapping[str, np.ndarray], title: str, note: str = ""
) -> Figure:
    """Where single tokens look: a block of rows per query token, a row per layer, a column per head.

    Args:
        image: (H, W, 3) uint8.
        boxes: pixel box (left, top, right, bottom) of each query token in `image`. It is outlined in the
            image and hatched in the maps: non-self attention has no value there.
        maps: (L, H, rows, columns) of each query, ratio to uniform (not negative); its own token is not
            read. At most 4 layers and 16 heads, evenly spread, are drawn; the note says so.
        title: above the figure.
        note: below the title.
    """
    first = next(iter(maps.values()))
    layers, heads = spread(first.shape[0], 4), spread(first.shape[1], 16)
    shown = {name: with_own_token_empty(maps[name][np.ix_(layers, heads)], boxes[name], image) for name in boxes}
    everything = np.stack(list(shown.values()))
    norm, cmap = strength(everything), paint()
    note = "; ".join(filter(None, (note, selection(first, layers, heads))))
    gap, picture, left, top = 4, 228, 12, 92
    side = round(np.clip(940 / len(heads), 72, (picture - gap * (len(layers) - 1)) / min(len(layers), 2)))
    block = max(len(layers) * (side + gap), picture + 26) + 18
    maps_left = left + picture + 80
    width = max(maps_left + len(heads) * (side + gap) + 8, NARROWEST)
    sheet = Sheet(width, top + len(boxes) * block + 52)
    sheet.title(left, 10, title, note)
    for column, head in enumerate(heads):
        x = maps_left + column * (side + gap) + side / 2
        sheet.text(x, top - 6, f"head {head + 1}", size=10.5, ha="center", va="bottom")
    for row, (name, box) in enumerate(boxes.items()):
        y = top + row * block
        panel = sheet.panel(left, y, picture, name)
        panel.imshow(image)
        outline(panel, box, 2.2)
        sheet.text(left, y + picture + 6, f"query: {name}", size=12, weight="bold")
        for i, layer in enumerate(layers):
            sheet.text(maps_left - 8, y + i * (side + gap) + side / 2, f"layer {layer + 1}", ha="right", va="center")
            for column, head in enumerate(heads):
                x = maps_left + column * (side + gap)
                panel = sheet.panel(x, y + i * (side + gap), side, f"{name}: layer {layer + 1} head {head + 1}")
                painted(panel, image, shown[name][i, column], norm, cmap)
                outline(panel, box, 1.2, hatch="/////")
    paint_bar(sheet, left, norm, cmap, everything)
    return sheet.figure


def blocks(panel: Axes, values: np.ndarray, **style) -> None:
    """A map with one sharp-edged block per patch."""
    panel.imshow(values, interpolation="nearest", **style)


def painted(panel: Axes, image: np.ndarray, values: np.ndarray, norm: Normalize, cmap: ListedColormap) -> None:
    """A map painted over the image in grey; both keep their own resolution."""
    height, width = image.shape[:2]
    grey = image @ np.array([0.299, 0.587, 0.114])
    panel.imshow(grey, cmap="gray", vmin=-110, vmax=290)  # flat and light, so that paint looks alike on all of it
    blocks(panel, values, norm=norm, cmap=cmap, extent=(-0.5, width - 0.5, height - 0.5, -0.5))


def outline(panel: Axes, box: Box, linewidth: float, hatch: str | None = None) -> None:
    """A frame around a pixel box, dark and light so that it is seen on any ground."""
    left, top, right, bottom = box
    for colour, extra in (("white", 1.6), (INK, 0)):
        style: dict[str, Any] = {"fill": False, "edgecolor": colour, "linewidth": linewidth + extra}
        panel.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, **style))
    if hatch:
        panel.add_patch(
            Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, hatch=hatch, linewidth=0)
        )


def with_own_token_empty(maps: np.ndarray, box: Box, image: np.ndarray) -> np.ndarray:
    """(L, H, rows, columns) with nan at the token whose pixel box in `image` this is."""
    rows, columns = maps.shape[-2:]
    centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    token = token_at(*centre, image.shape[1] // columns, columns, rows)
    maps = maps.astype(np.float64)
    maps[..., token // columns, token % columns] = np.nan
    return maps


def log_ratio(ratio: np.ndarray) -> np.ndarray:
    """log2, with zero attention at the smallest positive value instead of minus infinity."""
    positive = ratio[ratio > 0]
    return np.log2(np.maximum(ratio, positive.min() if positive.size else 1.0))


def symmetric(logs: np.ndarray) -> Normalize:
    """A scale with uniform attention in the middle, to the 99.5th percentile of the distance from it or to `WIDEST`."""
    limit = float(np.clip(np.percentile(np.abs(logs), CLIP), 0.1, WIDEST))
    return Normalize(-limit, limit)


def strength(ratios: np.ndarray) -> Normalize:
    """A scale from uniform attention to the 99.5th percentile, or to `FAINTEST`."""
    return Normalize(1, max(float(np.nanpercentile(ratios, CLIP)), FAINTEST))


def selection(maps: np.ndarray, layers: list[int], heads: list[int]) -> str:
    """What of all layers and heads is shown, where it is not everything."""
    counts = ((len(layers), maps.shape[0], "layers"), (len(heads), maps.shape[1], "heads"))
    parts = [f"{shown} of {every} {what}" for shown, every, what in counts if shown < every]
    return f"{' and '.join(parts)} shown" if parts else ""


def paint() -> ListedColormap:
    """Inferno without its darkest part, transparent at the lower end, so that the image shows through."""
    colours = colormaps[STRENGTH](np.linspace(0.35, 1, 256))
    colours[:, 3] = np.linspace(0, 0.9, 256)
    return ListedColormap(colours)


def paint_bar(sheet: Sheet, left: float, norm: Normalize, cmap: ListedColormap, ratios: np.ndarray) -> None:
    """A colour bar on middle grey, as the paint lies on the image."""
    high, known = float(norm.vmax or 0), ratios[np.isfinite(ratios)]
    bare, above = 100 * np.mean(known <= 1), 100 * np.mean(known > high)
    label = (
        f"attention / uniform; {bare:.0f} % of the patches get no more than uniform and stay bare, "
        f"{above:.2g} % lie above {high:.3g}, up to {known.max():.3g}"
    )
    bar = sheet.colour_bar(left, sheet.height - 52, 420, norm, cmap, label=label)
    bar.set_facecolor("0.55")
    ticks = np.linspace(1, high, 5)
    bar.set_xticks(ticks, ["uniform", *(f"{tick:.3g}" for tick in ticks[1:])])
    bar.get_xticklabels()[0].set_horizontalalignment("left")


def ratio_bar(sheet: Sheet, left: float, norm: Normalize, logs: np.ndarray) -> None:
    """A colour bar of log2 ratios whose ticks say the ratios."""
    high = float(norm.vmax or 0)
    outside = 100 * np.mean(np.abs(logs) > high)
    label = (
        f"attention / uniform, log2 scale; {outside:.2g} % of the patches lie outside {2**-high:.2g} to {2**high:.3g}"
    )
    bar = sheet.colour_bar(left, sheet.height - 52, 420, norm, DIFFERENCE, label=label)
    step = 1.0 if high >= 2 else 0.5 if high >= 1 else high / 2
    ticks = np.arange(-(high // step), high // step + 1) * step
    bar.set_xticks(ticks, ["uniform" if tick == 0 else f"{2**tick:.3g}" for tick in ticks])
