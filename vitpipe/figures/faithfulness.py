"""Which method's maps to trust: deletion and insertion beside their controls, and maps of randomised models."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from vitpipe.figures.style import BLUE, GREEN, INK, MUTED, ORANGE, Sheet, save, styled
from vitpipe.figures.text import extent
from vitpipe.metrics.faithfulness import ALIKE, CONTROLS, NAMES

DASHES = {"random": "-", "centre": "--", "edge": ":", "near": "-."}
WORDS = {"deletion": "lower is better", "insertion": "higher is better"}
VERDICTS = {1: (BLUE, "better than every control"), 0: (MUTED, "not told apart"), -1: (ORANGE, "worse than a control")}
GAP, LEFT, WIDTH = 14, 84, 1240


@styled
def faithfulness(arrays: Mapping[str, np.ndarray]) -> Figure:
    """Above the curves of each method beside the controls; below areas with intervals, and randomised weights.

    Colours tell how a method does against the best control: its area less that of the control, 95 % interval over
    images, above zero, around it, below it.

    Args:
        arrays: as `vitpipe.metrics.faithfulness.summary` gives them, with images, their number, and task.
    """
    count = len(arrays["methods"])
    side = min((WIDTH - LEFT - 12 + GAP) // count - GAP, 180)
    sheet = Sheet(WIDTH, 1016)
    title, *notes = words(arrays)
    line(sheet, 10, title, 14, weight="bold")
    for i, note in enumerate(notes):
        line(sheet, 38 + 19 * i, note, 10.5, color=MUTED)
    legend(sheet, 12, 104, arrays)
    for row, curve in enumerate(("deletion", "insertion")):
        y = 162 + row * 222
        for column in range(count):
            axes = sheet.axes(LEFT + column * (side + GAP), y, side, 150, f"{curve}: {arrays['methods'][column]}")
            curves(axes, arrays, curve, column)
            axes.set_ylabel(f"{curve}: score" if column == 0 else "")
            if column:
                axes.tick_params(labelleft=False)
        unit = "patches deleted" if curve == "deletion" else "patches put back"
        text = f"share of {unit}, most important first" + (", square-root axis" if rooted(arrays) else "")
        sheet.text(LEFT, y + 174, text, size=10.5)
    for column, curve in enumerate(("deletion", "insertion")):
        areas(sheet.axes(160 + column * 396, 636, 176, 290, f"{curve} areas"), arrays, curve)
    randomised(sheet.axes(872, 636, 176, 290, "randomised"), arrays)
    return sheet.figure


def line(sheet: Sheet, y: float, text: str, size: float, weight: str = "normal", color: str = INK) -> None:
    """One line at the left, in smaller type where it would not fit the sheet."""
    while extent(text, size, weight) > WIDTH - 24:
        size -= 0.5
    sheet.text(12, y, text, size=size, weight=weight, color=color)


def verdict(arrays: Mapping[str, np.ndarray], curve: str, method: int) -> int:
    """1 where the interval of the gain over the best control lies above zero, -1 where it lies below, else 0."""
    _, low, high = arrays[f"{curve}_gain"][method]
    return int(low > 0) - int(high < 0)


def curves(axes: Axes, arrays: Mapping[str, np.ndarray], curve: str, method: int) -> None:
    """One method's curve with its band, and the controls."""
    share, count = arrays["share"], len(arrays["methods"])
    marks = np.array([0, 0.5, 1])
    if rooted(arrays):
        share, marks = np.sqrt(share), np.sqrt([0, 0.05, 0.25, 1])
    colour = VERDICTS[verdict(arrays, curve, method)][0]
    for i, control in enumerate(arrays["controls"]):
        axes.plot(share, arrays[curve][count + i][0], DASHES[control], color=MUTED, linewidth=1, label=control)
    mean, low, high = arrays[curve][method]
    axes.fill_between(share, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(share, mean, color=colour, linewidth=2.2, label=arrays["methods"][method])
    axes.set(xlim=(0, 1), ylim=(0, 1.02), yticks=[0, 0.5, 1])
    axes.set_xticks(marks, ["0", "5 %", "25 %", "all"] if rooted(arrays) else ["0", "½", "all"])
    ends = axes.get_xticklabels()
    ends[0].set_horizontalalignment("left")
    ends[-1].set_horizontalalignment("right")
    name = NAMES[str(arrays["methods"][method])]
    room = axes.get_window_extent().width / extent(name, 10.5, "bold")
    axes.set_title(name, size=10.5 * min(1, room), weight="bold", color=colour)
    axes.tick_params(labelsize=9.5, length=3)


def rooted(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether the points of the curves lie closer at the start, and the axis widens it."""
    return not np.allclose(np.diff(arrays["share"]), arrays["share"][1])


def legend(sheet: Sheet, x: float, y: float, arrays: Mapping[str, np.ndarray]) -> None:
    """What colours and dashes mean, in one line."""
    axes = sheet.axes(x, y, WIDTH - 24, 20, "legend")
    axes.set(xlim=(0, WIDTH - 24), ylim=(0, 1))
    axes.axis("off")
    place = 0.0
    entries = [(colour, "-", 2.2, text) for colour, text in VERDICTS.values()]
    entries += [(MUTED, DASHES[name], 1, CONTROLS[name]) for name in arrays["controls"]]
    for colour, dash, width, text in entries:
        axes.plot([place, place + 24], [0.5, 0.5], dash, color=colour, linewidth=width)
        axes.text(place + 30, 0.5, text, size=10, va="center", color=INK)
        place += 30 + extent(text, 10) + 22


def areas(axes: Axes, arrays: Mapping[str, np.ndarray], curve: str) -> None:
    """Areas under the curves with their intervals, the best on top; controls are hollow."""
    names, count = [*arrays["methods"], *arrays["controls"]], len(arrays["methods"])
    found = arrays[f"{curve}_area"]
    order = np.argsort(found[:, 0] if curve == "deletion" else -found[:, 0], kind="stable")
    for y, i in enumerate(order):
        mean, low, high = found[i]
        colour = VERDICTS[verdict(arrays, curve, i)][0] if i < count else MUTED
        axes.plot([low, high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot(mean, y, "o", color=colour, markersize=7, markerfacecolor=colour if i < count else "white")
        axes.text(1.04, y, f"{mean:.3f}", size=9.5, va="center", transform=axes.get_yaxis_transform())
    best = order[order >= count][0]
    axes.axvline(found[best, 0], color=MUTED, linewidth=0.9, linestyle=":")
    labels = [NAMES.get(str(names[i])) or CONTROLS[str(names[i])] for i in order]
    axes.set_yticks(range(len(order)), labels)
    for tick, i in zip(axes.get_yticklabels(), order, strict=True):
        tick.set(color=INK if i < count else MUTED, style="normal" if i < count else "italic")
    axes.set(xlim=(0, 1), ylim=(len(order) - 0.5, -0.5), xticks=[0, 0.5, 1])
    axes.set_title(f"{curve.capitalize()}: {WORDS[curve]}", weight="bold", size=11.5)
    axes.set_xlabel("area under the curve", size=10.5)
    axes.tick_params(labelsize=10, length=3)
    axes.grid(axis="y", visible=False)


def randomised(axes: Axes, arrays: Mapping[str, np.ndarray]) -> None:
    """How far maps stay as they were while layers become random, from the head down."""
    steps = ["trained", *arrays["steps"]]
    ends = arrays["correlations"][:, -1, 0]
    axes.axhline(0, color=MUTED, linewidth=0.9)
    bottom = min(-0.35, float(arrays["correlations"].min()) - 0.05)
    places = apart(ends, 0.062 * (1.02 - bottom), bottom + 0.03, 1.0)
    for name, values, place in zip(arrays["methods"], arrays["correlations"], places, strict=True):
        colour = ORANGE if values[-1, 0] > ALIKE else GREEN
        axes.plot(range(len(steps)), [1, *values[:, 0]], color=colour, linewidth=1.4, label=name)
        axes.plot([len(steps) - 1, len(steps) - 1], values[-1, 1:], color=colour, linewidth=1, clip_on=False)
        style = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "relpos": (0, 0.5)}
        axes.annotate(
            f"{NAMES[str(name)]} {values[-1, 0]:.2f}".replace("-", "−"),
            (len(steps) - 1, values[-1, 0]),
            (len(steps) - 0.75, place),
            size=9.5,
            va="center",
            color=INK,
            annotation_clip=False,
            arrowprops=style,
        )
    axes.set_xticks(range(len(steps)), steps, rotation=45, ha="right")
    axes.set(xlim=(0, len(steps) - 1), ylim=(bottom, 1.02))
    axes.set_title("Layers made random: should fall to 0", weight="bold", size=11.5)
    axes.set_ylabel("rank correlation with the trained map", size=10.5)
    axes.tick_params(labelsize=10, length=3)


def apart(values: np.ndarray, least: float, low: float, high: float) -> np.ndarray:
    """The places closest to `values` that are at least so far from each other, from `low` to `high`."""
    order, steps = np.argsort(values), least * np.arange(len(values))
    places = isotonic_regression(values[order] - steps).x.clip(low, high - steps[-1]) + steps
    return places[np.argsort(order)]


def words(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """What to trust, by the numbers, and how they were taken."""
    names = [NAMES[str(name)] for name in arrays["methods"]]
    stuck = [name for name, ends in zip(names, arrays["correlations"][:, -1, 0], strict=True) if ends > ALIKE]
    better = {
        curve: [name for i, name in enumerate(names) if verdict(arrays, curve, i) > 0]
        for curve in ("deletion", "insertion")
    }
    wins = {curve: [name for name in found if name not in stuck] for curve, found in better.items()}
    trusted = [name for name in wins["deletion"] if name in wins["insertion"]]
    if trusted:
        title = f"Trust {listed(trusted)}: better than the best control in deletion and insertion"
    elif any(wins.values()):
        parts = [f"{listed(found)} in {curve}" for curve, found in wins.items() if found]
        title = f"Trust with care what beats the best control: {', '.join(parts)}"
    elif any(better.values()):
        title = "Trust no map: what beats the best control is much the same with random weights"
    else:
        rivals = list(dict.fromkeys(CONTROLS[str(arrays[f"{curve}_best"])] for curve in wins))
        title = f"No map tells more than the order “{'” or “'.join(rivals)}”"
    task = str(arrays["task"])
    score = (
        "probability of the predicted class" if task == "classify" else "how far the window's output stays as it was"
    )
    notes = [
        f"Score: {score}, mean of {arrays['images']} test images; bands and bars: 95 % intervals over images. "
        "Dotted line: the best control."
    ]
    chance = [name for i, name in enumerate(names) if all(arrays[f"{c}_over_random"][i, 1] > 0 for c in wins)]
    found = (
        f"Better than a random order in both: {listed(chance)}."
        if chance
        else "None is better than a random order in both."
    )
    notes.append(found)
    if stuck:
        one = len(stuck) == 1
        about = f"stay{'s' * one} much the same with random weights: {'it shows' if one else 'they show'}"
        sentence = f"{listed(stuck)} {about} image and architecture more than what was learned."
        notes.append(sentence[0].upper() + sentence[1:])
    return [title, *notes]


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def draw(arrays: Mapping[str, np.ndarray], folder: Path) -> dict[str, dict[str, str]]:
    """Writes the figure as a PNG file; returns its title and caption by file name."""
    save(faithfulness(arrays), folder / "faithfulness.png")
    title, *notes = words(arrays)
    return {"faithfulness.png": {"title": "Which map to trust", "caption": f"{title}. {' '.join(notes)}"}}
