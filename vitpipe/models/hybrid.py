"""The ResNet before the encoder of a hybrid (Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.1), from timm."""

from importlib import import_module
from typing import Any

from torch import nn

from vitpipe.errors import InputError
from vitpipe.sources.torchvision import import_torchvision


def feature_map(name: str) -> nn.Module:
    """The ResNet of timm's hybrid `name`, with random weights: images to a feature map for patches of 1x1."""
    model = import_timm().create_model(name, pretrained=False, num_classes=0, depth=0)
    backbone: nn.Module = model.patch_embed.backbone
    return backbone


def import_timm() -> Any:
    """Imports timm. Raises InputError where it is not installed."""
    import_torchvision()  # timm imports it, too
    try:
        return import_module("timm")
    except ImportError:
        raise InputError("timm is not installed: pip install timm, or give a file in model.weights") from None
