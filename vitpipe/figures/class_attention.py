"""What a classifier attends to in single images: the classic six-step picture beside the raw weights, heads, rollout.

The arrays tie every map to its image by id. The query whose attention is drawn is the class token or, for
a model that reads out the mean of its patches, the mean over all of them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vitpipe.figures.attention import CLIP, FAINTEST, blocks, paint, paint_bar, painted, strength
from vitpipe.figures.style import GREEN, INK, MUTED, ORANGE, STRENGTH, Sheet, save, shortened, spread, styled
from vitpipe.figures.text import fitted

MOST_HEADS = 12
SIDE, GAP, NAMES = 192, 8, 256  # pixels: a panel, between panels, the column that says whose row it is


@styled
def six_steps(arrays: Mapping[str, np.ndarray]) -> Figure:
    """A row per image: image, attention map, attended image, and the raw grid that they are made of.

    The picture takes the last layer's attention of the query, averages it over the heads, resizes it to the
    image, normalises it min to max, multiplies the image with it, and doubles the result. Normalising hides how
    strong attention is, so the raw weights stand beside it on one scale from zero, with their extremes printed.

    Args:
        arrays: ids (f,); images (f, S, S, 3) uint8; actual, predicted (f,) class names; probability (f,) of the
            predicted class; raw (f, g, g) attention weights of the query on the patches, mean over heads, sum at
            most 1; resized (f, S, S) in [0, 1]; attended (f, S, S, 3) in [0, 1]; query, whose attention it is.
    """
    raw, rows, grid = arrays["raw"], len(arrays["ids"]), arrays["raw"].shape[-1]
    count = tokens(arrays)
    left, top, height = 12, 128, SIDE + 50
    lefts = [left + NAMES + i * (SIDE + GAP) + (28 if i == 3 else 0) for i in range(4)]
    sheet = Sheet(lefts[-1] + SIDE + 2 * left, top + rows * height + 66)
    sheet.title(left, 10, "What the model attends to", f"Attention in the last layer; query: {arrays['query']}.")
    sheet.text(
        left,
        54,
        "Mean over heads → grid → resized to the image → min–max normalised → × image → × 2. Normalising hides how "
        "strong attention is:\nthe raw weights it is made of stand to the right, all on one scale.",
        size=10.5,
        color=MUTED,
        linespacing=1.4,
    )
    uniform = 1 / count
    high = max(float(raw.max()), 1.25 * uniform)
    shade, norm = Normalize(0, 1), Normalize(0, high)
    names = ("image", "attention map", "attended image", f"raw {grid}×{grid} grid")
    for x, name in zip(lefts, names, strict=True):
        sheet.text(x, top - 6, name, size=12, weight="bold", va="bottom")
    for row, sample in enumerate(arrays["ids"]):
        y = top + row * height
        naming(sheet, left, y, arrays, row)
        panels = [
            sheet.panel(x, y, SIDE, f"{name.split(' ')[0]}: {sample}") for x, name in zip(lefts, names, strict=True)
        ]
        picture(panels[0], arrays["images"][row])
        picture(panels[1], arrays["resized"][row], norm=shade, cmap=STRENGTH)
        picture(panels[2], arrays["attended"][row])
        blocks(panels[3], raw[row], norm=norm, cmap=STRENGTH)
        least, most = raw[row].min(), raw[row].max()
        sheet.text(lefts[3], y + SIDE + 5, f"weights {least:.2g} to {most:.2g}", size=10.5)
        ratios = f"{least * count:.2g} to {most * count:.3g} × uniform"
        sheet.text(lefts[3], y + SIDE + 23, ratios, size=10.5, color=MUTED)
    y = sheet.height - 58
    bar = sheet.colour_bar(lefts[1], y, SIDE, shade, STRENGTH, "each map by its own range")
    marks(bar, [0, 1], ["its smallest", "its largest"])
    label = f"raw attention weight; uniform = 1/{count} = {uniform:.3g}"
    bar = sheet.colour_bar(lefts[2] + 28, y, lefts[3] + SIDE - lefts[2] - 28, norm, STRENGTH, label)
    ticks = [0, uniform, high][high > 10 * uniform :]  # where uniform is close to zero, its label needs the place
    marks(bar, ticks, ["0", "uniform", f"{high:.3g}"][-len(ticks) :])
    return sheet.figure


@styled
def heads(arrays: Mapping[str, np.ndarray]) -> Figure:
    """A row per image: image, rollout, mean of the last layer's heads, and every head, painted over the image.

    Paint grows with the ratio to uniform attention on one scale for all heads. Rollout multiplies the layers
    (Abnar and Zuidema, arXiv:2005.00928) and may be much flatter: then it has a stated scale of its own.

    Args:
        arrays: as `six_steps` takes them, and heads (f, h, g, g) and rollout (f, g, g), both as ratio to uniform
            attention. At most 12 heads, evenly spread, are drawn; the note says so.
    """
    maps, rollout = arrays["heads"], arrays["rollout"]
    chosen = spread(maps.shape[1], MOST_HEADS)
    common, cmap = strength(maps), paint()
    own = apart(rollout, float(common.vmax or 0))
    own_norm = Normalize(*own) if own else common
    columns = {"rollout": (rollout, own_norm), "mean of heads": (maps.mean(axis=1), common)}
    columns |= {f"head {head + 1}": (maps[:, head], common) for head in chosen}
    side = round(np.clip(1130 / (len(columns) + 1), 76, 150))
    left, top, gap = 12, 96, 4
    note = f"Attention in the last layer; query: {arrays['query']}"
    note += f"; {len(chosen)} of {maps.shape[1]} heads shown" if len(chosen) < maps.shape[1] else ""
    lefts = [left + NAMES + i * (side + gap) + (8 if i > 2 else 0) for i in range(len(columns) + 1)]
    width = max(lefts[-1] + side + left, 960)
    sheet = Sheet(width, top + len(arrays["ids"]) * (side + gap) + (114 if own else 58))
    sheet.title(left, 10, "What each head of the last layer attends to", note)
    for x, name in zip(lefts, ["image", *columns], strict=True):
        short = name.replace("mean of heads", "mean") if side < 110 else name
        sheet.text(x + side / 2, top - 6, short, size=10.5, ha="center", va="bottom")
    for row, sample in enumerate(arrays["ids"]):
        y = top + row * (side + gap)
        naming(sheet, left, y, arrays, row)
        picture(sheet.panel(lefts[0], y, side, f"image: {sample}"), arrays["images"][row])
        for x, (name, (values, norm)) in zip(lefts[1:], columns.items(), strict=True):
            painted(sheet.panel(x, y, side, f"{name}: {sample}"), arrays["images"][row], values[row], norm, cmap)
    paint_bar(sheet, left, common, cmap, maps)
    if own:
        label = f"rollout / uniform, on a scale of its own: {rollout.min():.3g} to {rollout.max():.3g} in these images"
        bar = sheet.colour_bar(left, sheet.height - 108, 420, own_norm, cmap, label)
        bar.set_facecolor("0.55")
        ticks = np.linspace(*own, 5)
        marks(bar, ticks, [f"{tick:.3g}" for tick in ticks])
    return sheet.figure


def draw(arrays: Mapping[str, np.ndarray], folder: Path) -> dict[str, dict[str, str]]:
    """Writes both figures as PNG files; returns their titles and captions by file name."""
    save(six_steps(arrays), folder / "class_attention.png")
    save(heads(arrays), folder / "class_heads.png")
    return {
        "class_attention.png": {
            "title": "What the model attends to",
            "caption": f"Last layer, mean over heads, query: {arrays['query']}. The map is normalised from its "
            "smallest to its largest value and multiplied with the image; beside it the raw weights on one scale. "
            "A vivid map over weights near uniform says little.",
        },
        "class_heads.png": {
            "title": "The heads of the last layer",
            "caption": "Every head of the last layer, their mean, and rollout through all layers, as multiples of "
            f"uniform attention. Query: {arrays['query']}.",
        },
    }


def tokens(arrays: Mapping[str, np.ndarray]) -> int:
    """How many tokens the query shares its attention among; the class token itself is one."""
    return arrays["raw"][0].size + (str(arrays["query"]) == "class token")


def apart(rollout: np.ndarray, most: float) -> tuple[float, float] | None:
    """Range for a scale of rollout alone where one up to `most` would show nothing of it or saturate it, else None."""
    low, high = float(rollout.min()), float(np.percentile(rollout, CLIP))
    if high > 1 and most / 3 <= high <= most * 3:
        return None
    return (1.0 if high > FAINTEST else low), max(high, low + 1e-3)


def naming(sheet: Sheet, x: float, y: float, arrays: Mapping[str, np.ndarray], row: int) -> None:
    """True and predicted class, whether that is right, in words and colour, its probability if known, and the id."""
    actual, predicted = str(arrays["actual"][row]), str(arrays["predicted"][row])
    verdict, colour = ("right", GREEN) if actual == predicted else ("wrong", ORANGE)
    if "probability" in arrays:
        verdict += f", probability {arrays['probability'][row]:.3f}"
    true, model = (fitted(name, NAMES - 54 - GAP, 10.5, shortened) for name in (actual, predicted))
    lines = (("true", true, INK), ("model", model, colour), ("", verdict, colour))
    for i, (label, text, shade) in enumerate(lines):
        sheet.text(x, y + 18 * i, label, size=10.5, color=MUTED)
        sheet.text(x + 54, y + 18 * i, text, size=10.5, color=shade)
    sheet.text(x, y + 55, fitted(str(arrays["ids"][row]), NAMES - GAP, 9.5, shortened), size=9.5, color=MUTED)


def marks(bar: Axes, at: Sequence[float] | np.ndarray, labels: Sequence[str]) -> None:
    """Ticks of a colour bar whose first and last labels stay within its width."""
    bar.set_xticks(at, labels)
    texts = bar.get_xticklabels()
    texts[0].set_horizontalalignment("left")
    texts[-1].set_horizontalalignment("right")


def picture(panel: Axes, image: np.ndarray, **style) -> None:
    """An image or pixel map that fills its panel; pixels stay sharp unless there are more than the panel has."""
    panel.imshow(image, aspect="auto", interpolation="nearest" if image.shape[0] <= SIDE else "auto", **style)
