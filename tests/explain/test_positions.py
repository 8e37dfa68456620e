"""Similarities of embeddings whose angles are known."""

import numpy as np
import torch
from torch import nn

from vitpipe.explain.positions import similarity


def test_cosines_by_hand_with_the_class_token_apart():
    position = nn.Parameter(torch.tensor([[1.0, 1.0], [2, 0], [0, 3], [-1, 0], [5, 5]]))
    found = similarity(position, token=True)
    half = np.sqrt(0.5)
    expected = [[1, 0, -1, half], [0, 1, 0, half], [-1, 0, 1, -half], [half, half, -half, 1]]
    np.testing.assert_allclose(found["patches"], expected, atol=1e-6)
    np.testing.assert_allclose(found["token"], [half, half, -half, 1], atol=1e-6)


def test_without_a_class_token_all_are_patches():
    position = torch.randn(9, 16, generator=torch.Generator().manual_seed(0)) * 1e-3
    found = similarity(position, token=False)
    assert found["token"] is None
    assert found["patches"].shape == (9, 9)
    np.testing.assert_allclose(np.diag(found["patches"]), 1, rtol=1e-6)
    np.testing.assert_array_equal(found["patches"], found["patches"].T)
    assert np.abs(found["patches"]).max() <= 1
    np.testing.assert_allclose(similarity(position * 100, token=False)["patches"], found["patches"], atol=1e-6)


def test_an_embedding_of_zeros_is_similar_to_none():
    position = torch.cat([torch.zeros(1, 4), torch.eye(4)])
    found = similarity(position, token=True)
    np.testing.assert_array_equal(found["token"], 0)
    np.testing.assert_array_equal(found["patches"], np.eye(4))
