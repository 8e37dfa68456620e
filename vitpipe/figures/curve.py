"""How training went: the loss and a score against the epoch.

Shapes: e epochs.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from vitpipe.figures.painting import Arrays, Drawn
from vitpipe.figures.style import BLUE, GREEN, MUTED, ORANGE, Sheet, styled

# of each score: name, unit, factor from the table to what is drawn, decimals
SCORES = {"psnr": ("PSNR", "dB", 1, 2), "accuracy": ("accuracy", "%", 100, 1)}


def draw(arrays: Arrays) -> Drawn:
    """The figure with its caption. `arrays`: see `curve`."""
    name, *_ = measure(str(arrays["score"]))
    kept = "the marked epoch, best on validation images, was kept"
    if "averaged" in arrays:
        kept = "the model is the mean of the weights of the marked epochs"
    caption = f"Loss and {name} per epoch; {kept}."
    yield "curve", curve(arrays), "Training", caption


@styled
def curve(arrays: Arrays) -> Figure:
    """Loss and score on training and validation images.

    Args:
        arrays: epoch, train_loss, val_loss, train_SCORE and val_SCORE (e,). The epoch with the highest val_SCORE, of
            several the one with the lowest val_loss, is marked as the one that was kept. score, the name SCORE, for
            instance psnr (dB) or accuracy (0 to 1, drawn in percent). May have reference, the name of what the model
            has to beat, whose last val_REFERENCE_SCORE is a dashed line, training, what the legend calls the training
            images, for instance "training (augmented)", and averaged, the epochs (a,) of which the weights are the
            mean; then these are marked.
    """
    score, reference = str(arrays["score"]), str(arrays.get("reference", ""))
    name, unit, factor, decimals = measure(score)
    sheet = Sheet(1200, 450)
    panels = {name: sheet.axes(x, 70, 490, 320, name) for name, x in (("loss", 78), (score, 660))}
    epochs, best = arrays["epoch"], np.lexsort((arrays["val_loss"], -arrays[f"val_{score}"]))[0]
    averaged = arrays.get("averaged", epochs[:0])
    marked = np.flatnonzero(np.isin(epochs, averaged)) if len(averaged) else np.array([best])
    parts = (("train", str(arrays.get("training", "training")), BLUE), ("val", "validation", ORANGE))
    for column, axes in panels.items():
        scale = factor if column == score else 1
        for part, label, colour in parts:
            axes.plot(epochs, scale * arrays[f"{part}_{column}"], "o-", color=colour, markersize=3.5, label=label)
        for epoch in epochs[marked]:
            axes.axvline(epoch, color=MUTED, linewidth=0.9, linestyle=":")
        values = scale * arrays[f"val_{column}"][marked]
        axes.plot(epochs[marked], values, "o", color=ORANGE, markersize=9, markerfacecolor="white", zorder=4)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    readable_log_scale(panels["loss"], np.stack([arrays["train_loss"], arrays["val_loss"]]))
    panels["loss"].legend(loc="best")
    kept = factor * arrays[f"val_{score}"][best]
    note = f"{'best' if len(averaged) else 'kept'}: epoch {epochs[best]:g} with {kept:.{decimals}f} {unit}".rstrip()
    if reference:
        level = factor * arrays[f"val_{reference}_{score}"][-1]
        axes, text = panels[score], f"{reference} on validation {level:.{decimals}f} {unit}"
        axes.axhline(level, color=GREEN, linestyle="--", label=reference)
        told = axes.text(1, level, text, color=GREEN, ha="right", va="center", transform=axes.get_yaxis_transform())
        told.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
        note += f", {kept - level:+.{decimals}f} on {reference}".replace("-", "−")
    else:
        note += " on validation images"
    if len(averaged):
        note += f"; kept: the mean of epochs {', '.join(f'{epoch:g}' for epoch in np.sort(averaged))}"
    panels[score].margins(y=0.1)
    sheet.title(78, 14, "Loss")
    sheet.title(660, 14, f"{name[0].upper()}{name[1:]}{f' in {unit}' if unit else ''}", note)
    return sheet.figure


def measure(score: str) -> tuple[str, str, int, int]:
    """Name, unit, factor and decimals of a score; one that is not known is drawn as it is."""
    return SCORES.get(score, (score.replace("_", " "), "", 1, 4))


def readable_log_scale(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic y axis with plain numbers, if the values are positive and span a factor of two."""
    finite = values[np.isfinite(values)]
    if finite.min() > 0 and finite.max() > 2 * finite.min():
        axes.set_yscale("log")
        if finite.max() > 10 * finite.min():  # beyond a decade, numbers at 1, 2 and 5 only, or they overlap
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
