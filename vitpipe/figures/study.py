"""What patch size and the number of heads change, over several trainings."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitpipe.figures.style import BLUE, MUTED, ORANGE, Sheet, styled

TITLE = "What patch size and number of heads change"
# of each measure: title of its panel, label of the axis
PANELS = {
    "gain": ("Gain over bicubic", "PSNR gain in dB"),
    "diversity": ("Do heads differ?", "head diversity, 0 to 1"),
    "eyes_lift": ("Does a head look at the eyes?", "eye lift, × area share"),
    "distance": ("How far do heads look?", "distance in LR px"),
}
COLOURS = (BLUE, ORANGE)
WIDTH, HEIGHT, ACROSS = 464, 300, 640  # pixels: axes, and from one to the next
SHIFT = 0.015  # of the axis, between the points of the two patch sizes


@styled
def study(runs: pd.DataFrame, cells: pd.DataFrame, note: str) -> Figure:
    """Four panels against the number of heads: PSNR gain, head diversity, eye lift and attention distance.

    A faint dot is a run, a line joins the means over the seeds, a bar is the mean's 95 % interval.

    Args:
        runs: a row for each run with patch (one or two sizes), heads, gain in dB, diversity in 0..1, eyes_lift as
            multiple of the area share, distance and distance_uniform in pixels of the LR input; nan where unknown.
        cells: columns measure, patch, heads, mean, low, high, as `studies.statistics.cells` gives; low and high
            are nan with one seed.
        note: what was trained on what.
    """
    sheet = Sheet(2 * ACROSS + 20, 2 * (HEIGHT + 110) + 62)
    legend = "Dots: single runs. Lines: means over the seeds. Bars: 95 % intervals of the means."
    sheet.title(12, 10, TITLE, f"{note}.\n{legend} Dashed: attention that is everywhere alike.")
    for i, (measure, (title, label)) in enumerate(PANELS.items()):
        x, y = 84 + i % 2 * ACROSS, 118 + i // 2 * (HEIGHT + 100)
        sheet.text(x, y - 8, title, size=12.5, weight="bold", va="bottom")
        axes = sheet.axes(x, y, WIDTH, HEIGHT, measure)
        heads_axis(axes, runs.heads)
        axes.set_ylabel(label)
        if runs[measure].isna().all():
            axes.set(yticks=[])
            axes.text(0.5, 0.5, "not measured", color=MUTED, ha="center", transform=axes.transAxes)
            continue
        curves(axes, runs, cells[cells.measure == measure], measure)
        references(axes, runs, measure)
    return sheet.figure


def heads_axis(axes: Axes, heads: pd.Series) -> None:
    """Numbers of heads at even distances for each doubling."""
    numbers = sorted(heads.unique())
    places = np.log2(numbers)
    axes.set_xticks(places, [str(number) for number in numbers])
    room = 0.12 * max(places[-1] - places[0], 1.0)
    axes.set(xlim=(places[0] - room, places[-1] + room), xlabel="heads")


def curves(axes: Axes, runs: pd.DataFrame, cells: pd.DataFrame, measure: str) -> None:
    """Dots, means and intervals of each patch size, whose name stands at the end of its line."""
    patches = sorted(runs.patch.unique())
    assert len(patches) <= len(COLOURS), f"{len(patches)} patch sizes for {len(COLOURS)} colours"
    (start, end), ends = axes.get_xlim(), []
    for i, (patch, colour) in enumerate(zip(patches, COLOURS, strict=False)):
        shift = SHIFT * (end - start) * (2 * i - len(patches) + 1)
        own, means = runs[runs.patch == patch], cells[cells.patch == patch].sort_values("heads")
        x = np.log2(means.heads.to_numpy(dtype=np.float64)) + shift
        dots = np.log2(own.heads.to_numpy(dtype=np.float64)) + 2.6 * shift  # beside the bar, not upon it
        axes.plot(
            dots, own[measure], "o", color=colour, alpha=0.5, markersize=6, markeredgewidth=0, label=f"runs {patch}"
        )
        axes.vlines(x, means.low, means.high, color=colour, linewidth=2.2, zorder=3)
        axes.plot(x, means["mean"], "o-", color=colour, markersize=5, zorder=4, label=f"patch {patch}")
        last = means[means["mean"].notna()]
        if len(last):
            ends.append((float(last["mean"].iloc[-1]), f"patch {patch}", colour))
    low, high = limits(runs, cells, measure)
    axes.set_ylim(low, high)
    for (_, name, colour), y in zip(ends, apart([end[0] for end in ends], 0.07 * (high - low)), strict=True):
        place: dict[str, Any] = {"ha": "left", "va": "center", "transform": axes.get_yaxis_transform()}
        axes.text(1.015, y, name, color=colour, weight="bold", **place)


def references(axes: Axes, runs: pd.DataFrame, measure: str) -> None:
    """Dashed, the value of attention that looks everywhere alike: a lift of 1, the distance of each patch size."""
    if measure == "eyes_lift":
        axes.axhline(1.0, color=MUTED, linestyle="--", linewidth=1.1, zorder=1)
    elif measure == "distance":
        uniform = runs.groupby("patch").distance_uniform.first().dropna()
        for value, colour in zip(uniform, COLOURS, strict=False):
            axes.axhline(value, color=colour, linestyle="--", linewidth=1.1, zorder=1)


def limits(runs: pd.DataFrame, cells: pd.DataFrame, measure: str) -> tuple[float, float]:
    """Where an axis begins and ends: all of diversity's range, else around dots, intervals and reference lines."""
    if measure == "diversity":
        return 0.0, 1.0
    levels = {"eyes_lift": [1.0], "distance": list(runs.distance_uniform)}.get(measure, [])
    known = np.concatenate([runs[measure], cells.low, cells.high, levels]).astype(np.float64)
    low, high = float(np.nanmin(known)), float(np.nanmax(known))
    room = 0.12 * (high - low) or 0.1
    return low - room, high + room


def apart(values: list[float], least: float) -> list[float]:
    """Places of at most two labels, moved apart to a distance of `least`."""
    if len(values) < 2 or abs(values[0] - values[1]) >= least:
        return values
    middle, sign = sum(values) / 2, 1 if values[0] >= values[1] else -1
    return [middle + sign * least / 2, middle - sign * least / 2]
