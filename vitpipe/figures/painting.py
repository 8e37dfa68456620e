"""Maps of patches and the images that they belong to, as several figures draw them.

Patches are drawn as the blocks they are, never smoothed. A map over an image is transparent where it is low.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vitpipe.figures.style import GREEN, INK, MUTED, ORANGE, STRENGTH, Sheet
from vitpipe.figures.text import fitted

CLIP = 99.5  # percentile at which a scale ends
FAINTEST = 1.5  # the least ratio at full strength, so that nearly uniform attention stays faint
SIDE, GAP, NAMES = 192, 8, 256  # pixels: a panel, between panels, the column of `naming`
COLOURS = colormaps[STRENGTH](np.linspace(0.35, 1, 256))
COLOURS[:, 3] = np.linspace(0, 0.9, 256)
PAINT = ListedColormap(COLOURS)
"""Inferno without its darkest part, transparent at the lower end, so that an image shows through."""
Arrays = Mapping[str, Any]
Drawn = Iterator[tuple[str, Figure, str, str]]
"""Of each figure the name of its PNG file without the ending, the figure, its title and its caption."""


def blocks(panel: Axes, values: np.ndarray, **style: Any) -> None:
    """A map (rows, columns) with one sharp-edged block per patch."""
    panel.imshow(values, interpolation="nearest", **style)


def painted(panel: Axes, image: np.ndarray, values: np.ndarray, norm: Normalize, cmap: ListedColormap = PAINT) -> None:
    """A map over the image in grey, in colours that are transparent where it is low; both keep their own resolution."""
    height, width = image.shape[:2]
    grey = image @ np.array([0.299, 0.587, 0.114])
    panel.imshow(grey, cmap="gray", vmin=-110, vmax=290)  # flat and light, so that paint looks alike on all of it
    blocks(panel, values, norm=norm, cmap=cmap, extent=(-0.5, width - 0.5, height - 0.5, -0.5))


def outline(panel: Axes, box: Sequence[float], linewidth: float, hatch: str | None = None) -> None:
    """A frame around a pixel box (left, top, right, bottom), dark and light so that it is seen on any ground."""
    left, top, right, bottom = box
    styles: list[dict[str, Any]] = [{"edgecolor": "white", "linewidth": linewidth + 1.6}]
    styles += [{"edgecolor": INK, "linewidth": linewidth}] + ([{"hatch": hatch, "linewidth": 0}] if hatch else [])
    for style in styles:
        panel.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, **style))


def strength(ratios: np.ndarray) -> Normalize:
    """A scale from uniform attention to the 99.5th percentile, or to `FAINTEST` if that is more."""
    return Normalize(1, max(float(np.nanpercentile(ratios, CLIP)), FAINTEST))


def paint_bar(sheet: Sheet, left: float, norm: Normalize, ratios: np.ndarray) -> None:
    """The colour bar of maps on the scale `strength(ratios)`; it says how many patches lie outside."""
    high, known = float(norm.vmax or 0), ratios[np.isfinite(ratios)]
    bare, above = 100 * np.mean(known <= 1), 100 * np.mean(known > high)
    label = (
        f"attention / uniform; {bare:.0f} % of the patches get no more than uniform and have no colour, "
        f"{above:.2g} % lie above {high:.3g}, up to {known.max():.3g}"
    )
    ticks = {1.0: "uniform"} | {tick: f"{tick:.3g}" for tick in np.linspace(1, high, 5)[1:]}
    sheet.colour_bar(left, sheet.height - 52, 420, norm, PAINT, label, ticks)


def naming(sheet: Sheet, x: float, y: float, arrays: Arrays, row: int) -> None:
    """Actual and predicted class, whether that is right, in words and colour, its probability if known, and the id."""
    actual, predicted = str(arrays["actual"][row]), str(arrays["predicted"][row])
    verdict, colour = ("right", GREEN) if actual == predicted else ("wrong", ORANGE)
    if "probability" in arrays:
        verdict += f", probability {arrays['probability'][row]:.3f}"
    true, model = (fitted(name, NAMES - 54 - GAP, 10.5) for name in (actual, predicted))
    lines = (("true", true, INK), ("model", model, colour), ("", verdict, colour))
    for i, (label, text, shade) in enumerate(lines):
        sheet.text(x, y + 18 * i, label, size=10.5, color=MUTED)
        sheet.text(x + 54, y + 18 * i, text, size=10.5, color=shade)
    sheet.text(x, y + 55, fitted(str(arrays["ids"][row]), NAMES - GAP, 9.5), size=9.5, color=MUTED)


def selection(*counts: tuple[int, int, str]) -> str:
    """What is shown where it is not everything, from tuples (shown, all, plural): "; 2 of 3 layers shown"."""
    parts = [f"{shown} of {every} {what}" for shown, every, what in counts if shown < every]
    return f"; {' and '.join(parts)} shown" if parts else ""


def band(arrays: Arrays, name: str) -> dict[str, np.ndarray]:
    """The arrays of one band of images by their own name: worst_ids as ids."""
    return {key.removeprefix(f"{name}_"): arrays[key] for key in arrays if key.startswith(f"{name}_")}
