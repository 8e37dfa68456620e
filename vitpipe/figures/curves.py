"""How training went."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from vitpipe.figures.style import BLUE, GREEN, MUTED, ORANGE, Sheet, styled


@styled
def curves(curve: pd.DataFrame) -> Figure:
    """Loss and PSNR against the epoch, on training and validation images, beside bicubic.

    Args:
        curve: columns epoch, train_loss, train_psnr, val_loss, val_psnr and val_bicubic_psnr (dB,
            a constant); the epoch with the highest val_psnr is marked as the one that was kept.
    """
    sheet = Sheet(1200, 450)
    loss = sheet.axes(78, 70, 490, 320, "loss")
    psnr = sheet.axes(660, 70, 490, 320, "psnr")
    best = curve.loc[curve.val_psnr.idxmax()]
    for axes, measure in ((loss, "loss"), (psnr, "psnr")):
        for part, name, colour in (("train", "training", BLUE), ("val", "validation", ORANGE)):
            axes.plot(curve.epoch, curve[f"{part}_{measure}"], "o-", color=colour, markersize=3.5, label=name)
        axes.axvline(best.epoch, color=MUTED, linewidth=0.9, linestyle=":")
        axes.plot(
            best.epoch, best[f"val_{measure}"], "o", color=ORANGE, markersize=9, markerfacecolor="white", zorder=4
        )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(curve) == 1:
            axes.set_xlim(best.epoch - 1, best.epoch + 1)
    readable_log_scale(loss, curve[["train_loss", "val_loss"]].to_numpy())
    loss.legend(loc="upper right")
    reference = float(curve.val_bicubic_psnr.iloc[-1])
    psnr.axhline(reference, color=GREEN, linestyle="--", label="bicubic")
    label = f"bicubic on validation {reference:.2f} dB"
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    place = psnr.get_yaxis_transform()
    psnr.text(0.99, reference, label, color=GREEN, ha="right", va="center", transform=place, bbox=box)
    psnr.margins(y=0.1)
    gain = f"{best.val_psnr - reference:+.2f}".replace("-", "−")
    sheet.title(78, 14, "Loss")
    sheet.title(660, 14, "PSNR in dB", f"kept: epoch {best.epoch:g} with {best.val_psnr:.2f} dB, {gain} on bicubic")
    return sheet.figure


def readable_log_scale(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic y axis with plain numbers, if the values are positive and span a factor of two."""
    finite = values[np.isfinite(values)]
    if finite.min() > 0 and finite.max() > 2 * finite.min():
        axes.set_yscale("log")
        for axis_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            axis_formatter(ScalarFormatter())
