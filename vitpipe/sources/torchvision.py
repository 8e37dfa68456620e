"""Importing torchvision beside a torch it was not built for.

A torchvision built for CUDA beside a CPU torch cannot load its compiled library. All that vitpipe
uses (data sets, transforms) is Python, but `import torchvision` fails, because it registers meta
functions for `nms` and `qnms`, operators which that library would have declared.
"""

import warnings
from types import ModuleType

import torch

OPERATORS = ("nms", "qnms")
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

_declared: list[torch.library.Library] = []  # a library's declarations vanish when it is collected


def import_torchvision() -> ModuleType:
    """Imports torchvision and returns it; where that works by itself, which is tried first, nothing else is done.

    Raises:
        ModuleNotFoundError: torchvision is not installed.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Failed to load image Python extension")
        try:
            import torchvision
        except RuntimeError as error:
            if not any(f"torchvision::{name} does not exist" in str(error) for name in OPERATORS):
                raise
            declare_operators()
            import torchvision
    return torchvision


def declare_operators() -> None:
    """Declares the operators whose absence makes the import fail. They compute nothing; once is enough."""
    if not _declared:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in OPERATORS:
            library.define(name + SCHEMA)
        _declared.append(library)
