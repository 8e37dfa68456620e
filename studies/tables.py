"""The statistics of a study as Markdown."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

# heading and decimals of each measure
HEADINGS = {
    "gain": ("PSNR gain (dB)", 2),
    "diversity": ("head diversity", 3),
    "output_diversity": ("output diversity", 3),
    "entropy": ("entropy", 3),
    "distance": ("distance (px)", 2),
    "distance_ratio": ("distance / uniform", 3),
    "eyes_lift": ("eye lift", 2),
    "eyes_lift_untrained": ("eye lift, untrained", 2),
    "eyes_content_lift": ("eye content lift", 2),
    "background_lift": ("background lift", 2),
    "background_content_lift": ("background content lift", 2),
}
SURVIVES = {"eyes_survives": "eyes survive shift", "background_survives": "background survives shift"}
MINUS = "\u2212"


def markdown(
    runs: pd.DataFrame, cells: pd.DataFrame, differences: pd.DataFrame, slopes: pd.DataFrame, note: str
) -> str:
    """Three tables: means of the cells, differences between the patches, changes with the heads.

    Args:
        runs: a row for each run with patch, heads, seed and what was measured.
        cells, differences, slopes: what the functions of these names in `studies.statistics` give.
        note: what was trained, in a line.
    """
    measured = [name for name in HEADINGS if name in set(cells.measure[cells.n > 0])]
    titles = [HEADINGS[name][0] for name in measured]
    counts = {name: title for name, title in SURVIVES.items() if runs[name].notna().any()}
    parts = [f"{note}.", "Mean over the seeds, with the 95 % interval by Student's t.", ""]
    lines = []
    for (patch, heads), group in runs.groupby(["patch", "heads"]):
        own = cells[(cells.patch == patch) & (cells.heads == heads)]
        known = [group[name].dropna() for name in counts]
        shares = [f"{int(values.sum())} of {len(values)}" for values in known]
        whole = ", ".join(f"{number:,.0f}" for number in sorted(set(group.parameters.dropna())))
        lines.append([f"{patch}", f"{heads}", f"{len(group)}", whole, *shown(own, measured), *shares])
    parts += table(["patch", "heads", "runs", "parameters", *titles, *counts.values()], lines)
    uniform = runs.groupby("patch").distance_uniform.first().dropna()
    if len(uniform):
        equal = ", ".join(f"{value:.2f} px with patch {patch}" for patch, value in uniform.items())
        parts += ["", f"Attention to all tokens alike has a distance of {equal}."]
    if len(differences):
        small, large = runs.patch.min(), runs.patch.max()
        parts += ["", f"Patch {large} minus patch {small} at equal heads and seed; `all`: means over the heads.", ""]
        lines = [
            [f"{heads}", *shown(differences[differences.heads == heads], measured)]
            for heads in differences.heads.unique()
        ]
        parts += table(["heads", *titles], lines)
    if len(slopes):
        parts += ["", "Change with each doubling of the heads: slope over log2(heads) of each seed.", ""]
        lines = [[f"{patch}", *shown(slopes[slopes.patch == patch], measured)] for patch in slopes.patch.unique()]
        parts += table(["patch", *titles], lines)
    parts += ["", "Each interval stands for itself: with this many, one in twenty misses by chance."]
    return "\n".join(parts) + "\n"


def shown(estimates: pd.DataFrame, measures: Sequence[str]) -> list[str]:
    """Mean and interval of each measure, from rows of which each has one measure."""
    by_name = estimates.set_index("measure")
    return [number(by_name.loc[name], HEADINGS[name][1]) for name in measures]


def number(estimate: pd.Series, decimals: int) -> str:
    """`4.41 (4.30 to 4.52)`, the mean alone without an interval, a dash without a value."""
    if np.isnan(estimate["mean"]):
        return "–"
    mean, low, high = (rounded(value, decimals) for value in estimate[["mean", "low", "high"]])
    return f"{mean} ({low} to {high})" if np.isfinite(estimate["low"]) else mean


def rounded(value: float, decimals: int) -> str:
    """With a true minus, and none before a zero."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", MINUS)


def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, numbers to the right."""
    rows = [headings, ["--:"] * len(headings), *lines]
    return [f"| {' | '.join(line)} |" for line in rows]
