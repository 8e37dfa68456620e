"""Tasks, one folder each; the folder's name is the value of `task.name`.

A folder has two modules: `training` with a class `Training`, what training needs, and `scoring` with a class `Scoring`,
which adds what evaluation and explanations need, so that a change there never retrains a model.
"""

from importlib import import_module

from vitpipe.config import Settings
from vitpipe.tasks.base import Task, TrainingTask


def training_task(settings: Settings, classes: tuple[str, ...] = ()) -> TrainingTask:
    """What training needs of the task that the settings name."""
    task: TrainingTask = import_module(f"{__name__}.{settings.task.name}.training").Training(settings, classes)
    return task


def scoring_task(settings: Settings, classes: tuple[str, ...] = ()) -> Task:
    """All of the task that the settings name."""
    task: Task = import_module(f"{__name__}.{settings.task.name}.scoring").Scoring(settings, classes)
    return task
