"""Importing torchvision beside a torch it was not built for.

A torchvision built for CUDA beside a CPU torch cannot load its compiled library. All that vitpipe
uses (data sets, transforms) is Python, but `import torchvision` fails, because it registers meta
functions for `nms` and `qnms`, operators which that library would have declared.
"""

import sys
import warnings
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch

OPERATORS = ("nms", "qnms")
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

_declared: list[torch.library.Library] = []  # a library's declarations vanish when it is collected


def import_torchvision() -> ModuleType:
    """Imports torchvision and returns it; a torchvision that fits its torch is left as it is.

    Raises:
        ModuleNotFoundError: torchvision is not installed.
    """
    if "torchvision" not in sys.modules and not compiled_library_loads():
        declare_operators()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Failed to load image Python extension")
            import torchvision
    import torchvision

    return torchvision


def compiled_library_loads() -> bool:
    """Whether torchvision's compiled operators can be loaded; torchvision itself is not imported."""
    spec = find_spec("torchvision")
    folders = spec.submodule_search_locations if spec else None
    paths = [Path(folder, f"_C{suffix}") for folder in folders or () for suffix in EXTENSION_SUFFIXES]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return False
    try:
        torch.ops.load_library(path)
    except OSError:
        return False
    return True


def declare_operators() -> None:
    """Declares the operators whose absence makes the import fail. They compute nothing; once is enough."""
    if not _declared:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in OPERATORS:
            library.define(name + SCHEMA)
        _declared.append(library)
