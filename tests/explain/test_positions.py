"""Similarities of embeddings whose angles are known."""

import numpy as np
import pytest
import torch
from torch import nn

from vitpipe.explain.positions import positions, similarity
from vitpipe.models.classifier import Classifier
from vitpipe.models.vit import sincos_position
from vitpipe.models.supersampler import SuperSampler

SHAPE = {"size": 12, "patch": 3, "dim": 16, "depth": 1, "heads": 2, "mlp": 1.0}


def classifier(seed: int, position: str, readout: str) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(classes=2, channels=3, readout=readout, width=0, blocks=0, position=position, **SHAPE)


def supersampler(seed: int, position: str) -> SuperSampler:
    torch.manual_seed(seed)
    return SuperSampler(scale=2, skip="bicubic", width=4, blocks=0, position=position, **SHAPE)


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


@pytest.mark.parametrize("readout", ["token", "mean"])
def test_learned_embeddings_stand_beside_their_control(readout):
    trained, untrained = classifier(0, "learned", readout), classifier(1, "learned", readout)
    found, token = positions(trained, untrained), readout == "token"
    assert list(found) == ["trained", "token_trained", "untrained", "token_untrained"][:: 1 if token else 2]
    for name, model in (("trained", trained), ("untrained", untrained)):
        expected = similarity(model.encoder.position, token)
        np.testing.assert_array_equal(found[name], expected["patches"])
        if token:
            np.testing.assert_array_equal(found[f"token_{name}"], expected["token"].reshape(4, 4))
    assert not np.array_equal(found["trained"], found["untrained"])


def test_a_super_sampler_has_positions_as_well():
    found = positions(supersampler(0, "learned"), supersampler(1, "learned"))
    assert {name: values.shape for name, values in found.items()} == {"trained": (16, 16), "untrained": (16, 16)}


@pytest.mark.parametrize("make", [supersampler, lambda seed, position: classifier(seed, position, "token")])
def test_sine_and_cosine_are_fixed_and_need_no_control(make):
    found = positions(make(0, "sincos"), make(1, "sincos"))
    assert list(found) == ["fixed"]
    np.testing.assert_array_equal(found["fixed"], similarity(sincos_position(4, 16), token=False)["patches"])


def test_without_positions_there_is_nothing():
    assert positions(supersampler(0, "none"), supersampler(1, "none")) == {}
