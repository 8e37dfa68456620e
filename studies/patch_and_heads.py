"""Do smaller patches, or more heads, change what a super-sampler reaches and where it looks?

    python -m studies.patch_and_heads queue                 # train patch 3, 6 x heads 4, 8, 16, 32 x seed 0, 1, 2
    python -m studies.patch_and_heads gather faces          # docs/study/faces.csv, faces.md and faces.png

Every `-S key=value` changes a setting of all runs, or the values of patch, heads or seed; give both commands the same.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from studies.statistics import cells, differences, slopes
from studies.sweep import Experiment, chosen, enqueue, experiments, wait
from studies.tables import markdown
from vitpipe.errors import InputError
from vitpipe.figures.study import study
from vitpipe.figures.style import save
from vitpipe.files import atomic_file, write_csv

FOLDER = Path("docs/study")
AXES = {"model.patch": "3,6", "model.heads": "4,8,16,32", "seed": "0,1,2"}
FOCUS = (
    *("layer", "head", "mass", "lift", "lift_low", "lift_high", "pointing", "content_lift", "content_lift_low"),
    *("content_lift_high", "survives", "lift_untrained", "content_lift_untrained"),
)
# of each column of the table: which file of the run, which key in it
COLUMNS = {
    "gain": ("metrics", "gain.psnr"),
    "parameters": ("metrics", "parameters"),
    **{
        name: ("attention", name)
        for name in (
            *("diversity", "output_diversity", "importance", "outliers", "norm_ratio", "distance", "distance_uniform"),
            *("entropy", "self_weight"),
        )
    },
    **{f"{region}_{key}": ("attention", f"focus.{region}.{key}") for region in ("eyes", "background") for key in FOCUS},
}
MEASURES = (
    *("gain", "diversity", "output_diversity", "entropy", "distance", "distance_ratio"),
    *("eyes_lift", "eyes_lift_untrained", "eyes_content_lift", "background_lift", "background_content_lift"),
)


def queue(overrides: dict[str, str]) -> None:
    """Queues the sweep and waits for it.

    Raises:
        InputError: a run failed, or the settings are wrong.
    """
    names = enqueue(AXES | overrides)
    if failed := wait(names):
        logs = f"dvc queue logs {failed[0]}"
        raise InputError(f"{len(failed)} of {len(names)} experiments failed: {', '.join(failed)} ({logs} says why)")


def gather(name: str, overrides: dict[str, str], revision: str) -> None:
    """Writes table, statistics and figure of the sweep that starts from a commit.

    Raises:
        InputError: no experiment or those of several sweeps fit.
    """
    axes = {key: values(overrides.get(key, text)) for key, text in AXES.items()}
    fixed = {key: text for key, text in overrides.items() if key not in AXES}
    found = chosen(experiments(revision), axes, fixed)
    if missing := absent(found, axes):
        print(f"patch_and_heads: runs that are missing ({len(missing)}): {'; '.join(missing)}", file=sys.stderr)
    rows = [row(run) for run in found]
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_csv(FOLDER / f"{name}.csv", rows)
    runs = pd.DataFrame(rows).apply(pd.to_numeric)
    runs["distance_ratio"] = runs.distance / runs.distance_uniform  # uniform attention reaches as far as patches allow
    note = described(found[0], runs)
    estimates = cells(runs, MEASURES)
    with atomic_file(FOLDER / f"{name}.md") as temporary:
        parts = (estimates, differences(runs, MEASURES), slopes(runs, MEASURES))
        temporary.write_text(markdown(runs, *parts, note))
    save(study(runs, estimates, note), FOLDER / f"{name}.png")
    print(f"{len(rows)} runs: {FOLDER / name}.csv, .md and .png")


def values(text: str) -> list[Any]:
    """The values of a sweep's key, from `3,6`."""
    return [yaml.safe_load(part) for part in text.split(",")]


def absent(found: Sequence[Experiment], axes: dict[str, list[Any]]) -> list[str]:
    """The combinations of the axes' values that no run has, in words."""
    there = {tuple(run.params[key] for key in axes) for run in found}
    names = [key.rpartition(".")[2] for key in axes]
    lost = [cell for cell in product(*axes.values()) if cell not in there]
    return [", ".join(f"{name} {value}" for name, value in zip(names, cell, strict=True)) for cell in lost]


def row(run: Experiment) -> dict[str, Any]:
    """A line of the table: the settings, and what the run's files hold; None for what they do not."""
    swept = {key.rpartition(".")[2]: run.params[key] for key in AXES}
    return swept | {name: run.metrics.get(file, {}).get(key) for name, (file, key) in COLUMNS.items()}


def described(run: Experiment, runs: pd.DataFrame) -> str:
    """What was trained on what, in a line."""
    params, count = run.params, run.params["data.count"]
    sizes = f"{params['data.size'] // params['data.scale']}→{params['data.size']} px"
    images = f"{params['data.name']}, {f'{count:,}' if count else 'all'} images, {sizes}"
    numbers = f"{counted(len(runs), 'run')}, {counted(runs.seed.nunique(), 'seed')}"
    return f"{numbers}; {images}, {counted(params['train.epochs'], 'epoch')}"


def counted(number: int, what: str) -> str:
    """`1 epoch`, `5 epochs`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def override(text: str) -> tuple[str, str]:
    """`key=value` in two."""
    key, sign, value = text.partition("=")
    if not (key and sign and value):
        raise argparse.ArgumentTypeError(f"{text!r} must be key=value, such as data.count=600")
    return key, value


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; exits with status 1 and a line when something is wrong."""
    parser = argparse.ArgumentParser(prog="patch_and_heads", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("queue", help="train the sweep through DVC's queue and wait")
    read = commands.add_parser("gather", help=f"write its table, statistics and figure to {FOLDER}")
    read.add_argument("name", help="of the files that are written, such as faces")
    read.add_argument("--rev", default="HEAD", help="the commit that the experiments start from (default: HEAD)")
    for command in (train, read):
        help_text = "a setting of all runs, or other values of model.patch, model.heads or seed"
        command.add_argument(
            "-S", dest="overrides", metavar="KEY=VALUE", type=override, action="append", help=help_text
        )
    given = parser.parse_args(arguments)
    overrides = dict(given.overrides or [])
    try:
        if len(values(overrides.get("model.patch", AXES["model.patch"]))) > 2:
            raise InputError(
                f"model.patch={overrides['model.patch']} names more than two sizes, which the figure compares"
            )
        if given.command == "queue":
            queue(overrides)
        else:
            gather(given.name, overrides, given.rev)
    except InputError as error:
        sys.exit(f"patch_and_heads: {error}")
    except KeyboardInterrupt:
        sys.exit("\npatch_and_heads: interrupted; the queue goes on, dvc queue stop ends it")


if __name__ == "__main__":
    main()
