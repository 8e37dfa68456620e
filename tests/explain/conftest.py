"""Small models whose attention differs from image to image, and packed images for them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import to_input
from vitpipe.explain.capture import capture
from vitpipe.tasks.base import Task, scoring_task

CLASSES = ("not odd", "odd")


@pytest.fixture
def table(table) -> pd.DataFrame:
    return table.assign(odd=2 * table["odd"] - 1)  # an attribute: 1 has it, -1 does not


@pytest.fixture
def made(settings) -> Callable[..., tuple[Task, Any]]:
    """A task and a model that looks trained: `made("classify", seed=1, **{"model.pool": "avg"})`.

    `sharp` is a factor on queries, keys and values: with 1 all tokens are attended to nearly alike.
    """

    def make(name: str = "supersample", seed: int = 0, sharp: float = 8, classes=CLASSES, **changes: object):
        task = scoring_task(settings(name, **changes), classes if name == "classify" else ())
        torch.manual_seed(seed)
        model: Any = task.build()
        for block in model.encoder.blocks:
            block.attn.qkv.weight.data *= sharp
        if not model.head.weight.any():
            nn.init.normal_(model.head.weight, std=0.1)  # so that attention reaches the output
        return task, model.eval()

    return make


@pytest.fixture
def test(packed: Path) -> PackedDataset:
    """12 images."""
    return PackedDataset(packed / "test", "odd")


@pytest.fixture
def val(packed: Path) -> PackedDataset:
    """8 images."""
    return PackedDataset(packed / "val", "odd")


@pytest.fixture
def images() -> Callable[..., Tensor]:
    """Random images on [-1, 1], each with a contrast of its own."""

    def draw(count: int = 3, side: int = 12) -> Tensor:
        random = torch.Generator().manual_seed(1)
        return torch.rand(count, 3, side, side, generator=random) * 2 - 1

    return draw


@pytest.fixture
def attention_of() -> Callable[[nn.Module, PackedDataset], Tensor]:
    """The attention (b, l, h, t, t) of all images of a part in one pass of the whole model."""

    def record(model: nn.Module, part: PackedDataset) -> Tensor:
        with torch.inference_mode(), capture(model) as seen:
            model(to_input(part.images("lr", np.arange(len(part))), torch.device("cpu")))
        return torch.stack(list(seen.values()), 1)

    return record


@pytest.fixture
def unchanged() -> Callable[[nn.Module], Any]:
    """`with unchanged(model):` fails if weights, gradients, modes or hooks of the model are others afterwards."""

    @contextmanager
    def check(model: nn.Module) -> Iterator[None]:
        for number, module in enumerate(model.modules()):
            module.training = number % 2 == 0
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 3)
        yield
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        assert all(bool((parameter.grad == 3).all()) for parameter in model.parameters())
        assert [module.training for module in model.modules()] == [n % 2 == 0 for n in range(len([*model.modules()]))]
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        assert not torch.overrides._get_current_function_mode_stack()

    return check
