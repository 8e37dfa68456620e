"""Importing a torchvision that was not built for the installed torch; only its Python parts are used."""

import warnings
from typing import Any

import torch

declared: list[Any] = []  # the declarations last as long as this object


def import_torchvision() -> Any:
    """Imports torchvision. If its compiled library does not load, declares the operators that the import misses."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):
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
