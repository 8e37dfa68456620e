"""How far attention reaches in every layer.

Shapes: l layers, h heads.
"""

import numpy as np
from matplotlib.figure import Figure

from vitpipe.figures.painting import Arrays, Drawn
from vitpipe.figures.style import BLUE, GREEN, MUTED, Sheet, styled

TITLE = "How far each head looks"
ROOM = 0.66  # of the way from one layer to the next, for the heads of a layer side by side


def draw(arrays: Arrays) -> Drawn:
    """The figure with its caption. `arrays`: see `distances`."""
    uniform, trained = float(arrays["uniform"]), arrays["trained"]
    caption = (
        f"One dot a head: the mean distance between query and key, {trained.mean():.1f} px of the input over all "
        f"heads and {uniform:.1f} px for uniform attention. Local heads lie low, global ones near the "
        "dashed line. Hollow dots are the untrained model's heads."
    )
    yield "distances", distances(arrays), TITLE, caption


@styled
def distances(arrays: Arrays) -> Figure:
    """Mean attention distance against depth, one dot a head (Dosovitskiy et al., arXiv:2010.11929, figure 7 right).

    The heads of a layer stand side by side, from the first to the last; a filled dot is a trained head, the hollow
    one to its left the same head of the untrained model. The axis starts at 0, which is attention to oneself
    alone.

    Args:
        arrays: trained, untrained (l, h) mean distance between query and key in pixels of the input; uniform,
            that of attention that sees all tokens equally.
    """
    trained, untrained, uniform = arrays["trained"], arrays["untrained"], float(arrays["uniform"])
    layers, heads = trained.shape
    left, top, height, beside = 78, 100, 400, 150
    width = int(np.clip(layers * max(20 * heads, 110), 560, 1180))
    sheet = Sheet(left + width + beside, top + height + 66)
    ranges = [f"{name} {arrays[name].min():.1f} to {arrays[name].max():.1f} px" for name in ("trained", "untrained")]
    sheet.title(12, 10, TITLE, f"Mean attention distance of {layers * heads} heads: {', '.join(ranges)}.")
    legend = "Filled: trained. Hollow: the same head untrained. Bar: mean of the trained heads of a layer."
    sheet.text(12, 56, legend, size=10.5, color=MUTED)
    axes = sheet.axes(left, top, width, height, "distances")
    slot = ROOM / heads
    places = np.arange(1, layers + 1)[:, None] + slot * (np.arange(heads) - (heads - 1) / 2)  # l h
    size = float(np.clip(0.3 * slot * width / layers, 3, 8))
    axes.axhline(uniform, color=GREEN, linestyle="--", linewidth=1.2, zorder=1)
    ends = places[:, 0] - slot / 2, places[:, -1] + slot / 2
    axes.hlines(trained.mean(1), *ends, color=BLUE, linewidth=5, alpha=0.25, zorder=2)
    dots = (("untrained", untrained, MUTED, "white", -slot / 4), ("trained", trained, BLUE, BLUE, slot / 4))
    for name, values, colour, fill, shift in dots:
        [line] = axes.plot((places + shift).ravel(), values.ravel(), "o", color=colour, markersize=size, label=name)
        line.set(markerfacecolor=fill, markeredgewidth=1)
    axes.grid(False, axis="x")
    axes.set(xlabel="layer", ylabel="distance in px of the input", xlim=(0.5, layers + 0.5))
    axes.set_xticks(range(1, layers + 1))
    high = 1.08 * max(float(trained.max()), float(untrained.max()), uniform)
    axes.set_ylim(0, high)
    y = top + height * (1 - uniform / high)
    sheet.text(left + width + 10, y, f"attention to all\nalike: {uniform:.1f} px", size=10.5, color=GREEN, va="center")
    return sheet.figure
