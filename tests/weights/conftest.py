"""Tiny models of other packages with known weights."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vitpipe.errors import InputError
from vitpipe.models.hybrid import import_timm
from vitpipe.weights.loading import read_source

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 128, "depth": 2, "num_heads": 2, "num_classes": 5}


def scramble(model: nn.Module) -> nn.Module:
    """Draws every tensor: ones and zeros hide errors."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2, generator=generator)
    return model.eval()


@pytest.fixture
def timm_vit() -> Callable[..., Any]:
    """`timm_vit(reg_tokens=4)`: timm's encoder of 32x32 images with patches of 8 pixels, scrambled."""
    import_timm()
    kind = import_module("timm.models.vision_transformer").VisionTransformer
    return lambda **changes: scramble(kind(**(TINY | changes)))


@pytest.fixture
def images() -> Callable[..., Tensor]:
    """`images(32, 48)`: two images on [-1, 1]."""

    def make(height: int = 32, width: int = 32) -> Tensor:
        return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1

    return make


@pytest.fixture
def file(timm_vit, tmp_path):
    """`file({"norm.bias": None})`: the file of timm's encoder with other tensors, None for none."""

    def make(changes: dict[str, Tensor | None] | None = None) -> str:
        state = timm_vit().state_dict() | (changes or {})
        save_file({name: tensor for name, tensor in state.items() if tensor is not None}, tmp_path / "a.safetensors")
        return str(tmp_path / "a.safetensors")

    return make


def refusal(source: str, heads: int | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_source(source, heads)
    assert "\n" not in str(caught.value)
    return str(caught.value)
