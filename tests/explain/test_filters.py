"""Filters that are known: the weights themselves, planted patterns, and what reaches a token through a stem."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from vitpipe.explain.filters import COMPONENTS, embedding_filters, filters, principal, reach
from vitpipe.models.classifier import Classifier
from vitpipe.models.patches import patchify
from vitpipe.models.supersampler import SuperSampler

SHAPE = {"depth": 1, "heads": 2, "mlp": 1.0, "position": "none"}


def classifier(seed: int = 0, *, channels: int = 3, width: int = 0, dim: int = 32, patch: int = 4) -> Classifier:
    torch.manual_seed(seed)
    made = {"classes": 2, "channels": channels, "readout": "token", "width": width, "blocks": 1}
    return Classifier(**made, size=3 * patch, patch=patch, dim=dim, **SHAPE)


def supersampler(seed: int = 0) -> SuperSampler:
    torch.manual_seed(seed)
    return SuperSampler(size=21, scale=2, patch=3, skip="bicubic", width=8, blocks=2, dim=16, **SHAPE)


@pytest.mark.parametrize("channels", [1, 3])
def test_without_a_stem_the_filters_are_the_weights_exactly(channels):
    model = classifier(channels=channels)
    found = embedding_filters(model)
    assert found.shape == (32, channels, 4, 4)
    assert torch.equal(found.flatten(1), model.encoder.embed.weight)


def test_with_a_stem_a_filter_is_the_gradient_of_an_inner_token():
    model = supersampler()
    side, patch, far = 21, 3, 5
    assert reach(model) == far  # one convolution and two blocks of two
    pixels = torch.zeros(1, 3, side, side, requires_grad=True)
    tokens = model.encoder.embed(patchify(model.stem(pixels), patch))[0].unflatten(0, (7, 7))
    found = embedding_filters(model)
    for dim in (0, 11):
        whole = torch.autograd.grad(tokens[3, 3, dim], pixels, retain_graph=True)[0][0]
        inside = slice(3 * patch - far, 4 * patch + far)
        torch.testing.assert_close(found[dim], whole[:, inside, inside], rtol=1e-4, atol=1e-8)
        outside = whole.clone()
        outside[:, inside, inside] = 0
        assert (outside == 0).all()
    assert found[..., 0, :].abs().amax() > 0  # no reach beyond what is seen
    assert found[..., -1].abs().amax() > 0


def test_planted_patterns_come_out_in_order():
    """Filters that differ along two orthogonal patterns, three times as far along the one, and share a third."""
    model = classifier(dim=8)
    rows = torch.zeros(8, 48)
    rows[:4, 5], rows[4:, 5] = 3, -3
    rows[::2, 17], rows[1::2, 17] = -1, 1
    rows[:, 40] = 100
    model.encoder.embed.weight.data = rows
    found = filters(model, classifier(1, dim=8))
    assert found["trained"].shape == (7, 4, 4, 3)
    for component, (channel, place) in enumerate([(0, 5), (1, 1)]):
        expected = np.zeros((16, 3))
        expected[place, channel] = 1
        np.testing.assert_allclose(found["trained"][component].reshape(16, 3), expected, atol=1e-6)
    np.testing.assert_allclose(found["trained_explained"], [0.9, 0.1, 0, 0, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize(("dim", "patch"), [(64, 4), (20, 4), (64, 2)])
def test_agrees_with_scikit_learn(dim, patch):
    weights = classifier(dim=dim, patch=patch).encoder.embed.weight.detach()
    found, explained = principal(weights.unflatten(1, (3, patch, patch)))
    count = min(COMPONENTS, dim - 1, 3 * patch**2)
    oracle = PCA(count, svd_solver="full").fit(weights.double().numpy())
    assert found.shape == (count, 3, patch, patch)
    np.testing.assert_allclose(explained, oracle.explained_variance_ratio_, rtol=1e-5)
    cosines = (found.flatten(1).numpy() * oracle.components_).sum(1)
    np.testing.assert_allclose(abs(cosines), 1, rtol=1e-5)


def test_the_sign_is_fixed_and_the_length_one():
    weights = torch.randn(40, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    found, _ = principal(weights)
    flat = found.flatten(1)
    assert (flat.amax(1) == flat.abs().amax(1)).all()
    torch.testing.assert_close(flat.square().sum(1), torch.ones(len(flat)))
    torch.testing.assert_close(principal(-weights)[0], found)


def test_equal_filters_explain_nothing_and_give_no_nan():
    found, explained = principal(torch.ones(6, 3, 2, 2))
    assert torch.isfinite(found).all()
    assert (explained == 0).all()


@pytest.mark.parametrize(("model", "channels"), [(supersampler, 3), (classifier, 3)])
def test_arrays_of_both_models(model, channels):
    trained, untrained = model(0), model(1)
    found = filters(trained, untrained)
    side = int(found["patch"]) + 2 * int(found["reach"])
    assert int(found["patch"]) == trained.encoder.patch
    for name, one in (("trained", trained), ("untrained", untrained)):
        expected, explained = principal(embedding_filters(one))
        assert found[name].dtype == np.float32
        assert found[name].shape == (len(explained), side, side, channels)
        np.testing.assert_array_equal(found[name], expected.permute(0, 2, 3, 1).numpy())
        np.testing.assert_array_equal(found[f"{name}_explained"], explained.numpy())
        assert (np.diff(found[f"{name}_explained"]) <= 0).all()
    assert not np.array_equal(found["trained"], found["untrained"])


def test_a_grey_model_has_grey_components():
    found = filters(classifier(channels=1, width=4), classifier(1, channels=1, width=4))
    assert found["trained"].shape == (COMPONENTS, 10, 10, 3)
    np.testing.assert_array_equal(found["trained"][..., 0], found["trained"][..., 2])


def test_the_model_is_left_as_it_was():
    model = supersampler().train()
    model.tail.eval()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = embedding_filters(model)
    assert torch.equal(found, embedding_filters(model))  # float32 whatever is around it
    assert model.training
    assert not model.tail.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], values) for name, values in model.state_dict().items())
    assert isinstance(model.stem, nn.Sequential)
