"""Predictors scored on a part of the data, whatever the task: models, their variants and baselines alike."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from vitpipe.data.batches import scoring_batches
from vitpipe.data.dataset import PackedDataset
from vitpipe.progress import progress
from vitpipe.tasks.base import Predict, Scores, Task


def score_predictor(task: Task, predict: Predict, dataset: PackedDataset, rows: np.ndarray | None = None) -> Scores:
    """Scores of the predictions for all images of a part, or for those in `rows`."""
    return join(
        task.score(predict(dataset.images("lr", some)), task.truth(dataset, some))
        for some in scoring_batches(dataset, rows)
    )


def score_baselines(task: Task, train: PackedDataset, val: PackedDataset, test: PackedDataset) -> dict[str, Any]:
    """The content of reports/baseline.json: by baseline its numbers on the test images, and how they were measured."""
    baselines = task.baselines(train, val)
    content: dict[str, Any] = {}
    with progress(len(baselines), "baseline", "predictor") as bar:
        for name, predict in baselines.items():
            summary = task.summary(score_predictor(task, predict, test))
            content[name] = {key: value for key, value in summary.items() if not isinstance(value, list)}
            bar.update()
    return content | {"images": len(test), "protocol": [task.protocol]}


def evaluate(
    task: Task, model: nn.Module, test: PackedDataset, baseline: dict[str, Any]
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The content of reports/metrics.json, and one row of scores for each image.

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

            return score_predictor(task, counted, test)

        own = scored(lambda images: task.predict(model, images))
        others = {name: scored(predict) for name, predict in variants.items()}
    metrics = task.summary(own)
    metrics |= {name: baseline[name] for name in task.rivals}
    reference = baseline[task.reference]
    metrics["gain"] = task.gain(metrics, reference)
    for name, scores in others.items():
        summary = task.summary(scores)
        metrics[name] = summary | {"gain": task.gain(summary, reference)}
    metrics |= {
        "images": len(test),
        "seconds": round(time.perf_counter() - start, 2),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    return metrics, pd.DataFrame(columns(task, own, others, test), index=test.samples.index)


def columns(task: Task, own: Scores, others: dict[str, Scores], test: PackedDataset) -> dict[str, np.ndarray]:
    """The columns of metrics.csv: the model's, then those of untrained rivals that score single images, of variants."""
    found = task.table(own)
    beside = {
        name: score_predictor(task, predict, test) for name, predict in task.untrained_baselines().items()
    } | others
    for name, scores in beside.items():
        found |= {f"{name}_{key}": values for key, values in task.table(scores).items()}
    return found


def join(parts: Iterable[Scores]) -> dict[str, np.ndarray]:
    """Scores of parts of the images, joined."""
    every = list(parts)
    return {name: np.concatenate([part[name] for part in every]) for name in every[0]}
