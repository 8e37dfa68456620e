"""Importing torchvision beside a torch that it was not built for. Only its Python parts are used."""

import warnings
from types import ModuleType

import torch

declared: list[torch.library.Library] = []  # the declarations last as long as the object


def import_torchvision() -> ModuleType:
    """Imports torchvision. If its compiled library does not load, declares the operators that the import misses."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Failed to load image Python extension")
        try:
            import torchvision
        except RuntimeError as error:
            if not str(error).startswith("operator torchvision::"):
                raise
            declared.append(torch.library.Library("torchvision", "FRAGMENT"))
            for name in ("nms", "qnms"):
                declared[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            import torchvision
    return torchvision
