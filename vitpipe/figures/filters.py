"""What the patch embedding looks for, as small colour pictures, and how much of it a few of them are.

Shapes: k components, p side of a patch, r reach of the convolutions before the embedding, q = p + 2r.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitpipe.figures.painting import Arrays, Drawn, outline
from vitpipe.figures.style import BLUE, MUTED, Sheet, styled

ACROSS, SIDE, GAP, LINE = 7, 108, 12, 22  # tiles in a row; pixels: a tile, between tiles, the line below it
CURVE, LEAST = 270, 500  # pixels: height of the curve, and of the figure's right half
CONTROLS = 3  # tiles of the untrained model
FAINT = 0.05  # of the scale: rings around the patch with less than this are not drawn
HEADING = {"size": 11, "weight": "bold", "va": "bottom"}
MODELS = ("trained", "untrained")
TITLE = "What the patch embedding looks for"


def draw(arrays: Arrays) -> Drawn:
    """The figure with its caption. `arrays`: see `filters`."""
    first = [percent(float(arrays[f"{name}_explained"][:3].sum())) for name in MODELS]
    around = " at mid-grey, with what the convolutions before it see around the patch" if arrays["reach"] else ""
    caption = (
        f"Principal components of the filters of the patch embedding{around}, on one scale around mid-grey. The first "
        f"three are {first[0]} of the variance of the trained filters and {first[1]} of the untrained ones."
    )
    yield "filters", filters(arrays), TITLE, caption


@styled
def filters(arrays: Arrays) -> Figure:
    """The principal components of the embedding filters, and what share of the variance they add up to.

    Every component is drawn on one scale around mid-grey: grey is a pixel (or colour) that does not matter, what is
    brighter pulls the component up and what is darker pulls it down. As in Dosovitskiy et al., arXiv:2010.11929,
    figure 7; the untrained model, from the same initialisation, is the control.

    Args:
        arrays: trained, untrained (k, q, q, 3), trained_explained,
            untrained_explained (k,) in 0..1, patch p and reach r in pixels. Around the patch as many rings of
            pixels are drawn as have a value of 5 % of the scale or more; the note says so.
    """
    patch, reach, count = int(arrays["patch"]), int(arrays["reach"]), len(arrays["trained"])
    limit = max(float(np.abs(arrays[name][: count if name == "trained" else CONTROLS]).max()) for name in MODELS)
    shown = visible_rings(arrays["trained"], reach, FAINT * limit)
    width = patch + 2 * shown
    side = max(1, round(SIDE / width)) * width if width < SIDE else SIDE  # whole pixels where they are seen
    left, top, between = 12, 108, 84
    rows, step = -(-count // ACROSS), side + GAP
    right, curve = left + ACROSS * step + between, max(3 * step - GAP, 380)
    height = max(rows * (step + LINE), LEAST)
    sheet = Sheet(right + curve + 24, top + height + 48)
    note = f"The first {count} principal components of the filters of the patch embedding, each with the share of "
    sheet.title(left, 10, TITLE, f"{note}variance that it explains.\n{tiles_show(patch, reach, shown)}")

    def tile(name: str, index: int, x: float, y: float) -> None:
        inner = slice(reach - shown, reach + patch + shown)
        image = 0.5 + arrays[name][index, inner, inner] / (2 * limit)
        panel = sheet.picture(x, y, side, f"{name} {index + 1}", image)
        if shown:
            outline(panel, (shown, shown, shown + patch, shown + patch), 0.9)
        sheet.text(x, y + side + 4, percent(float(arrays[f"{name}_explained"][index])), size=10)

    for i in range(count):
        tile("trained", i, left + i % ACROSS * step, top + i // ACROSS * (step + LINE))
    cumulative(sheet, right, top, curve, arrays)
    y = top + CURVE + 96
    sheet.text(right, y - 10, "untrained, as control: its first components", **HEADING)
    for i in range(min(CONTROLS, len(arrays["untrained"]))):
        tile("untrained", i, right + i * step, y)
    scale = f"One scale for all tiles: mid-grey is 0, black is −{limit:.2g} and white {limit:.2g} in each channel; "
    sheet.text(left, sheet.height - 34, f"{scale}a component has length 1.", size=9.5, color=MUTED)
    return sheet.figure


def visible_rings(components: np.ndarray, reach: int, faint: float) -> int:
    """How many rings of pixels around the patch have a value of at least `faint` in a component (k, q, q, 3)."""
    strongest = np.abs(components).max(axis=(0, 3))  # q q
    for width in range(reach, 0, -1):
        outside = reach - width
        ring = strongest[outside : len(strongest) - outside, outside : len(strongest) - outside]
        if max(ring[[0, -1]].max(), ring[:, [0, -1]].max()) >= faint:
            return width
    return 0


def tiles_show(patch: int, reach: int, shown: int) -> str:
    """What a tile shows, in words."""
    if not reach:
        return f"A tile is a patch of {patch}×{patch} pixels."
    text = f"Gradients at mid-grey, since convolutions come first: they see {reach} pixels around the patch of "
    rest = f"; {shown} are drawn, the others stay below 5 % of the scale." if shown < reach else "."
    return f"{text}{patch}×{patch} (frame){rest}"


def cumulative(sheet: Sheet, x: float, y: float, width: float, arrays: Arrays) -> None:
    """Share of variance that the first components explain together, against how many, trained and untrained."""
    axes = sheet.axes(x, y, width, CURVE, "cumulative")
    sheet.text(x, y - 10, "explained by the first components together", **HEADING)
    for name, colour, marker in (("untrained", MUTED, "white"), ("trained", BLUE, BLUE)):
        sums = 100 * np.cumsum(arrays[f"{name}_explained"], dtype=np.float64)
        numbers = np.arange(1, len(sums) + 1)
        axes.plot(numbers, sums, "o-", color=colour, markerfacecolor=marker, markersize=4, label=name)
    axes.set(ylim=(0, 103), xlabel="components", ylabel="share of variance in %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(loc="lower right", reverse=True)


def percent(share: float) -> str:
    """A share of 0..1 with two digits, no more than one decimal."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"
