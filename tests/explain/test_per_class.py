"""Planted differences are found where they are, and nothing is found where there is none."""

import numpy as np
import pytest

from vitpipe.explain.per_class import median, per_class

LABELS = np.arange(90) % 3


def attention(seed: int, images: int = 90, layers: int = 2, patches: int = 9) -> np.ndarray:
    """Skewed and correlated, as attention is; patches of unlike strength."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(images, layers, patches)) + np.linspace(-2, 2, patches)
    weights = np.exp(logits)
    return weights / weights.sum(-1, keepdims=True)


def test_medians_counts_and_differences():
    rows, labels = attention(0), np.repeat([0, 1, 4], [50, 33, 7])
    found = per_class(rows, labels, [4, 0], permutations=10)
    assert found["counts"].tolist() == [7, 50]
    np.testing.assert_allclose(found["all_median"], np.median(rows, axis=0), rtol=1e-5)
    for row, index in enumerate((4, 0)):
        expected = np.median(rows[labels == index], axis=0)
        np.testing.assert_allclose(found["median"][row], expected, rtol=1e-5)
        np.testing.assert_allclose(found["difference"][row], expected - np.median(rows, axis=0), atol=1e-6)
    assert found["p"].shape == (2, 2, 9)
    assert found["p"].min() >= 1 / 11
    for count in (1, 2, 5, 8):
        np.testing.assert_allclose(median(rows[:count, 0]), np.median(rows[:count, 0], axis=0))
    assert found["p"].max() <= 1


def test_chance_is_rarely_called_a_difference():
    """Of 60 analyses of random labels about 3 have any p <= 0.05; more than 9 come up once in 2,000 times.

    Each has 54 differences: without the adjustment nearly all analyses would have one.
    """
    smallest = []
    for seed in range(60):
        labels = np.random.default_rng(1000 + seed).permutation(LABELS)
        smallest.append(per_class(attention(seed), labels, [0, 1, 2], permutations=99, seed=seed)["p"].min())
    assert np.count_nonzero(np.array(smallest) <= 0.05) <= 9
    assert np.median(smallest) == pytest.approx(0.5, abs=0.25)  # and not because nothing ever differs


@pytest.mark.parametrize("patch", [0, 8])  # a weak one and a strong one
def test_a_planted_difference_is_found_there_and_nowhere_else(patch):
    rows = attention(3)
    rows[LABELS == 1, 1, patch] *= 8
    found = per_class(rows, LABELS, [0, 1, 2], permutations=199)
    significant = np.argwhere(found["p"][1] < 0.05)
    assert significant.tolist() == [[1, patch]]
    assert found["p"][1, 1, patch] == pytest.approx(1 / 200)
    assert found["difference"][1, 1, patch] > 0
    np.put(found["p"], np.ravel_multi_index(([0, 1, 2], [1] * 3, [patch] * 3), (3, 2, 9)), 1)
    assert found["p"].min() >= 0.05


def test_less_is_as_much_of_a_difference_as_more():
    rows = attention(3)
    rows[LABELS == 1, 1, 4] *= 8
    more, less = (per_class(values, LABELS, [0, 1], permutations=99) for values in (rows, 1 - rows))
    np.testing.assert_allclose(less["difference"], -more["difference"], atol=1e-6)
    assert less["p"][1, 1, 4] == pytest.approx(0.01)
    np.testing.assert_allclose(less["p"], more["p"], atol=0.02)


def test_shuffles_come_from_the_seed_and_change_no_medians():
    rows = attention(4)
    first, again, other = (per_class(rows, LABELS, [0, 2], permutations=50, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["p"], again["p"])
    assert (first["p"] != other["p"]).any()
    np.testing.assert_array_equal(first["difference"], other["difference"])


def test_what_never_varies_does_not_differ_and_small_classes_keep_their_size():
    """Drawn with replacement, a class of two would be empty in every eighth shuffle and have no median."""
    rows = attention(5)
    rows[:, 0, :] = 1 / 7
    rows[LABELS == 0, 1, 4] *= 5
    found = per_class(rows, LABELS, [0], permutations=99)
    assert (found["p"][:, 0] == 1).all()
    assert found["p"][0, 1, 4] == pytest.approx(0.01)
    found = per_class(attention(6), np.zeros(90, int), [0], permutations=20)  # a single class
    assert not found["difference"].any()
    assert (found["p"] == 1).all()
    assert np.isfinite(per_class(attention(8), np.repeat([0, 1], [88, 2]), [1], permutations=100)["p"]).all()
