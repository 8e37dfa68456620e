"""The look that all figures share: colours, type, panels placed to the pixel, and PNGs that are always the same."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from vitpipe.files import atomic_file

DPI = 100
INK, MUTED, LINE = "#1f2328", "#6a737d", "#d0d7de"
# Okabe and Ito's palette: told apart with every common colour blindness.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
STRENGTH = "inferno"  # zero to much
DIFFERENCE = "RdBu_r"  # less and more than a meaningful middle
FONT = "DejaVu Sans"  # comes with matplotlib, so text is the same on every machine

RC: dict[Any, Any] = {
    "font.family": FONT,
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,  # two dollar signs in a name are dollar signs
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.edgecolor": "white",
    "legend.framealpha": 1,
    "lines.linewidth": 1.8,
    "hatch.linewidth": 0.8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": "figure",
}
P = ParamSpec("P")


def look() -> AbstractContextManager[None]:
    """Matplotlib's defaults with the settings above, whatever matplotlibrc says; the backend stays as it is."""
    return matplotlib.style.context(["default", RC])


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Runs a function that makes a figure with the look of this file, and restores matplotlib's settings."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with look():
            return draw(*args, **kwargs)

    return wrapper


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG, whole or not at all, without dates or versions in it."""
    with look(), atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


class Sheet:
    """A figure measured in pixels from its top left corner, so that picture pixels land on screen pixels."""

    def __init__(self, width: float, height: float):
        self.width, self.height = round(width), round(height)
        self.figure = Figure(figsize=(self.width / DPI, self.height / DPI), dpi=DPI)
        FigureCanvasAgg(self.figure)

    def axes(self, x: float, y: float, width: float, height: float, label: str = "") -> Axes:
        """Empty axes in a box of pixels; `label` is the name by which a reader of the figure object finds them."""
        box = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box, label=label)

    def panel(self, x: float, y: float, side: float, label: str = "") -> Axes:
        """Square axes for a picture: no ticks, no grid, a hairline frame."""
        axes = self.axes(x, y, side, side, label)
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[:].set(visible=True, color=LINE, linewidth=0.5)
        return axes

    def picture(self, x: float, y: float, side: float, label: str, image: np.ndarray, **style: Any) -> Axes:
        """A panel with an image or a map of pixels, (H, W) or (H, W, 3), which fills it if it is square.

        Pixels stay sharp where they are at least twice as large as those of the panel.
        """
        axes, (height, width) = self.panel(x, y, side, label), image.shape[:2]
        kind = "nearest" if 2 * height <= side else "auto"
        axes.imshow(image, aspect="auto" if height == width else "equal", interpolation=kind, **style)
        return axes

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Text at a pixel position, by default that of its top left corner."""
        self.figure.text(x / self.width, 1 - y / self.height, text, **({"va": "top"} | style))

    def title(self, x: float, y: float, title: str, note: str = "") -> None:
        """A bold line and, 26 pixels below its top, a muted one."""
        self.text(x, y, title, size=14, weight="bold")
        self.text(x, y + 26, note, size=10.5, color=MUTED)

    def colour_bar(
        self,
        x: float,
        y: float,
        width: float,
        norm: Normalize,
        cmap: str | Colormap,
        label: str = "",
        ticks: Mapping[float, str] | None = None,
    ) -> Axes:
        """A horizontal colour bar 10 pixels high on middle grey, with ticks and `label` below it; returns its axes.

        Labels of ticks at an end of the bar stay within its width.
        """
        axes = self.axes(x, y, width, 10, "colour bar")
        bar = self.figure.colorbar(ScalarMappable(norm, cmap), cax=axes, orientation="horizontal")
        bar.outline.set_visible(False)
        axes.set_facecolor("0.55")  # behind transparent colours
        axes.minorticks_off()
        axes.grid(False)
        axes.tick_params(length=3, labelsize=9.5)
        if ticks is not None:
            axes.set_xticks([*ticks], [*ticks.values()])
            for place, text in zip(ticks, axes.get_xticklabels(), strict=True):
                if place in (norm.vmin, norm.vmax):
                    text.set_horizontalalignment("left" if place == norm.vmin else "right")
        self.text(x, y + 34, label, size=9.5, color=MUTED)
        return axes


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the indices 0 to count - 1, evenly spread, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})
