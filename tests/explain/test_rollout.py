"""Rollout of attention whose product is known."""

import torch

from vitpipe.explain.rollout import rollout


def attention(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).mul(2).softmax(-1)


def test_layers_are_multiplied_from_the_output_down():
    """Token 1 reads token 0 in layer 1, token 2 reads token 1 in layer 2: so token 2 reads token 0, not else."""
    first, second = torch.eye(3), torch.eye(3)
    first[1], second[2] = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0])
    found = rollout(torch.stack([first, second])[None, :, None])[0]
    torch.testing.assert_close(found, torch.tensor([[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5]]))
    swapped = rollout(torch.stack([second, first])[None, :, None])[0]
    torch.testing.assert_close(swapped[2], torch.tensor([0, 0.5, 0.5]))


def test_one_layer_is_the_mean_of_the_heads_and_the_residual():
    weights = attention(1, 1, 2, 4, 4)
    expected = (weights[0, 0, 0] + weights[0, 0, 1]) / 4 + torch.eye(4) / 2
    torch.testing.assert_close(rollout(weights)[0], expected)


def test_rows_sum_to_one_through_many_layers_even_if_their_sums_were_rounded():
    weights = attention(3, 24, 2, 9, 9)
    found = rollout(weights * 1.01)
    assert found.shape == (3, 9, 9)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(3, 9))


def test_images_do_not_mix():
    weights = attention(3, 4, 2, 5, 5)
    alone = torch.cat([rollout(weights[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(rollout(weights), alone)


def test_attention_to_oneself_alone_leaves_every_token_its_own():
    torch.testing.assert_close(rollout(torch.eye(4).expand(2, 3, 2, 4, 4)), torch.eye(4).expand(2, 4, 4))
