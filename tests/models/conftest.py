"""Tiny models with known weights."""

from collections.abc import Callable

import pytest
import torch

from vitpipe.config import ClassifyModel, SupersampleModel
from vitpipe.models.classifier import Classifier
from vitpipe.models.supersampler import SuperSampler
from vitpipe.models.vit import ViT

ENCODER = {"patch": 3, "dim": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0, "position": "learned", "proj": True}
COMMON = ENCODER | {"qkv_bias": True, "final_norm": True, "conv_channels": 8, "conv_blocks": 1, "conv_expansion": 1}


@pytest.fixture
def vit() -> Callable[..., ViT]:
    """`vit(position="none")`: an encoder of 12x12 images."""

    def make(**changes: object) -> ViT:
        torch.manual_seed(0)
        return ViT(**(ENCODER | {"size": 12, "channels": 3} | changes)).eval()

    return make


@pytest.fixture
def supersampler() -> Callable[..., SuperSampler]:
    """`supersampler(scale=4, skip="nearest")`: for 12x12 images; keys other than size and scale are of the settings."""

    def make(size: int = 12, scale: int = 2, **changes: object) -> SuperSampler:
        torch.manual_seed(0)
        settings = SupersampleModel(**(COMMON | {"skip": "bicubic", "consistent": False} | changes))
        return SuperSampler(settings, size=size, scale=scale).eval()

    return make


@pytest.fixture
def classifier() -> Callable[..., Classifier]:
    """`classifier(pool="avg")`: of 12x12 images into five classes."""

    def make(**changes: object) -> Classifier:
        torch.manual_seed(0)
        settings = ClassifyModel(**(COMMON | {"pool": "token", "in_chans": 3} | changes))
        return Classifier(settings, size=12, classes=5).eval()

    return make
