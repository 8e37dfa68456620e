"""Orders, areas, intervals and correlations where the answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitpipe.metrics.faithfulness import (
    area,
    centre_first,
    counts,
    interval,
    nearest_first,
    rank_correlation,
    ranks,
    report,
    summary,
)

FREE = np.zeros((1, 9), bool)


def test_ranks_follow_the_map_and_leave_out_what_is_fixed():
    maps = np.array([[[0.1, 5], [-2, 3]], [[4, 3], [2, 1.0]]])
    fixed = np.array([[0, 1, 0, 0], [0, 0, 0, 0]], bool)
    assert ranks(maps, fixed, seed=0).tolist() == [[1, 4, 2, 0], [0, 1, 2, 3]]


def test_equal_patches_come_in_random_order_after_the_greater_ones():
    maps = np.zeros((400, 3, 3))
    maps[:, 1, 1] = 1
    places = ranks(maps, np.zeros((400, 9), bool), seed=0)
    assert (places[:, 4] == 0).all()
    assert (np.sort(places, 1) == np.arange(9)).all()
    others = places[:, [0, 1, 2, 3, 5, 6, 7, 8]].mean(0)
    assert np.abs(others - 4.5).max() < 0.5  # a place has a standard error of 2.3 / 20
    assert (ranks(maps, np.zeros((400, 9), bool), seed=0) == places).all()


def test_controls_by_distance():
    assert np.unravel_index(centre_first(5, 5).argmax(), (5, 5)) == (2, 2)
    assert centre_first(4, 6)[1, 3] == centre_first(4, 6)[2, 2] == centre_first(4, 6).max()
    assert nearest_first((0, 3), 3, 4)[0].tolist() == [-3, -2, -1, 0]
    assert nearest_first((0, 3), 3, 4)[2, 3] == -2


@given(st.integers(1, 700), st.integers(2, 40), st.booleans())
def test_counts_run_from_none_to_all(patches, most, local):
    found = counts(patches, most, local=local)
    assert [found[0], found[-1]] == [0, patches]
    assert len(found) <= most + 1
    assert (np.diff(found) > 0).all()
    if patches <= most:
        assert len(found) == patches + 1
    assert counts(255, 7).tolist() == [0, 5, 21, 47, 83, 130, 187, 255]
    assert counts(255, 7, local=True).tolist() == [0, 1, 3, 6, 16, 40, 101, 255]


def test_area_of_straight_and_stepped_curves():
    at = np.array([0, 1, 4])
    assert area(np.array([[1, 0.75, 0], [0.5, 0.5, 0.5], [1, 0, 0]]), at).tolist() == [0.5, 0.5, 0.125]


def test_interval_is_that_of_the_mean():
    values = np.random.default_rng(0).normal(3, 2, (400, 2))
    mean, low, high = interval(values, seed=0)
    np.testing.assert_allclose(mean, values.mean(0))
    np.testing.assert_allclose(high - low, 2 * 1.96 * 2 / 20, rtol=0.12)
    assert interval(np.array([[5.0]]), seed=0).ravel().tolist() == [5, 5, 5]


def test_interval_covers_the_mean_as_often_as_it_says():
    """Of 400 samples of 60 numbers, nearly 95 % of the intervals hold the true mean."""
    _, low, high = interval(np.random.default_rng(0).normal(2, 1, (60, 400)), seed=0)
    assert 0.91 < np.mean((low <= 2) & (high >= 2)) < 0.98


def test_intervals_of_differences_are_paired():
    """Two methods differ by the same in all images, however much the images differ: no doubt about it."""
    base = np.random.default_rng(0).random((1, 30, 1)) * 0.5
    curves = np.concatenate([base, base + 0.1, base + 0.2]).repeat(3, 2)
    found = summary(measured(deletion=curves, insertion=curves), seed=0)
    np.testing.assert_allclose(found["deletion_gain"], [[0.1, 0.1, 0.1]])
    np.testing.assert_allclose(found["deletion_over_random"], [[0.2, 0.2, 0.2]])
    np.testing.assert_allclose(found["insertion_gain"], [[-0.2, -0.2, -0.2]])
    assert (str(found["deletion_best"]), str(found["insertion_best"])) == ("centre", "random")
    assert found["deletion_area"][0, 1] < base.mean() - 0.02


def measured(**changes) -> dict:
    curves = np.random.default_rng(1).random((3, 4, 3))
    correlations = np.array([[[1.0, 0.5], [0.2, -0.2]]])
    made = {"methods": ["raw"], "controls": ["centre", "random"], "counts": np.array([0, 1, 2])}
    return (
        made
        | {"deletion": curves, "insertion": curves, "steps": ["head", "block 1"]}
        | {"correlations": correlations}
        | changes
    )


def test_what_rounds_to_zero_is_zero_in_summary_and_report():
    """A figure that reads the one and a page that reads the other come to the same verdict."""
    curves = np.full((3, 4, 3), 0.5)
    curves[0] -= 4e-5
    found = summary(measured(deletion=curves, correlations=np.full((1, 2, 4), 0.50004)), seed=0)
    assert found["deletion_gain"].tolist() == [[0, 0, 0]]
    assert found["correlations"][0, -1].tolist() == [0.5, 0.5, 0.5]
    entry = report(found)["methods"][0]
    assert [entry[f"deletion_gain{end}"] for end in ("", "_low", "_high")] == found["deletion_gain"][0].tolist()
    assert entry["randomised"][-1]["correlation"] == found["correlations"][0, -1, 0]


def test_report_says_what_the_summary_holds():
    found = summary(measured(), seed=0)
    content = report(found)
    assert content["raw"] == {
        "deletion": content["methods"][0]["deletion"],
        "deletion_gain": content["methods"][0]["deletion_gain"],
        "insertion": content["methods"][0]["insertion"],
        "insertion_gain": content["methods"][0]["insertion_gain"],
        "randomised": 0.0,
    }
    entry = content["methods"][0]
    assert entry["method"] == "raw"
    assert [entry[f"deletion{end}"] for end in ("", "_low", "_high")] == found["deletion_area"][0].round(4).tolist()
    assert entry["insertion_over_random_low"] == round(found["insertion_over_random"][0, 1], 4)
    assert entry["randomised"][0] == {"step": "head", "correlation": 0.75, "low": 0.5, "high": 1.0}
    assert [control["control"] for control in content["controls"]] == ["centre", "random"]
    assert content["random"] == {key: content["controls"][1][key] for key in ("deletion", "insertion")}
    gain = content[content["best_control_deletion"]]["deletion"] - content["raw"]["deletion"]
    assert content["raw"]["deletion_gain"] == pytest.approx(gain, abs=2e-4)


def test_rank_correlation_leaves_out_what_is_fixed():
    first, second = np.arange(8.0).reshape(2, 2, 2), np.array([[[0, 1], [2, -9]], [[5, 4], [-9, 3.0]]])
    fixed = np.array([[False, False, False, True], [False, False, True, False]])
    np.testing.assert_allclose(rank_correlation(first, second, fixed), [1, -1])
    assert (rank_correlation(first, second, np.zeros_like(fixed)) < 1).all()


def test_rank_correlation_of_the_same_the_opposite_and_nothing():
    ramp = np.arange(9.0).reshape(1, 3, 3)
    assert rank_correlation(ramp, np.exp(ramp), FREE) == pytest.approx(1)
    assert rank_correlation(ramp, -ramp, FREE) == pytest.approx(-1)
    assert rank_correlation(ramp, np.zeros((1, 3, 3)), FREE) == 0
