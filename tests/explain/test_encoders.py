"""Attention in batches is that of one pass, and the query is the one that the head reads."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vitpipe.errors import InputError
from vitpipe.explain import encoders
from vitpipe.explain.encoders import (
    attention_batches,
    attention_layers,
    evaluating,
    images_at_once,
    query_name,
    query_row,
)
from vitpipe.models.vit import ViT

WEIGHTS = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.3, 0.3, 0.4, 0.0], [0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])


def model(pool: str, **options) -> Any:
    encoder = ViT(size=8, patch=4, channels=1, dim=8, depth=1, heads=2, **options)
    return SimpleNamespace(encoder=encoder, pool=pool)


@pytest.mark.parametrize(
    ("pool", "options", "row", "name"),
    [
        ("token", {"class_token": True}, [0.2, 0.3, 0.4], "class token"),
        ("token", {"class_token": True, "registers": 1}, [0.3, 0.4], "class token"),
        ("avg", {}, [1.15 / 4, 1.25 / 4, 0.95 / 4, 0.65 / 4], "mean of all patches"),
        ("avg", {"registers": 1}, [1.05 / 3, 0.65 / 3, 0.25 / 3], "mean of all patches"),
        ("avg", {"class_token": True}, [1.05 / 3, 0.65 / 3, 0.25 / 3], "mean of all patches"),
    ],
)
def test_row_of_the_class_token_or_mean_of_the_patches(pool, options, row, name):
    made = model(pool, **options)
    torch.testing.assert_close(query_row(WEIGHTS, made), torch.tensor(row))
    assert query_row(WEIGHTS.expand(4, 2, 4, 4), made).shape == (4, 2, len(row))
    assert query_name(made) == name


@pytest.mark.parametrize("task", ["supersample", "classify"])
def test_batches_are_one_pass_of_the_whole_model(made, test, attention_of, unchanged, monkeypatch, task):
    _, model = made(task, **{"model.in_chans": 1} if task == "classify" else {})
    tokens = 16 + (task == "classify")
    assert images_at_once(model, 5 * 2 * 2 * tokens**2) == 5
    assert images_at_once(model, 1) == 1
    whole = attention_of(model, test)
    monkeypatch.setattr(encoders, "WEIGHTS_AT_ONCE", 5 * 2 * 2 * tokens**2)
    with unchanged(model):
        parts = list(attention_batches(model, test.images("lr", np.arange(12))))
    assert [len(part) for part in parts] == [5, 5, 2]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_a_model_evaluates_and_returns_to_its_modes():
    model = nn.Sequential(nn.Dropout(), nn.Dropout()).train()
    model[0].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    with pytest.raises(ValueError, match="failed"), evaluating(model):
        raise ValueError("failed")
    assert [module.training for module in model.modules()] == [True, False, True]


def test_a_model_without_encoder():
    with pytest.raises(InputError, match=r"^Linear has no encoder, so no attention to look at$"):
        next(attention_batches(nn.Linear(2, 2), np.zeros((1, 12, 12, 3), np.uint8)))


@pytest.mark.parametrize(
    ("changes", "layers"),
    [
        ({"model.attention": "none"}, 0),
        ({"model.depth": 0}, 0),
        ({"model.attention": "uniform"}, 2),
        ({"model.attention": "place", "model.place": True}, 2),
    ],
)
def test_a_model_has_the_layers_that_compute_attention(made, test, unchanged, monkeypatch, changes, layers):
    _, model = made(**changes)
    assert len(attention_layers(model)) == layers
    monkeypatch.setattr(encoders, "WEIGHTS_AT_ONCE", 5 * 2 * 2 * 16**2)
    with unchanged(model):
        parts = list(attention_batches(model, test.images("lr", np.arange(12))))
    assert torch.cat(parts).shape == (12, layers, 2 if layers else 0, 16, 16)
    torch.testing.assert_close(torch.cat(parts).sum(-1), torch.ones(12, layers, 2 if layers else 0, 16))
