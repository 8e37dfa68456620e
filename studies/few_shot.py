"""How much data does a Vision Transformer need? Pets from few images of each breed, pretrained and from scratch.

python -m studies.few_shot queue --pets FOLDER --weights NAME   # without them: downloads, torchvision's ViT-B/16
python -m studies.few_shot gather                               # docs/study/few-shot.csv, .md and .png
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from studies.experiments import Run, dvc, finished, interval, lines, queued, run_queued, written
from vitpipe.errors import InputError
from vitpipe.figures.style import BLUE, MUTED, ORANGE, Sheet, save, styled
from vitpipe.files import atomic_file

PATH = Path("docs/study/few-shot")
SEEDS, SHOTS = (0, 1, 2), (2, 5, 10, 20)
RECIPES = {"pets-linear": "pretrained, linear probe", "pets": "pretrained, fine-tuned", "pets-scratch": "from scratch"}
BASELINES = {"knn": "pretrained, nearest neighbours", "probe": "pretrained, logistic regression"}
COLOURS = dict(zip([*RECIPES.values(), *BASELINES.values()], [BLUE, ORANGE, "#2a9d6f", MUTED, "#8a6fc2"], strict=True))
SCORES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}


def queue(pets: str | None, weights: str | None, size: int | None) -> None:
    """Queues all trainings and runs them. Raises InputError if one fails."""
    data = [f"data.root={Path(pets).absolute()}"] if pets else []
    data += [f"data.size={size}"] if size else []
    given = [f"model.weights={Path(weights).absolute() if os.path.exists(weights) else weights}"] if weights else []
    choices = [f"data.shots={','.join(map(str, SHOTS))}", f"seed={','.join(map(str, SEEDS))}"]
    every = []
    for recipe in RECIPES:
        own = [] if recipe == "pets-scratch" else given
        every += queued([f"recipe={recipe}", *data, *own, *choices], "evaluate")
    run_queued(every)


def gather(revision: str) -> None:
    """Writes runs, table and figure of the experiments that start from a commit. Raises InputError without any."""
    runs = pd.DataFrame(rows(finished(json.loads(dvc("exp", "show", "--json", "--rev", revision)))))
    if runs.empty:
        raise InputError(f"no finished experiment with data.shots starts from {revision}: see dvc exp show")
    for column, what in (("side", "sizes of images"), ("weights", "pretrained weights")):
        if len(kinds := sorted(map(str, runs[column].dropna().unique()))) > 1:
            raise InputError(f"experiments of several {what} start from {revision}, {', '.join(kinds)}: remove some")
    runs = runs.drop(columns="weights").drop_duplicates(["way", "shots", "seed"], keep="last")
    runs = runs.sort_values(["way", "shots", "seed"])
    PATH.parent.mkdir(parents=True, exist_ok=True)
    runs.to_csv(PATH.with_suffix(".csv"), index=False, float_format="%.6g")
    with atomic_file(PATH.with_suffix(".md")) as temporary:
        temporary.write_text(markdown(runs), encoding="utf-8")
    save(figure(runs), PATH.with_suffix(".png"))
    print(f"{len(runs)} runs: {PATH}.csv, .md and .png")


def rows(found: Sequence[Run]) -> list[dict[str, Any]]:
    """A row for each run and for each baseline of a linear probe, scores in percent."""
    table = []
    for settings, metrics in found:
        recipe, shots = settings["recipe"], settings.get("data.shots")
        if recipe not in RECIPES or shots is None:
            continue
        where = {"shots": shots, "seed": settings["seed"], "images": metrics["metrics.images"]}
        where |= {"side": settings["data.size"], "weights": settings.get("model.weights")}
        ways = {RECIPES[recipe]: "metrics."}
        if recipe == "pets-linear":
            ways |= {way: f"baseline.{name}." for name, way in BASELINES.items()}
        for way, prefix in ways.items():
            table.append({"way": way} | where | {score: 100 * metrics[prefix + score] for score in SCORES})
    return table


def markdown(runs: pd.DataFrame) -> str:
    """A table for each score: ways down, training images of each breed across."""
    text = [f"Means over {runs.seed.nunique()} seeds in percent, with 95 % intervals by Student's t."]
    for score, title in SCORES.items():
        cells = {
            way: {
                f"{shots} images": written(own[own.shots == shots][score], 1) for shots in sorted(runs.shots.unique())
            }
            for way in COLOURS
            if len(own := runs[runs.way == way])
        }
        text += ["", f"{title.capitalize()} on the test images:", *lines(pd.DataFrame(cells).T.rename_axis("model"))]
    return "\n".join(text) + "\n"


@styled
def figure(runs: pd.DataFrame) -> Figure:
    """A panel for each score: training images of each class against the score, a line for each way."""
    sheet = Sheet(1100, 560)
    images = f"{runs.images.iloc[0]} test images of {runs.side.iloc[0]} pixels"
    images += f". Means over {runs.seed.nunique()} seeds, bars are 95 % intervals."
    sheet.title(12, 10, "How many training images of each breed a Vision Transformer needs", images)
    for i, (score, title) in enumerate(SCORES.items()):
        axes = sheet.axes(70 + 530 * i, 76, 450, 380, title)
        for number, (way, colour) in enumerate(COLOURS.items()):
            own = runs[runs.way == way].groupby("shots")[score]
            points = pd.DataFrame([interval(values) for _, values in own], index=list(own.groups))
            if len(points):
                bars = [points[0] - points[1], points[2] - points[0]]
                beside = points.index * 1.05 ** (number - 2)  # or bars would hide each other
                axes.errorbar(beside, points[0], yerr=bars, fmt="o-", color=colour, label=way, capsize=3)
        axes.set_xscale("log")
        axes.set_xticks(SHOTS, [str(shots) for shots in SHOTS])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(0, 100)
        axes.set_xlabel("training images of each breed, at most")
        axes.set_ylabel(f"{title} in percent")
    sheet.figure.axes[0].legend(loc="upper center", bbox_to_anchor=(1.08, -0.13), ncols=3)
    return sheet.figure


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; exits with status 1 and a line when something is wrong."""
    parser = argparse.ArgumentParser(prog="few_shot", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("queue", "gather"), help="train the models, or write what came of it")
    parser.add_argument("--pets", metavar="FOLDER", help="Oxford-IIIT Pets (default: downloads it)")
    parser.add_argument("--weights", metavar="NAME", help="pretrained weights (default: those of the recipe)")
    parser.add_argument("--size", type=int, help="side of the images in pixels (default: that of the recipe, 224)")
    parser.add_argument("--rev", default="HEAD", help="the commit that the experiments start from (default: HEAD)")
    given = parser.parse_args(arguments)
    try:
        queue(given.pets, given.weights, given.size) if given.command == "queue" else gather(given.rev)
    except (InputError, KeyboardInterrupt) as error:
        sys.exit(f"few_shot: {str(error) or 'interrupted; dvc queue stop ends experiments that still run'}")


if __name__ == "__main__":
    main()
