"""Figures: arrays in, matplotlib figures out. No model code is imported here.

Each task has a module of its name with `draw(examples, curve, folder)`, which writes the task's figures
and captions.json, {file: {"title": ..., "caption": ...}}, into an empty folder.
"""

from importlib import import_module
from types import ModuleType


def figures(task: str) -> ModuleType:
    """The module that draws the results of the task `task`."""
    return import_module(f"{__name__}.{task}")
