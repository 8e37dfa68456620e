"""Which method's maps to trust: deletion and insertion beside their controls, and maps of randomised models.

Shapes: m methods, c controls, t points of a curve, k steps of randomisation.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.optimize import isotonic_regression

from vitpipe.figures.painting import Arrays, Drawn
from vitpipe.figures.style import BLUE, GREEN, INK, MUTED, ORANGE, Sheet, styled
from vitpipe.figures.text import extent
from vitpipe.metrics.faithfulness import ALIKE, CONTROLS, NAMES

DASHES: dict[str, Any] = {"random": "-", "centre": "--", "edge": ":", "near": "-."}
CURVES = {"deletion": ("deleted", "lower is better"), "insertion": ("put back", "higher is better")}
VERDICTS = {1: (BLUE, "better than every control"), 0: (MUTED, "not told apart"), -1: (ORANGE, "worse than a control")}
INTERVALS = "Bands and bars: 95 % intervals over images. Dotted line: the best control."
GAP, LEFT, WIDTH = 14, 84, 1240


def draw(arrays: Arrays) -> Drawn:
    """The figure with its caption. `arrays`: see `faithfulness`."""
    title, *notes = words(arrays)
    caption = f"{title}. {' '.join(notes)} {INTERVALS}"
    yield "faithfulness", faithfulness(arrays), "Which map to trust", caption


@styled
def faithfulness(arrays: Arrays) -> Figure:
    """Above the curves of each method beside the controls; below areas with intervals, and randomised weights.

    Colours tell how a method does against the best control: its area less that of the control, 95 % interval over
    images, above zero, around it, below it.

    Args:
        arrays: what `vitpipe.metrics.faithfulness.summary` gives; images, the number of images; score, what a curve
            is of, in words.
    """
    side = min((WIDTH - LEFT - 12 + GAP) // len(arrays["methods"]) - GAP, 180)
    sheet = Sheet(WIDTH, 1016)
    for i, text in enumerate(words(arrays)):
        size, weight, colour, y = (10.5, "normal", MUTED, 19 + 19 * i) if i else (14, "bold", INK, 10)
        while extent(text, size, weight) > WIDTH - 24:  # smaller type where it would not fit the sheet
            size -= 0.5
        sheet.text(12, y, text, size=size, weight=weight, color=colour)
    lines = [Line2D([], [], color=colour, linewidth=2.2, label=text) for colour, text in VERDICTS.values()]
    for name in arrays["controls"]:
        lines.append(Line2D([], [], color=MUTED, linewidth=1, linestyle=DASHES[name], label=CONTROLS[name]))
    legend = sheet.figure.legend(handles=lines, loc="center left", ncols=len(lines), fontsize=10, handletextpad=0.5)
    legend.set_bbox_to_anchor((4 / sheet.width, 1 - 114 / sheet.height))
    for row, (curve, (done, _)) in enumerate(CURVES.items()):
        y = 162 + row * 222
        for column, name in enumerate(arrays["methods"]):
            axes = sheet.axes(LEFT + column * (side + GAP), y, side, 150, f"{curve}: {name}")
            curves(axes, arrays, curve, column)
            axes.set_ylabel(f"{curve}: score" if column == 0 else "")
            axes.tick_params(labelleft=column == 0)
        text = f"share of patches {done}, most important first" + (", square-root axis" if rooted(arrays) else "")
        sheet.text(LEFT, y + 174, text, size=10.5)
        areas(sheet.axes(160 + row * 396, 636, 176, 290, f"{curve} areas"), arrays, curve)
    randomised(sheet.axes(872, 636, 176, 290, "randomised"), arrays)
    sheet.text(LEFT, 984, INTERVALS, size=10.5, color=MUTED)
    return sheet.figure


def words(arrays: Arrays) -> list[str]:
    """What to trust, by the numbers, and how they were taken: a title and notes."""
    names = np.array([NAMES[str(name)] for name in arrays["methods"]])
    stuck = arrays["correlations"][:, -1, 0] > ALIKE
    better = np.all([[verdict(arrays, curve, i) > 0 for i in range(len(names))] for curve in CURVES], axis=0)
    by_chance = np.all([arrays[f"{curve}_over_random"][:, 1] > 0 for curve in CURVES], axis=0)
    score = str(arrays["score"]).partition(";")[0].replace(" - ", " − ")
    notes = [
        f"Score: {score}, mean of {arrays['images']} test images.",
        f"Better than a random order in both: {listed(names[by_chance])}.",
    ]
    if stuck.any():
        notes.append(f"Much the same with random weights, so not learned: {listed(names[stuck])}.")
    if (better & ~stuck).any():
        title = f"Trust {listed(names[better & ~stuck])}: better than the best control in deletion and insertion"
    else:
        title = "Trust no map: none beats the best control in deletion and insertion and changes with the weights"
    return [title, *notes]


def listed(names: np.ndarray) -> str:
    """a, b and c; of no names none."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:]))) or "none"


def verdict(arrays: Arrays, curve: str, method: int) -> int:
    """1 where the interval of the gain over the best control lies above zero, -1 where it lies below, else 0."""
    _, low, high = arrays[f"{curve}_gain"][method]
    return int(low > 0) - int(high < 0)


def rooted(arrays: Arrays) -> bool:
    """Whether the points of the curves lie closer at the start, so that the axis widens it."""
    return not np.allclose(np.diff(arrays["share"]), arrays["share"][1])


def curves(axes: Axes, arrays: Arrays, curve: str, method: int) -> None:
    """One method's curve with its band, and the controls."""
    share, marks, labels = arrays["share"], np.array([0, 0.5, 1]), ["0", "½", "all"]
    if rooted(arrays):
        share, marks, labels = np.sqrt(share), np.sqrt([0, 0.05, 0.25, 1]), ["0", "5 %", "25 %", "all"]
    key, colour = str(arrays["methods"][method]), VERDICTS[verdict(arrays, curve, method)][0]
    for control, (values, *_) in zip(arrays["controls"], arrays[curve][len(arrays["methods"]) :], strict=True):
        axes.plot(share, values, DASHES[control], color=MUTED, linewidth=1, label=control)
    mean, low, high = arrays[curve][method]
    axes.fill_between(share, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(share, mean, color=colour, linewidth=2.2, label=key)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), yticks=[0, 0.5, 1])
    axes.set_xticks(marks, labels)
    ends = axes.get_xticklabels()
    ends[0].set_horizontalalignment("left")
    ends[-1].set_horizontalalignment("right")
    room = axes.get_window_extent().width / extent(NAMES[key], 10.5, "bold")
    axes.set_title(NAMES[key], size=10.5 * min(1, room), weight="bold", color=colour)
    axes.tick_params(labelsize=9.5, length=3)


def areas(axes: Axes, arrays: Arrays, curve: str) -> None:
    """Areas under the curves with their intervals, the best on top; controls are hollow."""
    count, found = len(arrays["methods"]), arrays[f"{curve}_area"]
    names = [NAMES[name] for name in arrays["methods"]] + [CONTROLS[name] for name in arrays["controls"]]
    order = np.argsort(found[:, 0] if curve == "deletion" else -found[:, 0], kind="stable")
    for y, i in enumerate(order):
        mean, low, high = found[i]
        colour, fill = (VERDICTS[verdict(arrays, curve, i)][0], None) if i < count else (MUTED, "white")
        axes.plot([low, high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot(mean, y, "o", color=colour, markersize=7, markerfacecolor=fill or colour)
        axes.text(1.04, y, f"{mean:.3f}", size=9.5, va="center", transform=axes.get_yaxis_transform())
    axes.axvline(found[order[order >= count][0], 0], color=MUTED, linewidth=0.9, linestyle=":")
    axes.set_yticks(range(len(order)), [names[i] for i in order])
    for tick, i in zip(axes.get_yticklabels(), order, strict=True):
        tick.set(color=INK if i < count else MUTED, style="normal" if i < count else "italic")
    axes.set(xlim=(0, 1), ylim=(len(order) - 0.5, -0.5), xticks=[0, 0.5, 1])
    axes.set_title(f"{curve.capitalize()}: {CURVES[curve][1]}", weight="bold", size=11.5)
    axes.set_xlabel("area under the curve", size=10.5)
    axes.tick_params(labelsize=10, length=3)
    axes.grid(axis="y", visible=False)


def randomised(axes: Axes, arrays: Arrays) -> None:
    """How far maps stay as they were while layers become random, from the head down."""
    steps = ["trained", *arrays["steps"]]
    ends, last = arrays["correlations"][:, -1, 0], len(steps) - 1
    axes.axhline(0, color=MUTED, linewidth=0.9)
    bottom = min(-0.35, float(arrays["correlations"].min()) - 0.05)
    places = apart(ends, 0.062 * (1.02 - bottom), bottom + 0.03, 1.0)
    for name, values, place in zip(arrays["methods"], arrays["correlations"], places, strict=True):
        colour, end = ORANGE if values[-1, 0] > ALIKE else GREEN, values[-1, 0]
        axes.plot(range(len(steps)), [1, *values[:, 0]], color=colour, linewidth=1.4, label=name)
        axes.plot([last, last], values[-1, 1:], color=colour, linewidth=1, clip_on=False)
        arrow = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "relpos": (0, 0.5)}
        text = f"{NAMES[str(name)]} {end:.2f}".replace("-", "−")
        label = axes.annotate(text, (last, end), (last + 0.25, place), annotation_clip=False, arrowprops=arrow)
        label.set(size=9.5, va="center", color=INK)
    axes.set_xticks(range(len(steps)), steps, rotation=45, ha="right")
    axes.set(xlim=(0, last), ylim=(bottom, 1.02))
    axes.set_title("Layers made random: should fall to 0", weight="bold", size=11.5)
    axes.set_ylabel("rank correlation with the trained map", size=10.5)
    axes.tick_params(labelsize=10, length=3)


def apart(values: np.ndarray, least: float, low: float, high: float) -> np.ndarray:
    """The places closest to `values` that are at least `least` from each other, from `low` to `high`."""
    order, steps = np.argsort(values), least * np.arange(len(values))
    places = isotonic_regression(values[order] - steps).x.clip(low, high - steps[-1]) + steps
    return places[np.argsort(order)]
