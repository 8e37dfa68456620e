"""Where attention goes. All maps are ratios to uniform attention: 1 is what each patch gets if all get the same.

The panels of a figure share one scale, which is printed with what lies outside it. Layers and heads count from 1.

Shapes: f images, l layers, h heads, g patches along one side of the grid, k queries.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vitpipe.figures import painting
from vitpipe.figures.painting import Arrays, Drawn
from vitpipe.figures.style import DIFFERENCE, MUTED, Sheet, spread, styled
from vitpipe.figures.text import extent, fitted

NARROWEST = 800  # pixels: room for the title of `received` and `queries`
WIDEST = 4.0  # doublings; beyond, a few patches without attention would drain the colour from all others
MOST_LAYERS, MOST_HEADS = 12, 32
OVERVIEW, QUERIES = "What every head looks at", "Where single patches look"


def draw(arrays: Arrays) -> Drawn:
    """An overview, the attention that patches receive, and that of single queries, with their captions.

    Args:
        arrays: ids (f,); images (f, H, W, 3) uint8; received (f, l, h, g, g), the attention that each patch receives,
            mean over queries; of image 0 queries (k,), names, boxes (k, 4), see `queries`, and looks (k, l, h, g, g),
            the attention that each query gives. Both are non-self attention as a ratio to uniform.
    """
    every, images, ids = arrays["received"], arrays["images"], [str(sample) for sample in arrays["ids"]]
    count, layers, heads = every.shape[:3]
    mean = every.mean(axis=0)
    caption = (
        "Layers by heads: how much attention each patch position receives, on one log2 scale around uniform. "
        "A head that shows the same shape for all images may follow position rather than content."
    )
    yield "overview", overview(mean, count), OVERVIEW, caption
    layer, head = sharpest(mean)
    differs, painted_over = "The head whose mean map differs most from uniform", "Patches that many others attend to"
    shown = [("head", every[:, layer, head], f"layer {layer + 1}, head {head + 1}", differs)]
    for i in range(layers):
        shown.append((f"layer{i + 1}", every[:, i].mean(axis=1), f"layer {i + 1}, mean of {heads} heads", painted_over))
    for name, maps, which, what in shown:
        figure = received(images, maps, ids, f"Attention received, {which}", what)
        caption = f"{what}, painted over {count} test images."
        yield f"received_{name}", figure, f"{which.capitalize()}: attention received", caption
    names = [str(name) for name in arrays["queries"]]
    caption = f"Non-self attention of the patches at {', '.join(names)} in image {ids[0]}, for each layer and head."
    yield "queries", queries(images[0], names, arrays["boxes"], arrays["looks"], ids[0]), QUERIES, caption


@styled
def overview(maps: np.ndarray, images: int) -> Figure:
    """Layers by heads: the attention that each patch receives, as log2 of the ratio to uniform.

    Args:
        maps: (l, h, g, g), mean over queries and images, ratio to uniform (not negative).
            At most 12 layers and 32 heads, evenly spread, are drawn; the note says so.
        images: the number of images.
    """
    every = maps.shape[:2]
    layers, heads = spread(every[0], MOST_LAYERS), spread(every[1], MOST_HEADS)
    ratios = maps[np.ix_(layers, heads)]
    shown = np.log2(np.maximum(ratios, ratios.min(where=ratios > 0, initial=1)))  # zero as the least that is not zero
    high = float(np.clip(np.percentile(np.abs(shown), painting.CLIP), 0.1, WIDEST))
    norm = Normalize(-high, high)
    note = f"Non-self attention, mean over all queries of {images} test images, as a multiple of uniform attention"
    note += painting.selection((len(layers), every[0], "layers"), (len(heads), every[1], "heads"))
    left, top, gap = 92, 86, 4
    side = round(np.clip(1090 / len(heads), 32, 150))
    width = max(left + len(heads) * (side + gap) + 12, extent(note, 10.5) + 24)
    sheet = Sheet(width, top + len(layers) * (side + gap) + 62)
    sheet.title(12, 10, OVERVIEW, note)
    for column, head in enumerate(heads):
        if side >= 60 or column % 2 == 0:
            x, name = left + column * (side + gap) + side / 2, f"head {head + 1}" if side >= 60 else f"{head + 1}"
            sheet.text(x, top - 8, name, size=10.5, ha="center", va="bottom")
    for row, layer in enumerate(layers):
        y = top + row * (side + gap)
        sheet.text(left - 10, y + side / 2, f"layer {layer + 1}", size=11.5, ha="right", va="center")
        for column, head in enumerate(heads):
            panel = sheet.panel(left + column * (side + gap), y, side, f"layer {layer + 1} head {head + 1}")
            painting.blocks(panel, shown[row, column], norm=norm, cmap=DIFFERENCE)
    outside = f"{100 * np.mean(np.abs(shown) > high):.2g} % of the patches lie outside {2**-high:.2g} to {2**high:.3g}"
    label = f"attention / uniform, log2 scale; {outside}"
    step = 2.0 if high >= WIDEST else 1.0 if high >= 2 else 0.5 if high >= 1 else high / 2
    ticks = np.arange(-(high // step), high // step + 1) * step
    names = {tick: f"{2**tick:.3g}" if tick else "uniform" for tick in ticks}
    sheet.colour_bar(left, sheet.height - 52, 420, norm, DIFFERENCE, label, names)
    return sheet.figure


@styled
def received(images: np.ndarray, maps: np.ndarray, ids: Sequence[str], title: str, note: str) -> Figure:
    """The attention that every patch receives, painted over the images, four to a row.

    Paint grows with the ratio to uniform, from none at 1 to nearly opaque at the 99.5th percentile
    over all images or at 1.5, if that is more. How many patches lie outside is printed.

    Args:
        images: (f, H, W, 3) uint8, drawn in grey.
        maps: (f, g, g), ratio to uniform (not negative), of the same images.
        ids: sample ids, printed under the images.
        title: above the figure, for instance which layer and head.
        note: below the title.
    """
    norm = painting.strength(maps)
    side, gap, left, top, across = 240, 8, 12, 72, min(4, len(images))
    rows = -(-len(images) // across)
    sheet = Sheet(max(2 * left + across * (side + gap), NARROWEST), top + rows * (side + 28) + 60)
    sheet.title(left, 10, title, f"{note}. Non-self attention, mean over queries")
    for i, sample in enumerate(ids):
        x, y = left + i % across * (side + gap), top + i // across * (side + 28)
        painting.painted(sheet.panel(x, y, side, sample), images[i], maps[i], norm)
        sheet.text(x, y + side + 5, fitted(sample, side, 10.5), size=10.5, color=MUTED)
    painting.paint_bar(sheet, left, norm, maps)
    return sheet.figure


@styled
def queries(image: np.ndarray, names: Sequence[str], boxes: np.ndarray, looks: np.ndarray, sample: str) -> Figure:
    """Where single tokens look: a block of rows for each query token, a row for each layer, a column for each head.

    Args:
        image: (H, W, 3) uint8.
        names: of the k queries.
        boxes: pixel boxes (left, top, right, bottom) of the query tokens in `image` (k, 4). They are outlined in the
            image and hatched in the maps, because non-self attention has no value there.
        looks: (k, l, h, g, g), ratio to uniform (not negative); values at the query's own token are not
            read. At most 4 layers and 16 heads, evenly spread, are drawn; the note says so.
        sample: id of the image, for the title.
    """
    every = looks.shape[1:3]
    layers, heads = spread(every[0], 4), spread(every[1], 16)
    shown = looks[:, layers][:, :, heads].astype(np.float64)
    for maps, (x, y, right, _) in zip(shown, boxes, strict=True):
        maps[..., y // (right - x), x // (right - x)] = np.nan
    norm = painting.strength(shown)
    gap, picture, left, top = 4, 228, 12, 92
    side = round(np.clip(940 / len(heads), 72, (picture - gap * (len(layers) - 1)) / min(len(layers), 2)))
    block = max(len(layers) * (side + gap), picture + 26) + 18
    maps_left = left + picture + 80
    sheet = Sheet(max(maps_left + len(heads) * (side + gap) + 8, NARROWEST), top + len(boxes) * block + 52)
    left_out = painting.selection((len(layers), every[0], "layers"), (len(heads), every[1], "heads"))
    room = NARROWEST - 2 * left - extent(f"{QUERIES} in ", 14, "bold")
    title = f"{QUERIES} in {fitted(sample, room, 14, weight='bold')}"
    sheet.title(left, 10, title, f"Non-self attention as a multiple of uniform attention{left_out}")
    for column, head in enumerate(heads):
        x = maps_left + column * (side + gap) + side / 2
        sheet.text(x, top - 6, f"head {head + 1}", size=10.5, ha="center", va="bottom")
    for row, (name, box) in enumerate(zip(names, boxes, strict=True)):
        y = top + row * block
        painting.outline(sheet.picture(left, y, picture, name, image), box, 2.2)
        sheet.text(left, y + picture + 6, f"query: {name}", size=12, weight="bold")
        for i, layer in enumerate(layers):
            sheet.text(maps_left - 8, y + i * (side + gap) + side / 2, f"layer {layer + 1}", ha="right", va="center")
            for column, head in enumerate(heads):
                x, label = maps_left + column * (side + gap), f"{name}: layer {layer + 1} head {head + 1}"
                panel = sheet.panel(x, y + i * (side + gap), side, label)
                painting.painted(panel, image, shown[row, i, column], norm)
                painting.outline(panel, box, 1.2, hatch="/////")
    painting.paint_bar(sheet, left, norm, shown)
    return sheet.figure


def sharpest(mean: np.ndarray) -> tuple[int, int]:
    """Layer and head whose mean map, of (l, h, g, g), has the largest Kullback-Leibler divergence from uniform."""
    ratio = np.maximum(mean, np.finfo(np.float64).tiny)
    divergence = (ratio * np.log(ratio)).mean(axis=(2, 3))
    layer, head = np.unravel_index(divergence.argmax(), divergence.shape)
    return int(layer), int(head)
