"""Relevance by hand, by a second derivation, and on models whose attention is or is not used."""

import numpy as np
import pytest
import torch
from torch import nn

from vitpipe.errors import InputError
from vitpipe.explain.relevance import relevance, weights_and_gradients
from vitpipe.models.attention import Attention
from vitpipe.models.classifier import Classifier

SIDE = 12


def classifier(classes: int = 3) -> Classifier:
    torch.manual_seed(0)
    shape = {"size": SIDE, "patch": 3, "dim": 16, "depth": 3, "heads": 2, "mlp": 2.0, "position": "learned"}
    net = Classifier(classes=classes, channels=3, readout="token", width=0, blocks=0, **shape)
    for block in net.encoder.blocks:  # attention that differs from image to image
        block.attention.qkv.weight.data *= 4
    return net


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def first(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, 0]


def test_two_layers_by_hand():
    """Head 2's gradient lowers the score and counts nothing, so its mean with head 1 halves that."""
    weights = torch.zeros(1, 2, 2, 2, 2)
    weights[0, :, :] = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    gradients = torch.zeros_like(weights)
    gradients[0, 0, 0], gradients[0, 0, 1] = 2.0, -7.0
    gradients[0, 1, 0, 0, 1] = 4.0  # layer 2: token 0 reads token 1 and nothing else counts
    # layer 1: Abar = [[.5, .5], [.25, .75]]; layer 2: Abar = [[0, 1], [0, 0]]; R = (I + A2) (I + A1)
    expected = torch.tensor([[[1.75, 2.25], [0.25, 1.75]]])
    torch.testing.assert_close(relevance(weights, gradients), expected)


def test_the_product_of_layers_seen_another_way():
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


def test_gradients_are_those_of_the_weights():
    """The attention of a layer nudged by hand changes the score by the gradient."""

    class Nudged(Attention):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            weights = torch.softmax(q @ k.mT * self.scale, -1) + self.nudge
            return self.project((weights @ v).transpose(1, 2).flatten(2))

    model, batch = classifier().double().eval(), images(1).double()
    single = classifier()
    _, gradients = weights_and_gradients(single, images(1), first)
    block = model.encoder.blocks[1].attention
    block.__class__ = Nudged
    for head, query, key in ((0, 0, 3), (1, 0, 0), (1, 5, 16)):
        scores = []
        for step in (1e-5, -1e-5):
            block.nudge = torch.zeros(1, 2, 17, 17, dtype=torch.float64)
            block.nudge[0, head, query, key] = step
            scores.append(float(model(batch)[0, 0].detach()))
        slope = (scores[0] - scores[1]) / 2e-5
        assert float(gradients[0, 1, head, query, key]) == pytest.approx(slope, rel=1e-3, abs=1e-7)


def test_images_do_not_mix_and_targets_are_their_own():
    model, batch = classifier(), images()
    labels = torch.tensor([2, 0, 1])
    together = relevance(*weights_and_gradients(model, batch, lambda out: out[torch.arange(3), labels]))
    for i in range(3):
        alone = relevance(*weights_and_gradients(model, batch[i : i + 1], lambda out, i=i: out[:, labels[i]]))
        torch.testing.assert_close(together[i], alone[0], rtol=1e-4, atol=1e-6)
    other = relevance(*weights_and_gradients(model, batch, first))
    assert not torch.allclose(other[0], together[0], atol=1e-4)


def test_attention_that_the_score_does_not_use_is_the_identity():
    model = classifier()
    for block in model.encoder.blocks:
        block.attention.project.weight.data.zero_()
    found = relevance(*weights_and_gradients(model, images(), first))
    torch.testing.assert_close(found, torch.eye(17).expand(3, -1, -1))


def test_of_frozen_weights_without_gradients_and_in_autocast_it_is_the_same_float32():
    model, batch = classifier(), images()
    expected = weights_and_gradients(model, batch, first)
    model.requires_grad_(False)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = weights_and_gradients(model, batch, first)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert not one.requires_grad
        assert torch.equal(one, other)
        assert one.shape == (3, 3, 2, 17, 17)


def test_the_model_is_left_as_it_was():
    model, batch = classifier().train(), images()
    model.head.eval()
    weights_and_gradients(model, batch, first)
    assert model.encoder.training
    assert not model.head.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [layer.recorder for layer in model.modules() if isinstance(layer, Attention)] == [None] * 3
    assert not batch.requires_grad


def test_a_model_without_attention():
    with pytest.raises(InputError, match="Flatten has no attention"):
        weights_and_gradients(nn.Flatten(), images(), first)
