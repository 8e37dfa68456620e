"""Attention by place is the softmax of the place term, and what the figure shows of it is that of its patches."""

import numpy as np
import pytest
import torch

from vitpipe.explain.place import place, place_weights
from vitpipe.models.vit import ViT

LAYERS = [{"heads": [{"content": (layer + head) % 2, "by_place": head} for head in range(2)]} for layer in range(2)]


def learned(encoder: ViT, seed: int = 0) -> ViT:
    """The encoder with place terms that look trained."""
    random = torch.Generator().manual_seed(seed)
    for block in encoder.blocks:
        block.place.centre.data = torch.randn(2, 2, generator=random)
        block.place.sharpness.data = torch.tensor([-0.3, 0.7])
    return encoder


@pytest.mark.parametrize("prefix", [0, 3])
def test_attention_by_place_is_the_formula(prefix):
    shape = {"size": (6, 8), "patch": 2, "channels": 1, "dim": 8, "depth": 2, "heads": 2}
    tokens = {"class_token": prefix > 0, "registers": max(prefix - 1, 0)}
    encoder = learned(ViT(**shape, **tokens, place=True))
    found = place_weights(encoder)
    logits = np.zeros((2, 2, prefix + 12, prefix + 12))
    for layer, head, query, key in np.ndindex(2, 2, 12, 12):
        term = encoder.blocks[layer].place
        centre, sharpness = (of[head].detach().numpy() for of in (term.centre, term.sharpness))
        missed = np.subtract(divmod(key, 4), divmod(query, 4)) - centre
        logits[layer, head, prefix + query, prefix + key] = -sharpness / 2 * (missed @ missed)
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert not found.requires_grad
    uniform = place_weights(ViT(**shape, **tokens))
    torch.testing.assert_close(uniform, torch.full_like(found, 1 / (prefix + 12)))


@pytest.mark.parametrize("name", ["supersample", "classify"])
def test_the_figure_shows_the_heads_with_the_largest_content(made, test, attention_of, unchanged, name):
    (_, model), (_, untrained) = (made(name, seed, **{"model.place": True}) for seed in (0, 1))
    encoder, prefix = learned(model.encoder), int(name == "classify")
    with unchanged(model):
        found = place(model, untrained, test, LAYERS)
    assert found["shown"].tolist() == [1, 0]
    assert found["by_place"].tolist() == [[0, 1], [0, 1]]
    assert list(found["queries"]) == ["eye", "mouth"]
    (left, top, right, _), size = found["boxes"][1], found["image"].shape[0]
    token = prefix + int(top // (right - left) * 4 + left // (right - left))
    both = {"attention": attention_of(model, test)[0], "alone": place_weights(encoder)}
    for key, weights in both.items():
        for layer, head in enumerate((1, 0)):
            row = weights[layer, head, token, prefix:]
            np.testing.assert_allclose(found[key][1, layer], (row / row.sum()).reshape(4, 4), rtol=1e-4, atol=1e-6)
    assert size == 24
    term, reach = encoder.blocks[1].place, found["window"].shape[-1] // 2
    row, column = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    centre = term.centre[1].detach().numpy()
    window = np.exp(-0.35 * ((row - centre[0]) ** 2 + (column - centre[1]) ** 2))
    np.testing.assert_allclose(found["window"][1, 1], window / window.sum(), rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(found["centre"][1, 1], centre)
    np.testing.assert_array_equal(found["begun"][:, 1], [[0, 1], [0, 1]])
    np.testing.assert_allclose(found["width"], [[np.nan, 3 / 0.7**0.5]] * 2, rtol=1e-5)
    assert place(made(name)[1], untrained, test, LAYERS) == {}
