"""Tasks, one folder each; the folder's name is the value of `task.name`.

A folder has two modules: `training` with a class `Training`, what training needs, and `scoring` with a class `Scoring`,
which adds what evaluation and explanations need, so that a change there never retrains a model.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from vitpipe.config import Settings
from vitpipe.data.dataset import PackedDataset
from vitpipe.training.task import TrainingTask


def training_task(
    settings: Settings, classes: tuple[str, ...] = (), encoder: Mapping[str, Any] | None = None
) -> TrainingTask:
    """What training needs of the task that the settings name."""
    return task_class(settings)(settings, classes, encoder)


def open_part(settings: Settings, folder: Path) -> PackedDataset:
    """A part of the packed images as the models of the task see it."""
    return task_class(settings).open(folder, settings)


def task_class(settings: Settings) -> type[TrainingTask]:
    """The class `Training` of the task."""
    task: type[TrainingTask] = import_module(f"{__name__}.{settings.task.name}.training").Training
    return task
