"""What the patch embedding looks for, as small colour pictures, and how much of it a few of them are.

Legend of the shapes: k components, p side of a patch, r reach of the convolutions before the embedding, q = p + 2r.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from vitpipe.figures.style import BLUE, INK, MUTED, Sheet, save, styled

ACROSS, SIDE, GAP, LINE = 7, 108, 12, 22  # tiles in a row; pixels: a tile, between tiles, the line below it
CURVE, LEAST = 270, 500  # pixels: height of the curve, and of the figure's right half
CONTROLS = 3  # tiles of the untrained model
FAINT = 0.05  # of the scale: rings around the patch with less than this are not drawn
MODELS = ("trained", "untrained")
TITLE = "What the patch embedding looks for"


@styled
def filters(arrays: Mapping[str, np.ndarray]) -> Figure:
    """The principal components of the embedding filters, and what share of the variance they add up to.

    Every component is drawn on one scale around mid-grey: grey is a pixel (or colour) that does not matter, what is
    brighter pulls the component up and what is darker pulls it down. As in Dosovitskiy et al., arXiv:2010.11929,
    figure 7; the untrained model, from the same initialisation, is the control.

    Args:
        arrays: what `vitpipe.explain.filters.filters` gives: trained, untrained (k, q, q, 3), trained_explained,
            untrained_explained (k,) in 0..1, patch p and reach r in pixels. Around the patch as many rings of
            pixels are drawn as have a value of 5 % of the scale or more; the note says so.
    """
    patch, reach, count = int(arrays["patch"]), int(arrays["reach"]), len(arrays["trained"])
    limit = max(float(np.abs(arrays[name][: count if name == "trained" else CONTROLS]).max()) for name in MODELS)
    shown = visible(arrays, reach, FAINT * limit)
    width = patch + 2 * shown
    side = max(1, round(SIDE / width)) * width if width < SIDE else SIDE  # whole pixels where they are seen
    left, top, between = 12, 108, 84
    rows, step = -(-count // ACROSS), side + GAP
    right, curve = left + ACROSS * step + between, max(3 * step - GAP, 380)
    height = max(rows * (step + LINE), LEAST)
    sheet = Sheet(right + curve + 24, top + height + 48)
    note = f"The first {count} principal components of the filters of the patch embedding, each with the share of "
    sheet.title(left, 10, TITLE, f"{note}variance that it explains.\n{extent(patch, reach, shown)}")

    def tile(name: str, index: int, x: float, y: float) -> None:
        panel = sheet.panel(x, y, side, f"{name} {index + 1}")
        picture = arrays[name][index, reach - shown : reach + patch + shown, reach - shown : reach + patch + shown]
        panel.imshow(0.5 + picture / (2 * limit), interpolation="nearest", aspect="auto")
        if shown:
            frame(panel, patch, shown)
        sheet.text(x, y + side + 4, percent(float(arrays[f"{name}_explained"][index])), size=10)

    for i in range(count):
        tile("trained", i, left + i % ACROSS * step, top + i // ACROSS * (step + LINE))
    cumulative(sheet, right, top, curve, arrays)
    y = top + CURVE + 96
    heading(sheet, right, y, "untrained, as control: its first components")
    for i in range(min(CONTROLS, len(arrays["untrained"]))):
        tile("untrained", i, right + i * step, y)
    scale = f"One scale for all tiles: mid-grey is 0, black is −{limit:.2g} and white {limit:.2g} in each channel; "
    sheet.text(left, sheet.height - 34, f"{scale}a component has length 1.", size=9.5, color=MUTED)
    return sheet.figure


def draw(arrays: Mapping[str, np.ndarray], folder: Path) -> dict[str, dict[str, str]]:
    """Writes the figure as a PNG file; returns its title and caption by file name."""
    save(filters(arrays), folder / "filters.png")
    first = [percent(float(arrays[f"{name}_explained"][:3].sum())) for name in MODELS]
    around = (
        " at a mid-grey image, with what the convolutions before it see around the patch" if arrays["reach"] else ""
    )
    caption = (
        f"Principal components of the filters of the patch embedding{around}, on one scale around mid-grey. The first "
        f"three are {first[0]} of the variance of the trained filters and {first[1]} of the untrained ones."
    )
    return {"filters.png": {"title": TITLE, "caption": caption}}


def visible(arrays: Mapping[str, np.ndarray], reach: int, faint: float) -> int:
    """How many rings of pixels around the patch have a value of at least `faint` in a component."""
    largest = np.abs(arrays["trained"]).max(axis=(0, 3))  # q q
    rings = [
        max(largest[i].max(), largest[-1 - i].max(), largest[:, i].max(), largest[:, -1 - i].max())
        for i in range(reach)
    ]
    return next((reach - i for i, value in enumerate(rings) if value >= faint), 0)


def extent(patch: int, reach: int, shown: int) -> str:
    """What a tile shows."""
    if not reach:
        return f"A tile is a patch of {patch}×{patch} pixels."
    text = f"Gradients at mid-grey, since convolutions come first: they see {reach} pixels around the patch of "
    rest = f"; {shown} are drawn, the others stay below 5 % of the scale." if shown < reach else "."
    return f"{text}{patch}×{patch} (frame){rest}"


def frame(panel: Axes, patch: int, margin: int) -> None:
    """The border of the patch within what its embedding sees."""
    for colour, width in (("white", 2.2), (INK, 0.9)):  # seen on any ground
        box = Rectangle((margin - 0.5, margin - 0.5), patch, patch, fill=False, edgecolor=colour, linewidth=width)
        panel.add_patch(box)


def cumulative(sheet: Sheet, x: float, y: float, width: float, arrays: Mapping[str, np.ndarray]) -> None:
    """Share of variance that the first components explain together, against how many, trained and untrained."""
    axes = sheet.axes(x, y, width, CURVE, "cumulative")
    heading(sheet, x, y, "explained by the first components together")
    for name, colour, marker in (("untrained", MUTED, "white"), ("trained", BLUE, BLUE)):
        sums = 100 * np.cumsum(arrays[f"{name}_explained"], dtype=np.float64)
        numbers = np.arange(1, len(sums) + 1)
        axes.plot(numbers, sums, "o-", color=colour, markerfacecolor=marker, markersize=4, label=name)
    axes.set(ylim=(0, 103), xlabel="components", ylabel="share of variance in %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(loc="lower right", reverse=True)


def heading(sheet: Sheet, x: float, y: float, text: str) -> None:
    sheet.text(x, y - 10, text, size=11, weight="bold", va="bottom")


def percent(share: float) -> str:
    """A share of 0..1 with two digits, no more than one decimal."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"
