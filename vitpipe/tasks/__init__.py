"""Tasks, one module each; the module's name is the value of `task.name`.

A task is a module with

    BEST: str
        The column of the training curve whose highest value chooses the checkpoint.
    PROTOCOL: dict[str, str]
        How each measure is taken, in words.
    build(settings: Settings, classes: tuple[str, ...]) -> torch.nn.Module
        The model with fresh weights; `classes` are those of `task.target`, none where the target is an image.
    inputs(batch, train: Train) -> tuple[Tensor, ...]
        What a training step computes with, of the images `batch.local`. What is drawn at random for these must not depend
        on which part of the batch they are.
    loss(model, input, ..., train: Train) -> tuple[Tensor, dict[str, Tensor]]
        The loss to descend, and means to show in the curve, of these inputs. Draws nothing at random and reads no
        value on the CPU, so that a CUDA device can repeat it as it was recorded.
    validate(model, packed, compute, train: Train, only: slice) -> dict[str, float]
        Columns of the curve: means over these of the validation images.
    baseline(train, val, test, settings: Settings) -> dict
        Test scores of what a model has to beat: the content of reports/baseline.json.
    evaluate(model, packed, baseline, settings, compute) -> tuple[dict, pandas.DataFrame]
        The content of reports/metrics.json and one row of scores per image.
    examples(model, packed, table, settings, compute) -> dict[str, dict]
        What the task's module in `vitpipe.figures` draws.
"""

from importlib import import_module
from types import ModuleType


def task(name: str) -> ModuleType:
    """The module of the task `name`, one of the modules of this package."""
    return import_module(f"{__name__}.{name}")
