"""What models look at: attention, gradients, what the weights learned. Arrays come out, pictures are drawn elsewhere.

Each task has a module of its name with `views(model, untrained, packed, settings, device)`, which gives the
arrays of every picture by its name: the heatmap stage saves them as NAME.npz and has them drawn.
"""

from importlib import import_module
from types import ModuleType


def explanations(task: str) -> ModuleType:
    """The module that explains models of the task `task`."""
    return import_module(f"{__name__}.{task}")
