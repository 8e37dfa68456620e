"""Do smaller patches, or more heads, change what a super-sampler reaches and where it looks?

    python -m studies.patch_and_heads queue          # train patch 3, 6 x heads 4, 8, 16, 32 x seed 0, 1, 2
    python -m studies.patch_and_heads gather faces   # docs/study/faces.csv, faces.md and faces.png

Every `-S key=value` changes a setting of all runs, or the values of patch, heads or seed; give both commands the same.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import linregress

from studies.experiments import Run, dvc, finished, interval, lines, parse, queued, run_queued, written
from vitpipe.errors import InputError
from vitpipe.figures.style import BLUE, GREEN, MUTED, ORANGE, Sheet, save, styled
from vitpipe.files import atomic_file

FOLDER = Path("docs/study")
AXES = {"model.patch": "3,6", "model.heads": "4,8,16,32", "seed": "0,1,2"}
MEASURES = {  # heading and decimals
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
PANELS = ("gain", "diversity", "eyes_lift", "distance_ratio")  # of the figure


def queue(overrides: dict[str, str]) -> None:
    """Queues all combinations of settings and runs what is queued. Raises InputError if an experiment fails."""
    run_queued(queued([f"{key}={text}" for key, text in (AXES | overrides).items()]))


def gather(name: str, overrides: dict[str, str], revision: str) -> None:
    """Writes runs, statistics and figure of the experiments that start from a commit. Raises as `select` does."""
    axes = {key: [parse(part) for part in overrides.get(key, text).split(",")] for key, text in AXES.items()}
    fixed = {key: parse(text) for key, text in overrides.items() if key not in AXES}
    found = select(finished(json.loads(dvc("exp", "show", "--json", "--rev", revision))), axes, fixed)
    rows = pd.DataFrame([row(*run) for run in found])
    first = found[0][0]
    note = (
        f"{len(rows)} runs, {rows.seed.nunique()} seeds; {first['data.name']}, {first['data.count'] or 'all'} images, "
        f"{first['data.size'] // first['data.scale']}→{first['data.size']} px, {first['train.epochs']} epochs"
    )
    report(rows, note, FOLDER / name)
    rows.to_csv(FOLDER / f"{name}.csv", index=False, float_format="%.6g")
    print(f"{len(rows)} of {np.prod([*map(len, axes.values())])} runs: {FOLDER / name}.csv, .md and .png")


def select(runs: Sequence[Run], axes: Mapping[str, Sequence[Any]], fixed: Mapping[str, Any]) -> list[Run]:
    """The newest run of each combination of the axes' values, in their order, with the fixed settings.

    Raises InputError if no run has these settings, or if runs differ in something that is neither swept nor fixed.
    """
    wanted = {key: [only] for key, only in fixed.items()} | dict(axes)
    fitting = [run for run in runs if all(run[0].get(key) in choices for key, choices in wanted.items())]
    if not fitting:
        raise InputError(f"no finished experiment of the sweep has {fixed or 'the default settings'}: see dvc exp show")
    for key in sorted({key for settings, _ in fitting for key in settings} - set(axes)):
        values = dict.fromkeys(json.dumps(settings.get(key)) for settings, _ in fitting)
        if len(values) > 1:
            choices = " or ".join(f"-S {key}={text}" for text in values)
            raise InputError(f"the experiments differ in {key}, which the sweep holds equal: choose with {choices}")
    newest = {tuple(run[0][key] for key in AXES): run for run in fitting}
    return [newest[cell] for cell in sorted(newest)]


def row(settings: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    """A line of the table: what is swept, gain and parameters, and all single numbers of attention.json."""
    found = {key.rpartition(".")[2]: settings[key] for key in AXES}
    found |= {"gain": metrics.get("metrics.gain.psnr"), "parameters": metrics.get("metrics.parameters")}
    for key, number in metrics.items():
        if key.startswith("attention.") and isinstance(number, int | float):
            found[key.removeprefix("attention.").removeprefix("regions.").replace(".", "_")] = number
    return found


def report(rows: pd.DataFrame, note: str, path: Path) -> None:
    """Writes statistics (`path`.md) and figure (.png) of a table of runs; `note` says what was trained on what."""
    runs = rows.reindex(columns=list({*rows, "distance_uniform", *MEASURES, *SURVIVES})).apply(pd.to_numeric)
    runs["distance_ratio"] = runs.distance / runs.distance_uniform  # uniform attention reaches as far as patches allow
    with atomic_file(path.with_suffix(".md")) as temporary:
        temporary.write_text(markdown(runs, note), encoding="utf-8")
    save(figure(runs, note), path.with_suffix(".png"))


def by_seed(runs: pd.DataFrame, measure: str) -> pd.DataFrame:
    """A measure with a row for each seed and a column for each (patch, heads). A seed is the unit of all statistics."""
    return runs.pivot(index="seed", columns=["patch", "heads"], values=measure)


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Largest minus smallest patch at equal heads and seed, and under "all" each seed's mean over the heads."""
    patches = table.columns.unique("patch")
    pairs = table[max(patches)] - table[min(patches)]
    return pairs.assign(all=pairs.mean(axis=1, skipna=False))


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """Change with each doubling of the heads, a column for each patch: least-squares slope over log2(heads)."""
    own = {patch: table[patch] for patch in table.columns.unique("patch")}
    fits = {patch: one.apply(lambda y: linregress(np.log2(list(y.index)), y), axis=1) for patch, one in own.items()}
    return pd.DataFrame({patch: fit.map(lambda line: line.slope) for patch, fit in fits.items()})  # nan: a run missing


def markdown(runs: pd.DataFrame, note: str) -> str:
    """Three tables: means over the seeds, differences between the patches, changes with the heads."""
    tables = {name: by_seed(runs, name) for name in MEASURES if runs[name].notna().any()}
    groups = runs.groupby(["patch", "heads"])
    cells = estimates(tables)
    cells.insert(0, "runs", groups.size())
    cells.insert(1, "parameters", groups.parameters.first().map("{:,.0f}".format))
    for name in [name for name in SURVIVES if runs[name].notna().any()]:
        cells[SURVIVES[name]] = groups[name].agg(lambda passed: f"{passed.sum():.0f} of {passed.count()}")
    parts = [f"{note}.", "Mean over the seeds, with the 95 % interval by Student's t.", *lines(cells)]
    if runs.patch.nunique() > 1:
        patches = f"Patch {runs.patch.max()} minus patch {runs.patch.min()}"
        parts += ["", f"{patches} at equal heads and seed; `all`: means over the heads."]
        parts += lines(estimates({name: differences(table) for name, table in tables.items()}).rename_axis("heads"))
    if runs.heads.nunique() > 1:
        parts += ["", "Change with each doubling of the heads: slope over log2(heads) of each seed."]
        parts += lines(estimates({name: slopes(table) for name, table in tables.items()}).rename_axis("patch"))
    parts += ["", "Each interval stands for itself: with this many, one in twenty misses by chance."]
    return "\n".join(parts) + "\n"


def estimates(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Mean and interval as text, with a column for each measure and a row for each column of its table."""
    columns = [table.apply(written, decimals=MEASURES[name][1]) for name, table in tables.items()]
    return pd.concat(columns, axis=1, keys=[MEASURES[name][0] for name in tables])


@styled
def figure(runs: pd.DataFrame, note: str) -> Figure:
    """Four panels against the number of heads. Dots are runs, lines means over the seeds, bars their 95 % intervals."""
    sheet = Sheet(1300, 890)
    explained = "Dots: runs. Lines: means over the seeds. Bars: 95 % intervals of the means. Dashed: uniform attention."
    sheet.title(12, 10, "What patch size and number of heads change", f"{note}.\n{explained}")
    heads = sorted(runs.heads.unique())
    for i, measure in enumerate(PANELS):
        axes = sheet.axes(84 + i % 2 * 640, 128 + i // 2 * 400, 540, 300, measure)
        axes.set_xticks(np.log2(heads), map(str, heads))
        axes.set(title=MEASURES[measure][0], xlabel="heads")
        table = by_seed(runs, measure)
        for j, (patch, colour) in enumerate(zip(table.columns.unique("patch"), (BLUE, ORANGE, GREEN), strict=False)):
            own = table[patch]
            places = np.log2(own.columns.to_numpy(np.float64)) + 0.06 * j
            mean, low, high = np.transpose([interval(own[key]) for key in own])
            axes.plot(places + 0.03, own.T, "o", color=colour, alpha=0.5, markeredgewidth=0)
            axes.errorbar(places, mean, (mean - low, high - mean), fmt="o-", color=colour, label=f"patch {patch}")
        if measure in ("eyes_lift", "distance_ratio"):
            axes.axhline(1, color=MUTED, linestyle="--", zorder=1)
    sheet.figure.axes[1].set_ylim(0, 1)
    sheet.figure.axes[1].legend(loc="upper right")
    return sheet.figure


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; exits with status 1 and a line when something is wrong."""
    parser = argparse.ArgumentParser(prog="patch_and_heads", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("queue", "gather"), help="train the sweep, or write what came of it")
    parser.add_argument("name", nargs="?", default="faces", help=f"of the files in {FOLDER} (default: faces)")
    parser.add_argument("--rev", default="HEAD", help="the commit that the experiments start from (default: HEAD)")
    parser.add_argument("-S", dest="overrides", metavar="KEY=VALUE", action="append", default=[])
    given = parser.parse_args(arguments)
    overrides = dict(text.partition("=")[::2] for text in given.overrides)
    try:
        queue(overrides) if given.command == "queue" else gather(given.name, overrides, given.rev)
    except (InputError, KeyboardInterrupt) as error:
        sys.exit(f"patch_and_heads: {str(error) or 'interrupted; dvc queue stop ends experiments that still run'}")


if __name__ == "__main__":
    main()
