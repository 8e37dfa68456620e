"""The figure of the quality section."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitpipe.figures.style import BLUE, GREEN, INK, MUTED, ORANGE, Sheet, styled

PEERS = (ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#7a5c3e")  # the rest of Okabe and Ito's palette, and a brown
FLOOR = -1.0  # dB; what is worse is told at the lower edge, or nothing could be told apart above
NEAR, NEAR_END = 0.5, 0.45  # dB below the best, and share of the time from which on, in the panel of the end
LINE = 0.065  # height of a label, as a share of the axes'


@styled
def quality(content: Mapping[str, Any]) -> Figure:
    """Gain in test PSNR over bicubic against minutes of training, a curve for each network with the range of its seeds.

    At the right once more the end of those that come near the best.

    Args:
        content: what `benchmarks.quality.run` returned.
    """
    networks = {name: one for name, one in content["networks"].items() if "curve" in one}
    final = {name: one["gain"]["psnr"]["mean"] for name, one in networks.items()}
    colours = dict(zip([name for name in networks if name != "ours"], PEERS, strict=False)) | {"ours": BLUE}
    best = max([*final.values(), *(point["most"] for one in networks.values() for point in one["curve"])])
    worst = min([*final.values(), *(point["least"] for one in networks.values() for point in one["curve"])])
    bottom = max(FLOOR, min(worst, 0))
    room = 0.06 * (best - bottom)
    minutes = content["minutes"]
    sheet = Sheet(1500, 600)
    axes = sheet.axes(78, 90, 560, 440, "curves")
    curves(axes, networks, colours)
    axes.axhline(0, color=MUTED, linestyle="--", linewidth=1)
    axes.set(xlim=(0, minutes * 1.005), ylim=(bottom - room, best + room), xlabel="minutes of training")
    axes.text(0.01 * minutes, 0, "bicubic", color=MUTED, va="bottom", size=10)
    labels(axes, {name: (networks[name]["title"], value, colours[name]) for name, value in final.items()})
    end = sheet.axes(1000, 90, 460, 440, "end")
    curves(end, networks, colours)
    end.set(
        xlim=(minutes * NEAR_END, minutes * 1.01), ylim=(best - NEAR, best + NEAR / 10), xlabel="minutes of training"
    )
    end.set_title(f"The last {NEAR:g} dB", weight="bold")
    seeds = max(len(one["seeds"]) for one in networks.values())
    what = f"mean and range of {seeds} seeds" if seeds > 1 else "one seed"
    note = (
        f"Curves: gain in PSNR over bicubic on {content['curve_images']} test images, {what}. "
        f"Numbers between the panels: on all {content['images']['test']:,}."
    )
    sheet.title(78, 14, f"Quality after equal time, {minutes:g} minutes each", note)
    sheet.text(78, 64, "dB over bicubic", size=10.5, color=INK)
    return sheet.figure


def curves(axes: Axes, networks: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    for name, one in networks.items():
        ours = name == "ours"
        x = [point["seconds"] / 60 for point in one["curve"]]
        style: dict[str, Any] = {"color": colours[name], "zorder": 4 if ours else 3}
        low, high = ([point[side] for point in one["curve"]] for side in ("least", "most"))
        axes.fill_between(x, low, high, alpha=0.2, linewidth=0, **style)
        mean = [point["psnr"] for point in one["curve"]]
        axes.plot(x, mean, "o-", linewidth=2.4 if ours else 1.6, markersize=5 if ours else 3, **style)


def labels(axes: Axes, final: Mapping[str, tuple[str, float, str]]) -> None:
    """Title and final value of every curve at the right end, moved apart where they would touch."""
    low, high = axes.get_ylim()
    order = sorted(final, key=lambda name: -final[name][1])
    heights = [min(1.0, max(0.0, (final[name][1] - low) / (high - low))) for name in order]
    for i in range(1, len(heights)):
        heights[i] = min(heights[i], heights[i - 1] - LINE)
    lift = max(0.0, -heights[-1]) if heights else 0.0
    for i in reversed(range(len(heights))):  # what was pushed out below pushes the others up
        heights[i] = max(heights[i], heights[i + 1] + LINE) if i + 1 < len(heights) else heights[i] + lift
    for name, height in zip(order, heights, strict=True):
        title, value, colour = final[name]
        text = f"{value:+.2f}".replace("-", "−") + f"  {title}" + (" (below)" if value < low else "")
        weight = "bold" if name == "ours" else "normal"
        axes.text(1.015, height, text, color=colour, weight=weight, va="center", transform=axes.transAxes)
