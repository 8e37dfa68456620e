"""What is attention worth? Trains each model again without it, by place alone and with all of it.

    python -m studies.attention_worth queue --celeba FOLDER --mnist FOLDER   # two trainings side by side
    python -m studies.attention_worth gather                                 # docs/study/worth.csv, .json, .md and .png

Without a folder of real data its models are left out. `--only NAME`, as often as wanted, trains some models alone.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from studies.experiments import Run, dvc, finished, interval, lines, queued, run_queued, written
from vitpipe.errors import InputError
from vitpipe.figures.style import BLUE, MUTED, ORANGE, Sheet, save, styled
from vitpipe.files import atomic_file, write_json

CONF = Path(__file__).resolve().parents[1] / "conf"
PATH = Path("docs/study/worth")
SEEDS = (0, 1, 2)
JOBS = 2  # trainings side by side; OMP_NUM_THREADS gives each its threads
KINDS = {  # what is trained again, as one override each
    "softmax": "model.attention=softmax",
    "place": "model.attention=place",
    "uniform": "model.attention=uniform",
    "none": "model.attention=none",
    "no blocks": "model.depth=0",
}
PARTS = {"attention": ("softmax", "base"), "place": ("place", "base"), "content": ("softmax", "place")}
"""Each part of the worth is the score of one kind minus that of another."""


@dataclass(frozen=True)
class Model:
    """One model of the study: its settings, and what it is trained again with."""

    title: str
    overrides: tuple[str, ...]
    kinds: tuple[str, ...] = ("softmax", "place", "none")
    root: str | None = None
    """The option that names the folder of its data."""

    @property
    def base(self) -> str:
        """The kind that has no attention: none, or uniform where a class token would see nothing without any."""
        return "none" if "none" in self.kinds else "uniform"


PLACED = "model.place=true"  # so that place and content can be told apart
REAL = ("data.split=identity", "train.epochs=2")
TWO = ("softmax", "none")
MODELS = {
    "faces": Model("built-in faces, 4x, pure", ("recipe=supersample",), tuple(KINDS)),
    "faces-x8": Model("built-in faces, 8x, pure", ("recipe=supersample", "data.scale=8")),
    "faces-hybrid": Model("built-in faces, 4x, hybrid", ("recipe=supersample-hybrid",), TWO),
    "faces-hybrid-placed": Model("built-in faces, 4x, hybrid with place", ("recipe=supersample-hybrid", PLACED)),
    "celeba": Model("real faces, 4x, pure", ("recipe=celeba", *REAL), root="celeba"),
    "celeba-x8": Model("real faces, 8x, pure", ("recipe=celeba", "data.scale=8", *REAL), root="celeba"),
    "celeba-hybrid": Model("real faces, 4x, hybrid", ("recipe=celeba-hybrid", *REAL), TWO, root="celeba"),
    "digits": Model("digits", ("recipe=digits",), TWO),
    "mnist": Model("MNIST", ("recipe=mnist", "train.epochs=2"), ("softmax", "uniform"), root="mnist"),
    "gender": Model("gender, built-in faces", ("recipe=gender", "train.epochs=10"), ("softmax", "uniform")),
}


def settings_of(model: Model, kind: str, seed: int) -> dict[str, Any]:
    """The settings of one training by dotted key, as DVC composes them, without the folder of the data."""
    with initialize_config_dir(str(CONF), version_base=None):
        composed = compose("config", [*model.overrides, KINDS[kind], f"seed={seed}"])
    nested: Any = OmegaConf.to_container(composed, resolve=True)
    flat = pd.json_normalize({key: part for key, part in nested.items() if key != "dvc"}).astype(object)
    return {key: value for key, value in flat.iloc[0].to_dict().items() if key != "data.root"}


def queue(names: Sequence[str], roots: dict[str, str | None]) -> None:
    """Queues all trainings and runs what is queued. Raises InputError if one fails."""
    every = []
    for name in names:
        model = MODELS[name]
        shared = [*model.overrides]
        shared += [f"data.root={Path(roots[model.root] or '').absolute()}"] if model.root else []
        attention = ",".join(KINDS[kind].partition("=")[2] for kind in model.kinds if kind != "no blocks")
        seeds = f"seed={','.join(map(str, SEEDS))}"
        every += queued([*shared, f"model.attention={attention}", seeds], "evaluate")
        if "no blocks" in model.kinds:
            every += queued([*shared, KINDS["no blocks"], seeds], "evaluate")
    run_queued(every, JOBS)


def gather(names: Sequence[str], revision: str) -> None:
    """Writes runs, tables and figure of the experiments that start from a commit. Raises InputError without any.

    Earlier runs of models that have no such experiments stay in the tables.
    """
    shown = json.loads(dvc("exp", "show", "--json", "--rev", revision))
    commit = next(one["rev"] for one in shown if one["rev"] != "workspace")[:7]
    found = finished(shown)
    runs = pd.DataFrame([row | {"commit": commit} for name in names for row in rows(name, found)])
    if runs.empty:
        raise InputError(f"no finished experiment of {', '.join(names)} starts from {revision}: see dvc exp show")
    if (path := PATH.with_suffix(".csv")).exists():
        earlier = pd.read_csv(path, dtype={"commit": str})
        runs = pd.concat([runs, earlier[~earlier.model.isin(runs.model)]])
        runs = runs.sort_values("model", key=lambda names: names.map([*MODELS].index), kind="stable")
    PATH.parent.mkdir(parents=True, exist_ok=True)
    runs.to_csv(PATH.with_suffix(".csv"), index=False, float_format="%.6g")
    write_json(PATH.with_suffix(".json"), {"models": [entry(name, runs) for name in runs.model.unique()]})
    with atomic_file(PATH.with_suffix(".md")) as temporary:
        temporary.write_text(markdown(runs), encoding="utf-8")
    save(figure(runs), PATH.with_suffix(".png"))
    print(f"{len(runs)} runs: {PATH}.csv, .json, .md and .png")


def rows(name: str, found: Sequence[Run]) -> list[dict[str, Any]]:
    """The newest run of each kind and seed of a model: model, kind, seed, epochs, unit, score, gain, parameters.

    Nothing, and a line that says so, where a run is missing.
    """
    table = []
    for kind in MODELS[name].kinds:
        for seed in SEEDS:
            wanted = settings_of(MODELS[name], kind, seed)
            own = [metrics for settings, metrics in found if {key: settings.get(key) for key in wanted} == wanted]
            if not own:
                print(f"{name} is left out: no finished run of {kind} with seed {seed}", file=sys.stderr)
                return []
            run = {"model": name, "kind": kind, "seed": seed, "epochs": wanted["train.epochs"]} | score(own[-1])
            gain = own[-1].get("metrics.gain.psnr", own[-1].get("metrics.gain.accuracy"))
            table.append(run | {"gain": gain, "parameters": own[-1]["metrics.parameters"]})
    return table


def score(metrics: dict[str, Any]) -> dict[str, Any]:
    """PSNR in dB, or accuracy in percentage points."""
    if "metrics.psnr" in metrics:
        return {"unit": "dB", "score": metrics["metrics.psnr"]}
    return {"unit": "points", "score": 100 * metrics["metrics.accuracy"]}


def parts(name: str, runs: pd.DataFrame) -> dict[str, pd.Series]:
    """Each part of what attention is worth to a model, one value for each seed, paired."""
    table = runs[runs.model == name].pivot(index="seed", columns="kind", values="score")
    kinds = {part: [MODELS[name].base if kind == "base" else kind for kind in pair] for part, pair in PARTS.items()}
    return {part: table[a] - table[b] for part, (a, b) in kinds.items() if a in table and b in table}


def entry(name: str, runs: pd.DataFrame) -> dict[str, Any]:
    """What the page of a run says about such a model: what it is, and each part with its interval."""
    settings, own = settings_of(MODELS[name], "softmax", SEEDS[0]), runs[runs.model == name]
    worth = {}
    for part, values in parts(name, runs).items():
        mean, low, high = (round(float(value), 4) for value in interval(values))
        worth[part] = {"mean": mean, "low": low, "high": high}
    kept = ("recipe", "task.name", "task.target", "model.", "data.name", "data.size", "data.scale")
    return {
        "title": MODELS[name].title,
        "unit": own.unit.iloc[0],
        "seeds": int(own.seed.nunique()),
        "epochs": int(own.epochs.iloc[0]),
        "base": {"none": "no attention", "uniform": "uniform attention"}[MODELS[name].base],
        "settings": {key: value for key, value in settings.items() if key.startswith(kept)},
        "worth": worth,
    }


def markdown(runs: pd.DataFrame) -> str:
    """Two tables: scores of each kind, and the parts of what attention is worth."""
    scores, worth = {}, {}
    for name in runs.model.unique():
        own, title = runs[runs.model == name], MODELS[name].title
        decimals = 2 if own.unit.iloc[0] == "dB" else 1
        scores[title] = {"epochs": own.epochs.iloc[0], "unit": own.unit.iloc[0]} | {
            kind: written(own[own.kind == kind].score, decimals) for kind in KINDS if kind in set(own.kind)
        }
        found = parts(name, runs)
        worth[title] = {"unit": own.unit.iloc[0]} | {
            part: written(found[part], decimals + 1) for part in PARTS if part in found
        }
    tables = [pd.DataFrame(table).T.fillna("–").rename_axis("model") for table in (scores, worth)]
    note = f"{len(runs)} trainings. Means over {runs.seed.nunique()} seeds, with 95 % intervals by Student's t."
    text = [note, "", "Score on the test images: PSNR in dB, or accuracy in points.", *lines(tables[0])]
    text += ["", "What attention is worth: differences of these scores, paired by seed.", *lines(tables[1])]
    return "\n".join(text) + "\n"


@styled
def figure(runs: pd.DataFrame) -> Figure:
    """A panel for each unit, a row for each model: worth by place and by content, dots are seeds, bars intervals."""
    groups = {unit: list(own.model.unique()) for unit, own in runs.groupby("unit", sort=False)}
    height, top = 34, 120
    sheet = Sheet(1100, top + sum(90 + height * len(names) for names in groups.values()))
    explained = (
        "Each model trained again without attention, by place alone, and with all of it.\n"
        "Dots: seeds. Bars: 95 % intervals of the mean."
    )
    sheet.title(12, 10, "What attention is worth, by place and by content", explained)
    for unit, names in groups.items():
        axes = sheet.axes(250, top, 800, height * len(names), f"worth in {unit}")
        for i, name in enumerate(names):
            found = parts(name, runs)
            both: list[str] = [part for part in ("place", "content") if part in found]
            for part in both or ["attention"]:
                values, colour = found[part], {"place": BLUE, "content": ORANGE, "attention": MUTED}[part]
                y = i + {"place": -0.17, "content": 0.17, "attention": 0}[part]
                mean, low, high = interval(values)
                axes.plot(values, np.full(len(values), y), "o", color=colour, alpha=0.5, markeredgewidth=0)
                axes.errorbar(mean, y, xerr=[[mean - low], [high - mean]], fmt="|", color=colour, markersize=11)
        axes.axvline(0, color=MUTED, zorder=1)
        axes.set_yticks(range(len(names)), [MODELS[name].title for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel("dB of PSNR" if unit == "dB" else "percentage points of accuracy")
        top += 90 + height * len(names)
    for label, colour in (("by place", BLUE), ("by content", ORANGE), ("both together", MUTED)):
        sheet.figure.axes[0].plot([], [], "o", color=colour, label=label)
    sheet.figure.axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1.02), ncols=3)
    return sheet.figure


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; exits with status 1 and a line when something is wrong."""
    parser = argparse.ArgumentParser(prog="attention_worth", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("queue", "gather"), help="train the models, or write what came of it")
    parser.add_argument("--celeba", metavar="FOLDER", help="real faces")
    parser.add_argument("--mnist", metavar="FOLDER", help="MNIST")
    parser.add_argument("--only", choices=MODELS, action="append", help="train or gather this model")
    parser.add_argument("--rev", default="HEAD", help="the commit that the experiments start from (default: HEAD)")
    given = parser.parse_args(arguments)
    roots = {"celeba": given.celeba, "mnist": given.mnist}
    names = given.only or [
        name for name, model in MODELS.items() if given.command == "gather" or not model.root or roots[model.root]
    ]
    try:
        for name in names if given.command == "queue" else []:
            if (root := MODELS[name].root) and not roots[root]:
                raise InputError(f"{name} needs --{root} FOLDER")
        queue(names, roots) if given.command == "queue" else gather(names, given.rev)
    except (InputError, KeyboardInterrupt) as error:
        sys.exit(f"attention_worth: {str(error) or 'interrupted; dvc queue stop ends experiments that still run'}")


if __name__ == "__main__":
    main()
