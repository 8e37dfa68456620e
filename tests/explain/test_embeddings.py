"""Filters that are known: the weights themselves, planted patterns, and what reaches a token through a stem;
similarities of position embeddings whose angles are known."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from vitpipe.explain.embeddings import COMPONENTS, embedding_filters, filters, positions, principal, reach, similarity
from vitpipe.models.patches import patchify
from vitpipe.models.position import sincos_position


@pytest.fixture
def classifier(made):
    """Without a stem: `classifier(seed, **settings)`."""
    bare = {"model.conv_channels": 0, "model.conv_blocks": 0}
    return lambda seed=0, **changes: made("classify", seed, **bare | changes)[1]


@pytest.mark.parametrize("channels", [1, 3])
def test_without_a_stem_the_filters_are_the_weights_exactly(classifier, channels):
    model = classifier(**{"model.in_chans": channels})
    found = embedding_filters(model)
    assert found.shape == (16, channels, 3, 3)
    assert torch.equal(found.flatten(1), model.encoder.patch_embed.weight)


def test_filters_are_of_pixels_before_they_are_standardised(classifier):
    model = classifier()
    weights = model.encoder.patch_embed.weight.unflatten(1, (3, 9))
    model.encoder.shift, model.encoder.scale = torch.zeros(3, 1, 1), torch.tensor([0.5, 1, 2])[:, None, None]
    found = embedding_filters(model).flatten(2)
    torch.testing.assert_close(found, weights / torch.tensor([0.5, 1, 2])[:, None])


def test_with_a_stem_a_filter_is_the_gradient_of_an_inner_token(made):
    _, model = made(**{"data.size": 42, "model.conv_blocks": 2})
    side, patch, far = 21, 3, 5
    assert reach(model) == far  # one convolution and two blocks of two
    pixels = torch.zeros(1, 3, side, side, requires_grad=True)
    tokens = model.encoder.patch_embed(patchify(model.stem(pixels), patch))[0].unflatten(0, (7, 7))
    found = embedding_filters(model)
    for dim in (0, 11):
        whole = torch.autograd.grad(tokens[3, 3, dim], pixels, retain_graph=True)[0][0]
        inside = slice(3 * patch - far, 4 * patch + far)
        torch.testing.assert_close(found[dim], whole[:, inside, inside], rtol=1e-4, atol=1e-8)
        outside = whole.clone()
        outside[:, inside, inside] = 0
        assert (outside == 0).all()
    assert found[..., 0, :].abs().amax() > 0  # the reach is not larger than needed
    assert found[..., -1].abs().amax() > 0


def test_planted_patterns_come_out_in_order(classifier):
    """Filters that differ along two orthogonal patterns, three times as far along the one, and share a third."""
    changes = {"model.dim": 8, "model.patch": 4}
    model = classifier(**changes)
    rows = torch.zeros(8, 48)
    rows[:4, 5], rows[4:, 5] = 3, -3
    rows[::2, 17], rows[1::2, 17] = -1, 1
    rows[:, 40] = 100
    model.encoder.patch_embed.weight.data = rows
    found = filters(model, classifier(1, **changes))
    assert found["trained"].shape == (7, 4, 4, 3)
    for component, (channel, place) in enumerate([(0, 5), (1, 1)]):
        expected = np.zeros((16, 3))
        expected[place, channel] = 1
        np.testing.assert_allclose(found["trained"][component].reshape(16, 3), expected, atol=1e-6)
    np.testing.assert_allclose(found["trained_explained"], [0.9, 0.1, 0, 0, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize(("dim", "patch"), [(64, 4), (20, 4), (64, 2)])
def test_components_agree_with_scikit_learn(dim, patch):
    weights = torch.randn(dim, 3, patch, patch, generator=torch.Generator().manual_seed(0))
    found, explained = principal(weights)
    count = min(COMPONENTS, dim - 1, 3 * patch**2)
    oracle = PCA(count, svd_solver="full").fit(weights.flatten(1).double().numpy())
    assert found.shape == (count, 3, patch, patch)
    np.testing.assert_allclose(explained, oracle.explained_variance_ratio_, rtol=1e-5)
    flat = found.flatten(1)
    np.testing.assert_allclose(abs((flat.numpy() * oracle.components_).sum(1)), 1, rtol=1e-5)
    assert (flat.amax(1) == flat.abs().amax(1)).all()  # the sign is fixed, and the length one
    torch.testing.assert_close(flat.square().sum(1), torch.ones(count))
    torch.testing.assert_close(principal(-weights)[0], found)


def test_equal_filters_explain_nothing_and_give_no_nan():
    found, explained = principal(torch.ones(6, 3, 2, 2))
    assert torch.isfinite(found).all()
    assert (explained == 0).all()


@pytest.mark.parametrize(
    ("task", "changes"), [("supersample", {}), ("classify", {}), ("classify", {"model.in_chans": 1})]
)
def test_filters_of_models_that_stay_as_they_were(made, unchanged, task, changes):
    trained, untrained = made(task, 0, **changes)[1], made(task, 1, **changes)[1]
    with unchanged(trained), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = filters(trained, untrained)  # float32 whatever is around it
    assert [int(found["patch"]), int(found["reach"])] == [3, 3]
    for name, one in (("trained", trained), ("untrained", untrained)):
        expected, explained = principal(embedding_filters(one))
        assert found[name].dtype == np.float32
        assert found[name].shape == (15, 9, 9, 3)
        np.testing.assert_array_equal(found[name], expected.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy())
        np.testing.assert_array_equal(found[f"{name}_explained"], explained.numpy())
        assert (np.diff(found[f"{name}_explained"]) <= 0).all()
    assert not np.array_equal(found["trained"], found["untrained"])


def test_cosines_by_hand():
    position = torch.tensor([[[1.0, 1.0], [2, 0], [0, 3], [-1, 0], [0, 0]]])
    half = np.sqrt(0.5)
    expected = [[1, half, half, -half, 0], [half, 1, 0, -1, 0], [half, 0, 1, 0, 0], [-half, -1, 0, 1, 0], [0] * 5]
    np.testing.assert_allclose(similarity(position), expected, atol=1e-6)
    position = torch.randn(1, 9, 16, generator=torch.Generator().manual_seed(0)) * 1e-3
    found = similarity(position)
    np.testing.assert_array_equal(found, found.T)
    assert np.abs(found).max() <= 1
    np.testing.assert_allclose(similarity(position * 100), found, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "changes", "prefix"),
    [("supersample", {}, 0), ("classify", {"model.pool": "avg"}, 0), ("classify", {}, 1)],
)
def test_learned_positions_stand_beside_their_control(made, task, changes, prefix):
    models = {name: made(task, seed, **changes)[1] for seed, name in enumerate(("trained", "untrained"))}
    found = positions(models["trained"], models["untrained"])
    token = {"cls_token_trained", "cls_token_untrained"} if prefix else set()
    assert set(found) == {"trained", "untrained", "grid"} | token
    assert found["grid"].tolist() == [4, 4]
    for name, model in models.items():
        expected = similarity(model.encoder.pos_embed)
        np.testing.assert_array_equal(found[name], expected[prefix:, prefix:])
        if prefix:
            np.testing.assert_array_equal(found[f"cls_token_{name}"], expected[0, 1:].reshape(4, 4))
    assert not np.array_equal(found["trained"], found["untrained"])


@pytest.mark.parametrize("task", ["supersample", "classify"])
def test_sine_and_cosine_need_no_control_and_no_positions_give_nothing(made, task):
    fixed, none = (made(task, **{"model.position": position})[1] for position in ("sincos", "none"))
    found = positions(fixed, fixed)
    assert (list(found), found["grid"].tolist()) == (["fixed", "grid"], [4, 4])
    np.testing.assert_array_equal(found["fixed"], similarity(sincos_position(4, 4, 16)[None]))
    assert positions(none, none) == {}
