"""Rollout and relevance by hand, by a second derivation, and on models whose attention is or is not used."""

import numpy as np
import pytest
import torch
from torch import nn

from vitpipe.errors import InputError
from vitpipe.explain.relevance import relevance, rollout, weights_and_gradients
from vitpipe.models.attention import Attention


def attention(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).mul(2).softmax(-1)


def first(output: torch.Tensor) -> torch.Tensor:
    return output[:, 0]


def test_rollout_multiplies_layers_from_the_output_down():
    """Token 1 reads token 0 in layer 1, token 2 reads token 1 in layer 2: so token 2 reads token 0, not else."""
    one, two = torch.eye(3), torch.eye(3)
    one[1], two[2] = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0])
    found = rollout(torch.stack([one, two])[None, :, None])[0]
    torch.testing.assert_close(found, torch.tensor([[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5]]))
    swapped = rollout(torch.stack([two, one])[None, :, None])[0]
    torch.testing.assert_close(swapped[2], torch.tensor([0, 0.5, 0.5]))


def test_rollout_rows_sum_to_one_through_many_layers_even_if_their_sums_were_rounded():
    weights = attention(3, 24, 2, 9, 9)
    found = rollout(weights * 1.01)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(3, 9))
    alone = torch.cat([rollout(weights[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(rollout(weights), alone)


def test_relevance_is_the_product_of_layers():
    """R is the product of I + Abar_l, the last layer leftmost: in numpy, image by image and head by head."""
    random = np.random.default_rng(0)
    weights, gradients = random.random((2, 4, 3, 5, 5)), random.normal(size=(2, 4, 3, 5, 5))
    found = relevance(torch.from_numpy(weights), torch.from_numpy(gradients)).numpy()
    for image in range(2):
        expected = np.eye(5)
        for layer in range(4):
            counted = sum(np.maximum(weights[image, layer, h] * gradients[image, layer, h], 0) for h in range(3)) / 3
            expected = (np.eye(5) + counted) @ expected
        np.testing.assert_allclose(found[image], expected)


def test_gradients_are_those_of_the_weights(made, images):
    """The attention of a layer changed by hand changes the score by the gradient."""

    class Nudged(Attention):
        def forward(self, x: torch.Tensor, context: None = None, mask: None = None) -> torch.Tensor:
            q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            weights = torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1) + self.nudge
            return self.proj((weights @ v).transpose(1, 2).flatten(2))

    _, model = made("classify")
    weights, gradients = weights_and_gradients(model, images(1), first)
    assert weights.shape == gradients.shape == (1, 2, 2, 17, 17)
    layer = model.double().encoder.blocks[1].attn
    layer.__class__ = Nudged
    for head, query, key in ((0, 0, 3), (1, 0, 0), (1, 5, 16)):
        scores = []
        for step in (1e-5, -1e-5):
            layer.nudge = torch.zeros(1, 2, 17, 17, dtype=torch.float64)
            layer.nudge[0, head, query, key] = step
            scores.append(first(model(images(1).double())).item())
        slope = (scores[0] - scores[1]) / 2e-5
        assert float(gradients[0, 1, head, query, key]) == pytest.approx(slope, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("kind", ["uniform", "place"])
def test_controls_have_the_gradients_of_attention_without_queries_and_keys(made, images, kind):
    _, model = made("classify", **{"model.place": kind == "place"})
    model.requires_grad_(False)
    for block in model.encoder.blocks:
        block.attn.qkv.weight[:32], block.attn.qkv.bias[:32] = 0, 0
    expected = weights_and_gradients(model, images(), first)
    for block in model.encoder.blocks:
        block.attn.kind = kind
        block.attn.qkv.weight[:32] = 1
    for found, wanted in zip(weights_and_gradients(model, images(), first), expected, strict=True):
        assert wanted.abs().max() > 1e-3
        torch.testing.assert_close(found, wanted)


def test_attention_that_the_score_does_not_use_is_the_identity(made, images):
    _, model = made("classify")
    for block in model.encoder.blocks:
        block.attn.proj.weight.data.zero_()
    found = relevance(*weights_and_gradients(model, images(), first))
    torch.testing.assert_close(found, torch.eye(17).expand(3, -1, -1))


def test_frozen_weights_no_grad_and_autocast_change_nothing(made, images, unchanged):
    (_, model), batch = made("classify"), images()
    expected = weights_and_gradients(model, batch, first)
    with unchanged(model), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model.requires_grad_(False)
        found = weights_and_gradients(model, batch, first)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert not one.requires_grad
        assert torch.equal(one, other)
    assert not batch.requires_grad


def test_a_model_without_attention(images):
    with pytest.raises(InputError, match="no attention was recorded"):
        weights_and_gradients(nn.Flatten(), images(), first)
