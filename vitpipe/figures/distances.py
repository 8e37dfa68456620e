"""How far attention reaches in every layer.

Legend of the shapes: l layers, h heads.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vitpipe.figures.style import BLUE, GREEN, MUTED, Sheet, save, styled

TITLE = "How far each head looks"
ROOM = 0.66  # of the way from one layer to the next, for the heads of a layer side by side


@styled
def distances(arrays: Mapping[str, np.ndarray]) -> Figure:
    """Mean attention distance against depth, one dot a head (Dosovitskiy et al., arXiv:2010.11929, figure 7 right).

    The heads of a layer stand side by side, from the first to the last; a filled dot is a trained head, the hollow
    one to its left the same head of the untrained model. The axis starts at 0, which is attention to oneself
    alone.

    Args:
        arrays: trained, untrained (l, h) mean distance between query and key in pixels of the LR input; uniform,
            that of attention that sees all tokens equally.
    """
    trained, untrained, uniform = arrays["trained"], arrays["untrained"], float(arrays["uniform"])
    layers, heads = trained.shape
    left, top, height, beside = 78, 100, 400, 150
    width = int(np.clip(layers * max(20 * heads, 110), 560, 1180))
    sheet = Sheet(left + width + beside, top + height + 66)
    ranges = f"trained {extremes(trained)}, untrained {extremes(untrained)}."
    sheet.title(12, 10, TITLE, f"Mean attention distance of {layers * heads} heads: {ranges}")
    legend = "Filled: trained. Hollow: the same head untrained. Bar: mean of the trained heads of a layer."
    sheet.text(12, 56, legend, size=10.5, color=MUTED)
    axes = sheet.axes(left, top, width, height, "distances")
    slot = ROOM / heads
    places = np.arange(1, layers + 1)[:, None] + slot * (np.arange(heads) - (heads - 1) / 2)  # l h
    size = float(np.clip(0.3 * slot * width / layers, 3, 8))
    axes.axhline(uniform, color=GREEN, linestyle="--", linewidth=1.2, zorder=1)
    ends = places[:, 0] - slot / 2, places[:, -1] + slot / 2
    axes.hlines(trained.mean(1), *ends, color=BLUE, linewidth=5, alpha=0.25, zorder=2)
    for name, values, colour, fill, shift in (
        ("untrained", untrained, MUTED, "white", -slot / 4),
        ("trained", trained, BLUE, BLUE, slot / 4),
    ):
        style: dict[str, Any] = {
            "color": colour,
            "markerfacecolor": fill,
            "markersize": size,
            "markeredgewidth": 1,
            "label": name,
        }
        axes.plot((places + shift).ravel(), values.ravel(), "o", **style)
    axes.grid(False, axis="x")
    axes.set(xlabel="layer", ylabel="distance in px of the LR input", xlim=(0.5, layers + 0.5))
    axes.set_xticks(range(1, layers + 1))
    high = 1.08 * max(float(trained.max()), float(untrained.max()), uniform)
    axes.set_ylim(0, high)
    y = top + height * (1 - uniform / high)
    sheet.text(left + width + 10, y, f"attention to all\nalike: {uniform:.1f} px", size=10.5, color=GREEN, va="center")
    return sheet.figure


def draw(arrays: Mapping[str, np.ndarray], folder: Path) -> dict[str, dict[str, str]]:
    """Writes the figure as a PNG file; returns its title and caption by file name."""
    save(distances(arrays), folder / "distances.png")
    uniform, trained = float(arrays["uniform"]), arrays["trained"]
    caption = (
        f"One dot a head: the mean distance between query and key, {trained.mean():.1f} px of the LR input over all "
        f"heads and {uniform:.1f} px for attention to all tokens alike. Local heads lie low, global ones near the "
        "dashed line. Hollow dots are the untrained model's heads."
    )
    return {"distances.png": {"title": TITLE, "caption": caption}}


def extremes(values: np.ndarray) -> str:
    """The range of distances."""
    return f"{values.min():.1f} to {values.max():.1f} px"
