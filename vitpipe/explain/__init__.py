"""What models look at: attention, gradients, what the weights learned. Arrays come out, pictures are drawn elsewhere.

Each task has a module of its name with

    views(model, untrained, packed, settings, device) -> dict[str, dict[str, numpy.ndarray]]
        The arrays of every picture by its name: the heatmap stage saves them as NAME.npz and has them drawn.
    trial(model, packed, rows, device) -> vitpipe.explain.deletion.Trial
        What `faithfulness` deletes patches from, and how it scores what the model then makes.
    head_score(model, packed, rows, device) -> dict[str, float]
        How good the model is on some images: `importance`, and more, each higher for a better model.
    explored(model, packed, rows, device) -> dict[str, numpy.ndarray]
        What the explorer shows of some images beside attention.
    ON_CURVES, POINTS, RANDOMISED, SCORED: int; LOCAL: bool; IMPORTANCE: dict[str, str]
        How many images and points `faithfulness` and `measure` take, whether a score hangs on few patches, and what
        head scores are, in words.
"""

from importlib import import_module
from types import ModuleType


def explanations(task: str) -> ModuleType:
    """The module that explains models of the task `task`."""
    return import_module(f"{__name__}.{task}")
