"""What the document says on cost growth, and its chart, from the content of that section."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from studies.tables import table
from vitpipe.figures.style import BLUE, MUTED, ORANGE, Sheet, styled

# of each setting: title, unit of the horizontal axis
AXES = {
    "model.patch": ("Tokens", "tokens (patch)"),
    "model.dim": ("Width", "model.dim"),
    "model.depth": ("Depth", "model.depth"),
    "model.heads": ("Heads", "model.heads"),
    "data.size": ("Image size", "HR side in px"),
}
INTRO = """A training step as `vitpipe.training.loop` takes it (forward, loss, backward, clipping, optimiser, averaged
weights) of the super-sampler with {batch} images of {size} px a batch, in {dtype} on the CPU. One setting changes, all
others are those of params.yaml: {model}. Every model has a process of its own; those of one setting take turns.
Numbers are medians of {rounds} rounds, in brackets the quartiles. Memory is the process's peak above what it was
before the model was made. A slope is that of the line through all points of a log-log plot: 1 grows in proportion, 2
with the square; in brackets that of the last two points alone, where what does not grow counts least. The settings were
changed one after the other, and a machine's speed may vary: the model of params.yaml stands in every panel, often with
another time in each. So times compare within a panel."""
SLOPE: dict[str, Any] = {"color": MUTED, "bbox": {"color": "white", "pad": 1}}
LEFT, WIDTH, HEIGHT = 92, 200, 250  # pixels of a panel


def markdown(content: dict[str, Any]) -> str:
    shown = ", ".join(f"{name} {content['model'][name]}" for name in ("patch", "dim", "depth", "heads", "mlp"))
    parts = ["![Time and memory of a training step](benchmarks/growth.png)"]
    parts.append(INTRO.format(**content | {"model": shown}))
    for key, points in content["axes"].items():
        x = along(key, points)
        time, memory = (
            slopes(x, [p["milliseconds"]["median"] for p in points]),
            slopes(x, [p["memory"] for p in points]),
        )
        title, _ = AXES[key]
        parts.append(f"**{title}** (`{key}`): slope of time {time}, of memory {memory}.")
        spent = [point["milliseconds"] for point in points]
        lines = [
            ["tokens", *(f"{point['tokens']}" for point in points)],
            ["weights", *(f"{point['parameters']:,}" for point in points)],
            ["ms a step", *(f"{ms['median']:.0f} ({ms['q1']:.0f}–{ms['q3']:.0f})" for ms in spent)],
            ["peak memory, MB", *(f"{point['memory']:.0f}" for point in points)],
        ]
        parts.append("\n".join(table([f"`{key}`", *(f"{point['value']}" for point in points)], lines)))
    return "\n\n".join(parts)


def along(key: str, points: list[dict[str, Any]]) -> list[float]:
    """What cost is drawn against: tokens where the patch changes, else the setting's value."""
    return [point["tokens" if key == "model.patch" else "value"] for point in points]


def slopes(x: list[float], y: list[float]) -> str:
    """Slope over all points and that of the last two, in a log-log plot."""
    across, up = np.log(x), np.log(y)
    whole = np.polyfit(across, up, 1)[0]
    return f"{whole:.2f} ({(up[-1] - up[-2]) / (across[-1] - across[-2]):.2f})"


def figures(content: dict[str, Any]) -> dict[str, Figure]:
    return {"growth": chart(content)}


@styled
def chart(content: dict[str, Any]) -> Figure:
    """A column for each setting: milliseconds of a step above, peak memory below, both axes logarithmic."""
    axes_of = content["axes"]
    sheet = Sheet(LEFT + len(axes_of) * (WIDTH + 50), 2 * (HEIGHT + 70) + 116)
    model = f"Super-sampler, batch of {content['batch']}, {content['dtype']}"
    sheet.title(LEFT, 14, "What a training step costs", f"{model}. Slope: through all points (the last two points).")
    times = {key: [point["milliseconds"]["median"] for point in points] for key, points in axes_of.items()}
    memories = {key: [point["memory"] for point in points] for key, points in axes_of.items()}
    rows = (("milliseconds a step", times, BLUE), ("peak memory, MB", memories, ORANGE))
    for i, (label, values, colour) in enumerate(rows):
        everywhere = [value for own in values.values() for value in own]
        limits = (min(everywhere) / 1.25, max(everywhere) * 1.6)
        for j, (key, points) in enumerate(axes_of.items()):
            axes = sheet.axes(LEFT + j * (WIDTH + 50), 112 + i * (HEIGHT + 70), WIDTH, HEIGHT, f"{label} {key}")
            x = along(key, points)
            axes.loglog(x, values[key], "o-", color=colour, markersize=5)
            if i == 0:
                low, high = ([point["milliseconds"][side] for point in points] for side in ("q1", "q3"))
                axes.vlines(x, low, high, color=colour, linewidth=3, alpha=0.5)
                axes.set_title(AXES[key][0], weight="bold", pad=10)
            axes.set_ylim(limits)
            axes.set_ylabel(label if j == 0 else "")
            axes.set_xlabel(AXES[key][1] if i == 1 else "")
            axes.text(0.05, 0.97, f"slope {slopes(x, values[key])}", va="top", **SLOPE | {"transform": axes.transAxes})
            ticks(axes, key, points, x)
    return sheet.figure


def ticks(axes: Axes, key: str, points: list[dict[str, Any]], x: list[float]) -> None:
    """The measured values below, plain numbers at the side."""
    labels = [f"{tokens}\n({point['value']})" for tokens, point in zip(x, points, strict=True)]
    axes.set_xticks(x, labels if key == "model.patch" else [f"{value}" for value in x], size=9)
    axes.xaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    steps = [step * 10**power for power in range(6) for step in (1, 2, 5)]
    axes.set_yticks([step for step in steps if low <= step <= high])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
