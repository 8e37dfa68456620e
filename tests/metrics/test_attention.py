"""Measures on attention that was planted, so that the right number is known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitpipe.metrics.attention import (
    among_patches,
    distance,
    divergence,
    diversity,
    entropy,
    non_self,
    norm_ratio,
    outliers,
    output_diversity,
    received,
    self_weight,
    uniform_distance,
)

GRID, N = 3, 9
UNIFORM = torch.full((1, 1, 1, N, N), 1 / N)
IDENTITY = torch.eye(N)[None, None, None]


def to_the_right() -> torch.Tensor:
    """Every token looks at its right neighbour, the last of a row at its left one."""
    weights = torch.zeros(1, 1, 1, N, N)
    for token in range(N):
        weights[..., token, token + (1 if token % GRID < GRID - 1 else -1)] = 1
    return weights


@pytest.mark.parametrize(
    ("weights", "own", "spread", "reach"),
    [(UNIFORM, 1 / N, 1.0, None), (IDENTITY, 1.0, 0.0, 0.0), (to_the_right(), 0.0, 0.0, 4.0)],
)
def test_planted_attention_has_known_measures(weights, own, spread, reach):
    """On patches of 4 pixels, so the right neighbour is 4 pixels away."""
    expected = torch.ones(1, 1, 1, N)
    torch.testing.assert_close(self_weight(weights), own * expected)
    torch.testing.assert_close(entropy(weights), spread * expected)
    if reach is None:
        assert float(distance(weights, 4, GRID).mean()) == pytest.approx(uniform_distance(N, 4, GRID))
    else:
        torch.testing.assert_close(distance(weights, 4, GRID), reach * expected)


def test_distance_of_one_look():
    weights = torch.zeros(1, 1, 1, N, N)
    weights[..., 8] = 1  # all look at the lower right corner
    found = distance(weights, 2, GRID)[0, 0, 0]
    assert found[[0, 5, 8]].tolist() == pytest.approx([2 * math.hypot(2, 2), 2, 0])
    weights = torch.zeros(1, 1, 1, 6, 6)
    weights[..., 5] = 1  # 2 rows of 3: the lower right
    assert distance(weights, 1, 3)[0, 0, 0, 0] == pytest.approx(math.hypot(2, 1))
    assert uniform_distance(4, 1, 2) == pytest.approx((0 + 1 + 1 + math.sqrt(2)) / 4)


@given(st.integers(2, 12), st.floats(0.1, 8), st.integers(0, 2**31))
def test_non_self_is_the_softmax_with_its_diagonal_at_minus_infinity(tokens, sharp, seed):
    logits = torch.randn(2, 1, 2, tokens, tokens, generator=torch.Generator().manual_seed(seed)).double() * sharp
    masked = logits.masked_fill(torch.eye(tokens, dtype=torch.bool), -math.inf)
    weights = logits.softmax(-1)
    torch.testing.assert_close(non_self(weights), masked.softmax(-1))
    rest = 1 - self_weight(weights)
    by_definition = weights / rest[..., None] * (1 - torch.eye(tokens).double())
    has_digits = rest > 1e-8  # nearer to one the definition itself is only rounding
    torch.testing.assert_close(non_self(weights)[has_digits], by_definition[has_digits])


def test_non_self_stays_exact_where_the_self_weight_is_nearly_one():
    """In float32, 1 - A_ii has no digits left here; the others' own sum has."""
    logits = torch.zeros(1, 1, 1, 4, 4) + 18 * torch.eye(4)
    logits[..., 0, 1] = math.log(2)
    found = non_self(logits.softmax(-1))[0, 0, 0, 0]
    torch.testing.assert_close(found, torch.tensor([0, 0.5, 0.25, 0.25]))


@given(st.integers(2, 12), st.integers(0, 2**31))
def test_received_is_one_on_average(tokens, seed):
    weights = torch.randn(2, 3, 2, tokens, tokens, generator=torch.Generator().manual_seed(seed)).softmax(-1)
    found = received(weights)
    assert found.shape == (2, 3, 2, tokens)
    torch.testing.assert_close(found.mean(-1), torch.ones(2, 3, 2))


def test_received_counts_looks_not_queries():
    """All look at token 8, which looks at token 0: 8 of 9 rows go to token 8, one to token 0."""
    weights = torch.zeros(1, 1, 1, N, N)
    weights[..., 8] = 1
    weights[..., 8, 8], weights[..., 8, 0] = 0, 1
    found = received(weights)[0, 0, 0]
    torch.testing.assert_close(found, torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0, 8]))


@given(st.integers(3, 12), st.integers(0, 2), st.floats(0.1, 8), st.integers(0, 2**31))
def test_among_patches_is_the_softmax_without_prefix_tokens(tokens, prefix, sharp, seed):
    logits = torch.randn(2, 3, 2, tokens, tokens, generator=torch.Generator().manual_seed(seed)).double() * sharp
    found = among_patches(logits.softmax(-1), prefix)
    torch.testing.assert_close(found, logits[..., prefix:, prefix:].softmax(-1))


def test_rows_with_nothing_left_are_zero():
    assert non_self(IDENTITY).abs().sum() == 0
    weights = torch.zeros(1, 1, 1, 3, 3)
    weights[..., 0] = 1
    assert among_patches(weights, 1).abs().sum() == 0


def layer(*heads: torch.Tensor) -> torch.Tensor:
    return torch.cat(heads, dim=2)


def test_diversity_of_planted_heads():
    assert float(diversity(layer(IDENTITY, IDENTITY))) == 0
    assert float(diversity(layer(UNIFORM, UNIFORM, UNIFORM))) == pytest.approx(0, abs=1e-6)
    assert float(diversity(layer(IDENTITY, to_the_right()))) == pytest.approx(1)
    assert float(diversity(layer(IDENTITY, to_the_right(), IDENTITY))) == pytest.approx(2 / 3)  # one pair is equal
    assert diversity(IDENTITY).isnan().all()
    assert divergence(IDENTITY, to_the_right()).tolist() == torch.ones(1, 1, 1, N).tolist()
    assert not divergence(UNIFORM, UNIFORM).any()


@given(st.integers(2, 5), st.integers(2, 9), st.floats(0.1, 8), st.integers(0, 2**31))
def test_diversity_is_the_mean_divergence_of_pairs(heads, tokens, sharp, seed):
    logits = torch.randn(2, 3, heads, tokens, tokens, generator=torch.Generator().manual_seed(seed)).double() * sharp
    weights = logits.softmax(-1)
    expected = torch.zeros(2, 3).double()
    for first in range(heads):
        for second in range(first):
            p, q = weights[:, :, first], weights[:, :, second]
            middle = (p + q) / 2
            apart = ((p * (p / middle).log()).sum(-1) + (q * (q / middle).log()).sum(-1)) / 2
            expected += apart.mean(-1) / math.log(2)
    torch.testing.assert_close(diversity(weights), expected / (heads * (heads - 1) / 2), atol=1e-9, rtol=1e-6)
    pair = divergence(weights[:, :, :1], weights[:, :, 1:2])
    torch.testing.assert_close(pair.mean(-1)[..., 0], diversity(weights[:, :, :2]), atol=1e-9, rtol=1e-6)


def spread_outputs(heads: int, tokens: int = 40, width: int = 4) -> torch.Tensor:
    return torch.randn(1, 1, heads, tokens, width, generator=torch.Generator().manual_seed(0)).double()


def test_equal_outputs_are_not_diverse_whatever_their_coordinates_and_scale():
    one = spread_outputs(1)
    turn = torch.linalg.qr(spread_outputs(1, 4)[0, 0, 0]).Q
    assert float(output_diversity(torch.cat([one, one], 2))) == pytest.approx(0, abs=1e-9)
    assert float(output_diversity(torch.cat([one, 3 * one @ turn + 5], 2))) == pytest.approx(0, abs=1e-9)


def test_output_diversity_by_the_kernels_of_its_source():
    """Kornblith et al. 2019, equation 4: HSIC of the linear kernels, centred."""
    outputs = spread_outputs(3, tokens=12)
    centre = torch.eye(12).double() - 1 / 12
    kernels = [centre @ x @ x.T @ centre for x in outputs[0, 0]]
    pairs = [(0, 1), (0, 2), (1, 2)]
    cka = [float((kernels[i] * kernels[j]).sum() / (kernels[i].norm() * kernels[j].norm())) for i, j in pairs]
    assert float(output_diversity(outputs)) == pytest.approx(1 - sum(cka) / 3)


def test_heads_that_say_the_same_of_all_tokens():
    still = torch.full((1, 1, 1, 40, 4), 0.3) + torch.rand(4)
    moving = spread_outputs(1).float()
    rounding = still * (1 + 1e-7 * torch.randn(still.shape))
    assert float(output_diversity(torch.cat([still, rounding], 2))) == 0
    assert float(output_diversity(torch.cat([still, moving], 2))) == 1
    assert output_diversity(moving).isnan().all()


def test_tokens_that_stand_out():
    norms = torch.ones(2, 3, 50)
    norms[0, 1, 7] = 10
    norms[:, 2] += 0.3 * torch.rand(2, 50, generator=torch.Generator().manual_seed(0))
    assert outliers(norms).tolist() == pytest.approx([0, 0.01, 0])
    assert norm_ratio(norms)[:2].tolist() == [1, 10]
    torch.testing.assert_close(outliers(7 * norms), outliers(norms))


def test_an_outlier_is_twice_the_median_and_six_deviations_off():
    even = 1 + torch.linspace(-0.01, 0.01, 99)  # median absolute deviation 0.005
    wide = 1 + torch.linspace(-0.9, 0.9, 99)  # 0.45: the cut is 5.0
    for norms, last, found in ((even, 1.9, 0), (even, 2.1, 0.01), (wide, 4.8, 0), (wide, 5.3, 0.01)):
        assert float(outliers(torch.cat([norms, torch.tensor([last])])[None, None])) == pytest.approx(found)
