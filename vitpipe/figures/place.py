"""Where heads look by place, whatever the image, and what queries and keys change about that.

Shapes: l layers, h heads, w offsets on a side around a query, g rows and columns of patches, q queries.
"""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vitpipe.figures import painting
from vitpipe.figures.painting import Arrays, Drawn
from vitpipe.figures.style import BLUE, DIFFERENCE, INK, MUTED, ORANGE, Sheet, spread, styled
from vitpipe.figures.text import extent, fitted

TITLE, CHANGES = "Where each head looks by place", "What queries and keys change about attention"
MOST_LAYERS, MOST_HEADS, MOST_ROWS = 12, 16, 6
INSIDE, NEAREST = 0.99, 3  # share of each head's attention in the part of the image that is shown; least patches around
SIDE, GAP = 150, 6  # pixels: a panel of `content`, between panels
MAPS = ("attention", "by place alone", "difference")
SHARE = "Blues"  # nothing is white, so that most of the figure is
WAY = np.linspace(-1, 1, 257)
TINTS = colormaps[DIFFERENCE](0.5 + np.sign(WAY) * (0.25 + 0.22 * np.abs(WAY)))
TINTS[:, 3] = 0.95 * np.abs(WAY) ** 0.6
TINT = ListedColormap(TINTS)
"""The diverging colours, transparent instead of pale in the middle, so that an image shows through."""


def draw(arrays: Arrays) -> Drawn:
    """Both figures with their captions; the second only where heads have content. `arrays`: see `place`, `content`."""
    by_place, every = int(arrays["by_place"].sum()), arrays["by_place"].size
    caption = (
        "The attention of the outlined patch to those around it by the place term alone, which no image changes. The "
        "dot is the learned centre, the ring where it began. Below: the width of the window, and how far queries "
        f"and keys change attention, 0 to 1. {by_place} of {every} heads look by place: the 95 % interval of what the "
        "trained model's score loses without such a head's queries holds 0 or lies below."
    )
    yield "place", place(arrays), TITLE, caption
    if arrays["content"].any():
        names = " and ".join(str(name) for name in arrays["queries"])
        caption = (
            f"Attention of the patches at {names} in image {arrays['id']}, the same by place alone, and the "
            "difference, of the head of each layer that they change most. Red: more than by place "
            "alone, blue: less."
        )
        yield "content", content(arrays), CHANGES, caption


@styled
def place(arrays: Arrays) -> Figure:
    """Layers by heads: attention by place around a query, on one scale of square roots from 0 to the largest share.

    Args:
        arrays: window (l, h, w, w), shares that sum to one, the query in the middle; centre, begun (l, h, 2), rows and
            columns in patches; width (l, h) in pixels of the input, NaN for none; content and by_place (l, h). At most
            12 layers and 16 heads, evenly spread, are drawn; the note says so.
    """
    every = arrays["window"].shape
    layers, heads = spread(every[0], MOST_LAYERS), spread(every[1], MOST_HEADS)
    window, reach = arrays["window"][np.ix_(layers, heads)], every[-1] // 2
    norm = PowerNorm(0.5, 0, float(window.max()))
    side = every[-1] * int(np.clip(1000 / len(heads), 63, 126) // every[-1])  # whole pixels for each patch
    left, top, gap, below = 92, 112, 10, 40
    note = "Attention of a patch (outlined) to those around it by the place term alone, whatever the image"
    note += painting.selection((len(layers), every[0], "layers"), (len(heads), every[1], "heads"))
    words = ("width {} px", "content {:.3f}") if side >= 90 else ("{} px", "{:.3f}")
    legend = "Below: width of the window in pixels of the input, and content, how far queries and keys change attention"
    legend += " (0 to 1; grey: looks by place)."
    room = max(extent(note, 10.5), extent(legend, 10.5)) + 24
    sheet = Sheet(max(left + len(heads) * (side + gap) + 12, room), top + len(layers) * (side + below + gap) + 60)
    sheet.title(12, 10, TITLE, note)
    sheet.text(12, 54, legend, size=10.5, color=MUTED)
    for column, head in enumerate(heads):
        x = left + column * (side + gap) + side / 2
        sheet.text(x, top - 8, f"head {head + 1}", size=10.5, ha="center", va="bottom")
    for row, layer in enumerate(layers):
        y = top + row * (side + below + gap)
        sheet.text(left - 10, y + side / 2, f"layer {layer + 1}", size=11.5, ha="right", va="center")
        for column, head in enumerate(heads):
            x, at = left + column * (side + gap), (layer, head)
            panel = sheet.panel(x, y, side, f"layer {layer + 1} head {head + 1}")
            ends = (-reach - 0.5, reach + 0.5, reach + 0.5, -reach - 0.5)
            painting.blocks(panel, window[row, column], norm=norm, cmap=SHARE, extent=ends)
            panel.add_patch(Rectangle((-0.5, -0.5), 1, 1, fill=False, edgecolor=INK, linewidth=1))
            moved(panel, arrays["begun"][at], arrays["centre"][at], reach, 8 if side >= 90 else 5)
            width, colour = arrays["width"][at], MUTED if arrays["by_place"][at] else BLUE
            text = words[0].format(f"{width:.1f}") if np.isfinite(width) else "looks away"
            sheet.text(x + side / 2, y + side + 4, text, size=9.5, ha="center")
            text = words[1].format(arrays["content"][at])
            sheet.text(x + side / 2, y + side + 20, text, size=9.5, ha="center", color=colour)
    label = "share of the attention by place, square-root scale"
    sheet.colour_bar(left, sheet.height - 52, 320, norm, SHARE, label, percent(norm))
    key = sheet.axes(left + 356, sheet.height - 64, 60, 34, "key")
    key.set(xlim=(-1, 1), ylim=(1, -1))
    key.set_axis_off()
    moved(key, np.array([0, -0.5]), np.array([0, 0.5]), 1, 8)
    text = "centre of the window: where it began, where it is"
    sheet.text(left + 420, sheet.height - 47, text, size=9.5, va="center")
    return sheet.figure


def moved(panel: Axes, begun: np.ndarray, centre: np.ndarray, reach: int, size: float) -> None:
    """A ring at (row, column) `begun`, a dot at `centre`, at the border where it lies outside, and a line between."""
    (y0, x0), (y, x) = (np.clip(point, -reach - 0.3, reach + 0.3) for point in (begun, centre))
    for colour, wider in (("white", 1.6), (ORANGE, 0)):
        panel.plot([x0, x], [y0, y], color=colour, linewidth=1.2 + wider)
        panel.plot(x0, y0, "o", markersize=size, color=colour, markerfacecolor="none", markeredgewidth=1.2 + wider)
        panel.plot(x, y, "o", markersize=size / 2 + wider, color=colour, markeredgewidth=0)


@styled
def content(arrays: Arrays) -> Figure:
    """Attention of single queries, the same by place alone, and the difference: a row for each layer.

    The part of the image around the query is drawn that holds 99 % of the attention of each head, the same for all.

    Args:
        arrays: id and image (H, W, 3) uint8; queries (q,), names; boxes (q, 4), their patches in pixels of the image;
            shown (l,), the head of each layer; attention, alone (q, l, g, g), shares that sum to one; content and
            by_place (l, h). At most 6 layers, evenly spread, are drawn; the note says so.
    """
    depth, image, boxes = len(arrays["shown"]), arrays["image"], arrays["boxes"]
    layers = spread(depth, MOST_ROWS)
    looks, alone = (arrays[name][:, layers].astype(np.float64) for name in ("attention", "alone"))
    patch = int(boxes[0][2] - boxes[0][0])
    parts = framed(np.concatenate([looks, alone], 1), boxes // patch)
    maps = [
        (of[i][:, rows, columns]) for of in (looks, alone, looks - alone) for i, (rows, columns) in enumerate(parts)
    ]
    asked = [dict(zip(MAPS, maps[i :: len(boxes)], strict=True)) for i in range(len(boxes))]  # each l rows columns
    most = max(float(np.abs(of["difference"]).max()) for of in asked)
    norm = PowerNorm(0.5, 0, max(float(of[name].max()) for of in asked for name in MAPS[:2]))
    change = Normalize(-(most or 1), most or 1)
    styles = {name: (change, TINT) if name == "difference" else (norm, painting.PAINT) for name in MAPS}
    step, between, left, top = SIDE + GAP, 34, 116, 88
    first = top + SIDE + 50
    width = left + len(boxes) * (3 * step + between) - between + 8
    sheet = Sheet(width, first + len(layers) * step + 74)
    note = "Attention of the outlined patch, of the head of each layer that queries and keys change most"
    note += painting.selection((len(layers), depth, "layers"))
    sample = fitted(str(arrays["id"]), width - 24 - extent(f"{CHANGES} in ", 14, "bold"), 14, weight="bold")
    sheet.title(12, 10, f"{CHANGES} in {sample}", note)
    for row, layer in enumerate(layers):
        y, at = first + row * step + SIDE / 2, (layer, int(arrays["shown"][layer]))
        sheet.text(left - 12, y - 19, f"layer {layer + 1}\nhead {at[1] + 1}", size=11, ha="right", va="center")
        text, by_place = f"content {arrays['content'][at]:.3f}", bool(arrays["by_place"][at])
        style = {"size": 9.5, "color": MUTED if by_place else BLUE, "linespacing": 1.4}
        sheet.text(left - 12, y + 2, text + "\nlooks by place" * by_place, ha="right", **style)
    for i, (name, box, (rows, columns)) in enumerate(zip(arrays["queries"], boxes, parts, strict=True)):
        x, wide = left + i * (3 * step + between), columns.stop - columns.start
        panel = sheet.picture(x, top, SIDE, str(name), image)
        corner = columns.start * patch, rows.start * patch
        frame = (*corner, columns.stop * patch, rows.stop * patch)
        for outlined in (frame, box):
            painting.outline(panel, outlined, 0.8)
        sheet.text(x + step + 6, top, f"query: {name}", size=12, weight="bold")
        told = f"the small frame; the large one\nis shown below: {rows.stop - rows.start}×{wide} patches"
        sheet.text(x + step + 6, top + 24, told, size=10.5, color=MUTED, linespacing=1.4)
        below = image[frame[1] : frame[3], frame[0] : frame[2]]
        for column, (what, values) in enumerate(asked[i].items()):
            sheet.text(x + column * step + SIDE / 2, first - 7, what, size=10.5, ha="center", va="bottom")
            for row, layer in enumerate(layers):
                label = f"{name}: layer {layer + 1} {what}"
                panel = sheet.panel(x + column * step, first + row * step, SIDE, label)
                painting.painted(panel, below, values[row], *styles[what])
                painting.outline(panel, np.array(box) - np.tile(corner, 2), 0.8)
    y, label = sheet.height - 52, "share of the attention, square-root scale"
    sheet.colour_bar(left, y, 2 * SIDE + GAP, norm, painting.PAINT, label, percent(norm))
    ends = float(change.vmax or 0) * np.array([-1, -0.5, 0.5, 1])
    ticks = {end: f"{round(100 * end, 1 if most < 0.1 else 0):+g}".replace("-", "−") for end in ends} | {0.0: "0"}
    label = "attention − by place alone, percentage points"
    sheet.colour_bar(left + 2 * step + 20, y, 2 * SIDE - 34, change, TINT, label, ticks)
    return sheet.figure


def percent(norm: Normalize) -> dict[float, str]:
    """Ticks of shares on a scale of square roots from 0."""
    return {
        share: f"{round(100 * share, 1 if share < 0.1 else 0):g} %"
        for share in float(norm.vmax or 0) * np.array([0, 0.05, 0.2, 0.5, 1])
    }


def framed(maps: np.ndarray, boxes: np.ndarray) -> list[tuple[slice, slice]]:
    """Rows and columns around each query, as few as hold 99 % of each map (q, k, g, g), as many for all queries.

    Args:
        boxes: (q, 4), left and top in patches first.
    """
    rows, columns = maps.shape[-2:]
    for reach in range(NEAREST, max(NEAREST + 1, rows, columns)):
        parts = [(around(row, reach, rows), around(column, reach, columns)) for column, row, *_ in boxes.tolist()]
        if min(of[:, part[0], part[1]].sum((1, 2)).min() for of, part in zip(maps, parts, strict=True)) >= INSIDE:
            break
    return parts


def around(at: int, reach: int, count: int) -> slice:
    """2 * reach + 1 of `count` places with `at` in the middle, or as near to it as the borders allow; at most all."""
    wide = min(2 * reach + 1, count)
    low = min(max(at - reach, 0), count - wide)
    return slice(low, low + wide)
