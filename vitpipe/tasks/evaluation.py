"""Predictors scored on a part of the data, whatever the task: models, their variants and baselines alike."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from vitpipe.data.dataset import PackedDataset
from vitpipe.progress import progress
from vitpipe.tasks.base import Predict, Scores, Task

PARTS_PROTOCOL = "the epochs whose weights were averaged, each alone; the model is their average"


def score_baselines(task: Task, train: PackedDataset, val: PackedDataset, test: PackedDataset) -> dict[str, Any]:
    """The content of reports/baseline.json: by baseline its numbers on the test images, and how they were measured."""
    baselines = task.baselines(train, val)
    content: dict[str, Any] = {}
    with progress(len(baselines), "baseline", "predictor") as bar:
        for name, predict in baselines.items():
            content[name] = numbers(task.summary(task.scores(predict, test)))
            bar.update()
    return content | {"images": len(test), "protocol": [task.protocol]}


def evaluate(
    task: Task, model: nn.Module, test: PackedDataset, baseline: dict[str, Any]
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The content of reports/metrics.json, and that of metrics.csv: a row of scores for each image.

    Columns are the model's, then those of untrained baselines and of variants, with their name before them.

    Args:
        model: evaluated in float32.
        baseline: what `score_baselines` returned.
    """
    start = time.perf_counter()
    variants = task.variants(model)
    with progress((1 + len(variants)) * len(test), "evaluate", "image") as bar:

        def scored(predict: Predict) -> Scores:
            def counted(images: np.ndarray) -> np.ndarray:
                bar.update(len(images))
                return predict(images)

            return task.scores(counted, test)

        own = scored(lambda images: task.predict(model, images))
        others = {name: scored(predict) for name, predict in variants.items()}
    reference = baseline[task.reference]
    metrics = task.summary(own) | {name: baseline[name] for name in task.rivals}
    metrics["gain"] = task.gain(metrics, reference)
    for name, scores in others.items():
        summary = task.summary(scores)
        metrics[name] = summary | {"gain": task.gain(summary, reference)}
    metrics |= {
        "images": len(test),
        "seconds": round(time.perf_counter() - start, 2),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    untrained = {name: task.scores(predict, test) for name, predict in task.untrained_baselines().items()}
    columns = task.table(own)
    for name, scores in (untrained | others).items():
        columns |= {f"{name}_{key}": values for key, values in task.table(scores).items()}
    return metrics, pd.DataFrame(columns, index=test.samples.index)


def score_parts(
    task: Task, models: Iterable[tuple[int, nn.Module]], count: int, test: PackedDataset
) -> list[dict[str, Any]]:
    """What `parts` of reports/metrics.json holds, see `PARTS_PROTOCOL`: of each of `count` models its numbers.

    Args:
        models: the epoch that each model is of, and the model; one is in memory at a time.
    """
    content = []
    with progress(count * len(test), "evaluate", "image") as bar:
        for epoch, model in models:

            def counted(images: np.ndarray, model: nn.Module = model) -> np.ndarray:
                bar.update(len(images))
                return task.predict(model, images)

            content.append({"epoch": epoch} | numbers(task.summary(task.scores(counted, test))))
    return content


def numbers(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary without its tables."""
    return {key: value for key, value in summary.items() if not isinstance(value, list)}
