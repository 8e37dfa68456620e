"""What a classifier attends to in single images: the classic six-step picture beside the raw weights, heads, rollout.

The query whose attention is drawn is the class token or, for a model that pools its patches, the mean over all of them.

Shapes: f images, S side of an image in pixels, h heads, g patches along one side of the grid.
"""

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vitpipe.figures import painting
from vitpipe.figures.painting import GAP, NAMES, SIDE, Arrays, Drawn
from vitpipe.figures.style import MUTED, STRENGTH, Sheet, spread, styled

MOST_HEADS = 12


def draw(arrays: Arrays) -> Drawn:
    """Both figures with their captions.

    Args:
        arrays: ids (f,); images (f, S, S, 3) uint8; actual, predicted (f,) class names; probability (f,) of the
            predicted class; raw (f, g, g) attention weights of the query on the patches, mean over heads, sum at
            most 1; resized (f, S, S) in [0, 1]; attended (f, S, S, 3) in [0, 1]; heads (f, h, g, g) and rollout
            (f, g, g), both as a ratio to uniform attention; query, whose attention it is.
    """
    query = f"query: {arrays['query']}"
    six = (
        f"Last layer, mean over heads, {query}. The map is normalised from its smallest to its largest value and "
        "multiplied with the image; beside it the raw weights on one scale. A vivid map over weights near uniform says "
        "little."
    )
    every = f"Every head, their mean, and rollout through all layers, as multiples of uniform attention; {query}."
    yield "class_attention", six_steps(arrays), "What the model attends to", six
    yield "class_heads", heads(arrays), "The heads of the last layer", every


@styled
def six_steps(arrays: Arrays) -> Figure:
    """A row per image: image, attention map, attended image, and the raw grid that they are made of.

    The picture takes the last layer's attention of the query, averages it over the heads, resizes it to the
    image, normalises it min to max, multiplies the image with it, and doubles the result. Normalising hides how
    strong attention is, so the raw weights stand beside it on one scale from zero, with their extremes printed.
    `arrays`: see `draw`.
    """
    raw, (rows, columns) = arrays["raw"], arrays["raw"].shape[1:]
    count = round(float(arrays["heads"].mean() / raw.mean()))  # tokens that share the attention
    left, top, height = 12, 128, SIDE + 50
    lefts = [left + NAMES + i * (SIDE + GAP) + (28 if i == 3 else 0) for i in range(4)]
    sheet = Sheet(lefts[-1] + SIDE + 2 * left, top + len(raw) * height + 66)
    sheet.title(left, 10, "What the model attends to", f"Attention in the last layer; query: {arrays['query']}.")
    steps = (
        "Mean over heads → grid → resized to the image → min–max normalised → × image → × 2. Normalising hides how "
        "strong attention is:\nthe raw weights it is made of stand to the right, all on one scale."
    )
    sheet.text(left, 54, steps, size=10.5, color=MUTED, linespacing=1.4)
    uniform = 1 / count
    high = max(float(raw.max()), 1.25 * uniform)
    shade, norm = Normalize(0, 1), Normalize(0, high)
    for x, name in zip(lefts, ("image", "attention map", "attended image", f"raw {rows}×{columns} grid"), strict=True):
        sheet.text(x, top - 6, name, size=12, weight="bold", va="bottom")
    for row, sample in enumerate(arrays["ids"]):
        y = top + row * height
        painting.naming(sheet, left, y, arrays, row)
        sheet.picture(lefts[0], y, SIDE, f"image: {sample}", arrays["images"][row])
        sheet.picture(lefts[1], y, SIDE, f"attention: {sample}", arrays["resized"][row], norm=shade, cmap=STRENGTH)
        sheet.picture(lefts[2], y, SIDE, f"attended: {sample}", arrays["attended"][row])
        painting.blocks(sheet.panel(lefts[3], y, SIDE, f"raw: {sample}"), raw[row], norm=norm, cmap=STRENGTH)
        least, most = raw[row].min(), raw[row].max()
        sheet.text(lefts[3], y + SIDE + 5, f"weights {least:.2g} to {most:.2g}", size=10.5)
        ratios = f"{least * count:.2g} to {most * count:.3g} × uniform"
        sheet.text(lefts[3], y + SIDE + 23, ratios, size=10.5, color=MUTED)
    y = sheet.height - 58
    ends: dict[float, str] = {0: "its smallest", 1: "its largest"}
    sheet.colour_bar(lefts[1], y, SIDE, shade, STRENGTH, "each map by its own range", ends)
    ticks: dict[float, str] = {uniform: "uniform", high: f"{high:.3g}"}
    if high <= 10 * uniform:  # where uniform is close to zero, its label needs the place
        ticks = {0: "0"} | ticks
    label = f"raw attention weight; uniform = 1/{count} = {uniform:.3g}"
    sheet.colour_bar(lefts[2] + 28, y, lefts[3] + SIDE - lefts[2] - 28, norm, STRENGTH, label, ticks)
    return sheet.figure


@styled
def heads(arrays: Arrays) -> Figure:
    """A row per image: image, rollout, mean of the last layer's heads, and every head, painted over the image.

    Paint grows with the ratio to uniform attention on one scale for all heads. Rollout multiplies the layers
    (Abnar and Zuidema, arXiv:2005.00928) and may be much flatter: then it has a scale of its own, which is printed.
    At most 12 heads, evenly spread, are drawn; the note says so. `arrays`: see `draw`.
    """
    maps, rollout = arrays["heads"], arrays["rollout"]
    chosen = spread(maps.shape[1], MOST_HEADS)
    common = painting.strength(maps)
    own = own_range(rollout, float(common.vmax or 0))
    own_norm = Normalize(*own) if own else common
    columns = {"rollout": (rollout, own_norm), "mean of heads": (maps.mean(axis=1), common)}
    columns |= {f"head {head + 1}": (maps[:, head], common) for head in chosen}
    side = round(np.clip(1130 / (len(columns) + 1), 76, 150))
    left, top, gap = 12, 96, 4
    lefts = [left + NAMES + i * (side + gap) + (8 if i > 2 else 0) for i in range(len(columns) + 1)]
    width = max(lefts[-1] + side + left, 960)
    sheet = Sheet(width, top + len(arrays["ids"]) * (side + gap) + (114 if own else 58))
    note = f"Attention in the last layer; query: {arrays['query']}"
    note += painting.selection((len(chosen), maps.shape[1], "heads"))
    sheet.title(left, 10, "What each head of the last layer attends to", note)
    for x, name in zip(lefts, ["image", *columns], strict=True):
        short = name.replace("mean of heads", "mean") if side < 110 else name
        sheet.text(x + side / 2, top - 6, short, size=10.5, ha="center", va="bottom")
    for row, sample in enumerate(arrays["ids"]):
        y = top + row * (side + gap)
        painting.naming(sheet, left, y, arrays, row)
        sheet.picture(lefts[0], y, side, f"image: {sample}", arrays["images"][row])
        for x, (name, (values, norm)) in zip(lefts[1:], columns.items(), strict=True):
            painting.painted(sheet.panel(x, y, side, f"{name}: {sample}"), arrays["images"][row], values[row], norm)
    painting.paint_bar(sheet, left, common, maps)
    if own:
        label = f"rollout / uniform, on a scale of its own: {rollout.min():.3g} to {rollout.max():.3g} in these images"
        ticks = {tick: f"{tick:.3g}" for tick in np.linspace(*own, 5)}
        sheet.colour_bar(left, sheet.height - 108, 420, own_norm, painting.PAINT, label, ticks)
    return sheet.figure


def own_range(rollout: np.ndarray, most: float) -> tuple[float, float] | None:
    """The range of a scale for rollout alone, where one from uniform to `most` would hide or saturate it; else None."""
    low, high = float(rollout.min()), float(np.percentile(rollout, painting.CLIP))
    if high > 1 and most / 3 <= high <= most * 3:
        return None
    return (1.0 if high > painting.FAINTEST else low), max(high, low + 1e-3)
