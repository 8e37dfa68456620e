"""How much room a text needs, known before a figure is laid out."""

from collections.abc import Callable
from functools import cache

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties

from vitpipe.figures.style import DPI, FONT

RENDERER = RendererAgg(1, 1, DPI)  # moves glyphs to whole pixels, as figures do


@cache
def extent(text: str, size: float, weight: str = "normal") -> float:
    """Width in pixels of a text as it is drawn in type of `size` points; dollar signs are dollar signs."""
    font = FontProperties(family=FONT, size=size, weight=weight)
    width, _, _ = RENDERER.get_text_width_height_descent(text, font, ismath=False)
    return width


def beginning(text: str, most: int) -> str:
    """The beginning of a long text, at most `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def shortened(text: str, most: int = 24) -> str:
    """The end of a long text, such as a sample id, where names differ."""
    return text if len(text) <= most else f"…{text[1 - most :]}"


def fitted(
    text: str, width: float, size: float, shorten: Callable[[str, int], str] = shortened, weight: str = "normal"
) -> str:
    """`text`, made shorter by `shorten(text, most)` until it is at most `width` pixels wide."""
    for most in range(len(text), 1, -1):
        if extent(short := shorten(text, most), size, weight) <= width:
            return short
    return shorten(text, 1)
