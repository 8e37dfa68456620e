"""How training went."""

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, ScalarFormatter

from vitpipe.figures.style import BLUE, GREEN, MUTED, ORANGE, Sheet, styled

# of each score: title of its panel, factor from the table to what is drawn, unit, decimals
SCORES = {"psnr": ("PSNR in dB", 1, "dB", 2), "accuracy": ("Accuracy in %", 100, "%", 1)}
Corner = Literal["upper right", "lower left", "upper left", "lower right"]


@styled
def curves(
    curve: pd.DataFrame, score: str, baseline: tuple[str, float] | None = None, training: str = "training"
) -> Figure:
    """Loss and a score against the epoch, on training and validation images.

    Args:
        curve: columns epoch, train_loss, val_loss, train_`score` and val_`score`; the epoch with the highest
            val_`score`, of several the one with the lowest val_loss, is marked as the one that was kept.
        score: "psnr" (dB) or "accuracy" (0 to 1 in the table, drawn in percent).
        baseline: name and validation score of what the model is to beat, as in the table; a dashed line.
        training: what the legend calls the training images, for instance "training (augmented)".
    """
    title, factor, unit, decimals = SCORES[score]
    sheet = Sheet(1200, 450)
    panels = {name: sheet.axes(x, 70, 490, 320, name) for name, x in (("loss", 78), (score, 660))}
    best = curve.sort_values([f"val_{score}", "val_loss"], ascending=[False, True], kind="stable").iloc[0]
    for measure, axes in panels.items():
        scale = factor if measure == score else 1
        for part, name, colour in (("train", training, BLUE), ("val", "validation", ORANGE)):
            axes.plot(curve.epoch, scale * curve[f"{part}_{measure}"], "o-", color=colour, markersize=3.5, label=name)
        axes.axvline(best.epoch, color=MUTED, linewidth=0.9, linestyle=":")
        value = scale * best[f"val_{measure}"]
        axes.plot(best.epoch, value, "o", color=ORANGE, markersize=9, markerfacecolor="white", zorder=4)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(curve) == 1:
            axes.set_xlim(best.epoch - 1, best.epoch + 1)
    readable_log_scale(panels["loss"], curve[["train_loss", "val_loss"]].to_numpy())
    panels["loss"].legend(loc=free_corner(panels["loss"]))
    kept = factor * best[f"val_{score}"]
    note = f"kept: epoch {best.epoch:g} with {kept:.{decimals}f} {unit}"
    if baseline:
        name, reference = baseline[0], factor * baseline[1]
        dashed(panels[score], reference, name, f"{name} on validation {reference:.{decimals}f} {unit}")
        note += f", {kept - reference:+.{decimals}f} on {name}".replace("-", "−")
    else:
        note += " on validation images"
    panels[score].margins(y=0.1)
    sheet.title(78, 14, "Loss")
    sheet.title(660, 14, title, note)
    return sheet.figure


def dashed(axes: Axes, level: float, name: str, text: str) -> None:
    """A dashed line at `level` with `text` on it at the right."""
    axes.axhline(level, color=GREEN, linestyle="--", label=name)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    place = axes.get_yaxis_transform()
    axes.text(1, level, text, color=GREEN, ha="right", va="center", transform=place, bbox=box)


def free_corner(axes: Axes) -> Corner:
    """The corner with the least of the drawn curves in it, the upper right one where several are as free."""
    pieces = []
    for line in axes.lines:
        x, y = (np.asarray(values, dtype=np.float64) for values in line.get_data())
        if len(x) > 1 and line.get_transform() == axes.transData:
            dense = np.linspace(x[0], x[-1], 300)  # lines cross a corner between their points, too
            pieces.append(axes.transData.transform(np.stack([dense, np.interp(dense, x, y)], axis=1)))
    if not pieces:
        return "upper right"
    across, up = axes.transAxes.inverted().transform(np.concatenate(pieces)).T
    high, low, right, left = up > 0.78, up < 0.22, across > 0.55, across < 0.45
    corners: dict[Corner, np.ndarray] = {
        "upper right": high & right,
        "lower left": low & left,
        "upper left": high & left,
        "lower right": low & right,
    }
    return min(corners, key=lambda corner: corners[corner].sum())


def readable_log_scale(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic y axis with plain numbers, if the values are positive and span a factor of two."""
    finite = values[np.isfinite(values)]
    if finite.min() > 0 and finite.max() > 2 * finite.min():
        axes.set_yscale("log")
        if finite.max() > 10 * finite.min():  # beyond a decade, numbers at 1, 2 and 5 only, or they overlap
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        for axis_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            axis_formatter(ScalarFormatter())
