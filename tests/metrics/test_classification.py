"""Classification measures against scikit-learn, scipy and cases computed by hand."""

import json
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics

from vitpipe.metrics.classification import EPSILON, PROTOCOL, calibration_error, classification, sample_scores

KEYS = ["accuracy", "accuracy_low", "accuracy_high"]
KEYS += ["balanced_accuracy", "balanced_accuracy_low", "balanced_accuracy_high"]
KEYS += ["macro_f1", "log_loss", "calibration_error", "images", "per_class", "confusion"]


def names(count: int) -> list[str]:
    return [f"class {i}" for i in range(count)]


def one_hot(predicted, count: int) -> np.ndarray:
    return np.eye(count)[np.asarray(predicted)]


@st.composite
def cases(draw):
    """Labels and probabilities of 1 to 40 images and 2 to 6 classes, some of which may not occur."""
    n, count = draw(st.integers(1, 40)), draw(st.integers(2, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = random.integers(0, draw(st.integers(1, count)), n)
    return labels, random.dirichlet(np.full(count, draw(st.sampled_from([0.05, 0.5, 5.0]))), n)


@pytest.fixture(scope="module")
def many() -> tuple[np.ndarray, np.ndarray]:
    """500 images of 4 unevenly frequent classes, right more often than not."""
    random = np.random.default_rng(0)
    labels = random.choice(4, 500, p=[0.6, 0.2, 0.15, 0.05])
    logits = random.normal(0, 1.5, (500, 4)) + 2 * one_hot(labels, 4)
    return labels, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_agrees_with_scikit_learn(many):
    labels, probabilities = many
    predicted = probabilities.argmax(1)
    result = classification(labels, probabilities, names(4))
    interval = binomtest(int((predicted == labels).sum()), 500).proportion_ci(method="wilson")
    expected = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted),
        "macro_f1": metrics.f1_score(labels, predicted, average="macro"),
        "log_loss": metrics.log_loss(labels, probabilities),
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    report = metrics.classification_report(labels, predicted, target_names=names(4), output_dict=True)
    for row in result["per_class"]:
        of_class = report[row["class"]]
        assert row["images"] == of_class["support"]
        assert [row["precision"], row["recall"], row["f1"]] == pytest.approx(
            [of_class["precision"], of_class["recall"], of_class["f1-score"]], rel=1e-5
        )


def test_values_by_hand():
    labels = np.array([0, 0, 0, 1])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    result = classification(labels, probabilities, ["cat", "dog"])
    assert list(result) == KEYS
    assert result["confusion"] == [[2, 1], [0, 1]]
    assert result["per_class"] == [
        {"class": "cat", "images": 3, "predicted": 2, "precision": 1.0, "recall": 0.666667, "f1": 0.8},
        {"class": "dog", "images": 1, "predicted": 2, "precision": 0.5, "recall": 1.0, "f1": 0.666667},
    ]
    assert result["accuracy"] == 0.75
    assert result["balanced_accuracy"] == 0.833333
    assert result["macro_f1"] == 0.733333
    assert result["log_loss"] == pytest.approx(-math.log(0.9 * 0.8 * 0.3 * 0.6) / 4, rel=1e-5)
    # four bins with an image each: right at 0.9, 0.8 and 0.6, wrong at 0.7
    assert result["calibration_error"] == pytest.approx((0.1 + 0.2 + 0.7 + 0.4) / 4)
    assert result["images"] == 4


def test_scores_of_each_image():
    scores = sample_scores(np.array([2, 0, 1]), np.array([[0.5, 0.25, 0.25], [0.4, 0.4, 0.2], [0.0, 0.0, 1.0]]))
    assert scores["predicted"].tolist() == [0, 0, 2]  # the first of equals
    assert scores["probability"].tolist() == [0.5, 0.4, 1.0]
    assert scores["probability_actual"].tolist() == [0.25, 0.4, 0.0]
    assert scores["loss"] == pytest.approx([math.log(4), -math.log(0.4), -math.log(EPSILON)])


@settings(deadline=None, max_examples=40)
@given(cases())
def test_holds_for_any_probabilities(case):
    labels, probabilities = case
    count = probabilities.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # absent classes must not warn
        result = classification(labels, probabilities, names(count))
    json.dumps(result, allow_nan=False)
    confusion = np.array(result["confusion"])
    assert confusion.shape == (count, count)
    assert confusion.sum() == result["images"] == len(labels)
    assert confusion.sum(1).tolist() == [row["images"] for row in result["per_class"]]
    assert confusion.sum(0).tolist() == [row["predicted"] for row in result["per_class"]]
    assert result["accuracy"] == pytest.approx(np.trace(confusion) / len(labels), rel=1e-5)
    assert 0 <= result["accuracy_low"] <= result["accuracy"] <= result["accuracy_high"] <= 1
    assert 0 <= result["balanced_accuracy_low"] <= result["balanced_accuracy_high"] <= 1
    assert 0 <= result["calibration_error"] <= 1
    scores = sample_scores(labels, probabilities)
    assert result["log_loss"] == pytest.approx(scores["loss"].mean(), rel=1e-5)
    assert (scores["loss"] >= 0).all()
    assert np.array_equal(scores["probability"], probabilities.max(1))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_perfect_predictions(labels):
    result = classification(np.array(labels), one_hot(labels, 4), names(4))  # also where classes do not occur
    bootstrapped = ("balanced_accuracy_low", "balanced_accuracy_high")  # also of draws that lack a class
    for key in ("accuracy", "accuracy_high", "balanced_accuracy", *bootstrapped, "macro_f1"):
        assert result[key] == 1
    assert result["log_loss"] == result["calibration_error"] == 0
    loss = sample_scores(np.array(labels), one_hot(labels, 4))["loss"]
    assert not np.signbit(loss).any()  # a loss of "-0.000" would look wrong in a figure
    for row in result["per_class"]:
        assert row["precision"] == row["recall"] == row["f1"] == (row["images"] > 0)


def reference_calibration_error(correct, confidence, bins: int = 15) -> float:
    """Straight from the definition: bins open below, closed above."""
    total = 0.0
    for m in range(bins):
        inside = [i for i, p in enumerate(confidence) if m / bins < p <= (m + 1) / bins]
        if inside:
            gap = sum(correct[i] for i in inside) / len(inside) - sum(confidence[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(gap)
    return total


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 1)), min_size=1, max_size=60))
def test_calibration_error_is_its_definition(pairs):
    # not at the edges, where the two ways of computing a bin may round to different sides
    pairs = [(right, p) for right, p in pairs if abs(p * 15 - round(p * 15)) > 1e-9] or [(True, 0.9)]
    correct, confidence = (np.array(column) for column in zip(*pairs, strict=True))
    assert calibration_error(correct, confidence) == pytest.approx(reference_calibration_error(correct, confidence))


def test_calibration_bins_are_fifteenths():
    """Gaps of opposite sign cancel inside a bin only: 13/15 is 0.867."""
    correct = np.array([True, False])
    assert calibration_error(correct, np.array([0.86, 0.87])) == pytest.approx((0.14 + 0.87) / 2)  # two bins
    assert calibration_error(correct, np.array([14 / 15, 1.0])) == pytest.approx((1 / 15 + 1) / 2)  # closed above


def test_absent_classes_count_by_convention():
    """Class 2 has no image but is predicted, class 3 has neither, class 1 is never predicted."""
    labels = np.array([0, 0, 0, 1])
    result = classification(labels, one_hot([0, 0, 2, 0], 4), names(4))
    assert [row["precision"] for row in result["per_class"]] == [0.666667, 0, 0, 0]
    assert [row["recall"] for row in result["per_class"]] == [0.666667, 0, 0, 0]
    assert [row["f1"] for row in result["per_class"]] == [0.666667, 0, 0, 0]
    assert result["balanced_accuracy"] == 0.333333  # of the classes 0 and 1
    assert result["macro_f1"] == 0.222222  # of the classes 0, 1 and 2
    assert result["confusion"] == [[2, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_rounding_of_float32_is_no_probability_above_one():
    scores = sample_scores(np.array([0]), np.array([[1.0000001, 0.0]], np.float32))
    assert scores["probability"] == scores["probability_actual"] == 1
    assert scores["loss"] == 0


ENDS = ["accuracy_low", "accuracy_high", "balanced_accuracy_low", "balanced_accuracy_high"]


def ends(labels, probabilities, persons=None) -> list[float]:
    result = classification(labels, probabilities, names(probabilities.shape[1]), persons)
    return [result[name] for name in ENDS]


def resampled(labels, predicted, persons) -> list[float]:
    """Ends of both intervals, from drawing persons one by one."""
    random, found = np.random.default_rng(1), []
    rows = [np.flatnonzero(persons == person) for person in np.unique(persons)]
    for _ in range(1000):
        drawn = np.concatenate([rows[i] for i in random.integers(0, len(rows), len(rows))])
        right = predicted[drawn] == labels[drawn]
        found.append([right.mean(), np.mean([right[labels[drawn] == c].mean() for c in np.unique(labels[drawn])])])
    return np.quantile(found, [0.025, 0.975], axis=0).T.ravel().tolist()


@pytest.mark.parametrize("people", [500, 40])
def test_intervals_are_those_of_persons_drawn_with_replacement(many, people):
    """Every third person is always told right: with few people that makes wide intervals."""
    labels, probabilities = many
    persons = np.arange(500) % people
    probabilities = np.where((persons % 3 == 0)[:, None], one_hot(labels, 4), probabilities)
    expected = resampled(labels, probabilities.argmax(1), persons)
    assert ends(labels, probabilities, persons) == pytest.approx(expected, abs=0.008)
    if people == 500:  # each image another person: as if nobody were known
        assert ends(labels, probabilities) == pytest.approx(expected, abs=0.008)


def test_more_pictures_of_the_same_people_make_no_interval_narrower(many):
    alone = ends(*many, np.arange(500))
    labels, probabilities = (np.repeat(array, 4, axis=0) for array in many)
    persons = np.repeat(np.arange(500), 4)
    assert ends(labels, probabilities, persons) == alone
    unaware = ends(labels, probabilities)
    assert all(unaware[i + 1] - unaware[i] < 0.6 * (alone[i + 1] - alone[i]) for i in (0, 2))
    order = np.random.default_rng(0).permutation(2000)
    assert ends(labels[order], probabilities[order], persons[order] + 7) == alone  # names and order do not matter


def test_persons_are_counted_where_there_are_several(many):
    assert classification(*many, names(4), np.arange(500) % 40)["persons"] == 40
    alone = classification(*many, names(4), np.full(500, 3))  # one person tells nothing of others
    assert alone == classification(*many, names(4))
    assert "persons" not in alone


def test_protocol_names_every_measure(many):
    assert set(classification(*many, names(4), np.arange(500))) <= set(PROTOCOL)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], np.full((3, 2), 0.5), r"\(2,\).*\(3, 2\)"),
        ([[0], [1]], np.full((2, 2), 0.5), r"\(2, 1\)"),
        ([0, 1], np.full(2, 0.5), "must have one column"),
        ([0, 1], np.full((2, 3), 1 / 3), "one column for each of 2 classes"),
        (np.zeros(0, int), np.zeros((0, 2)), "n > 0"),
        ([0.0, 1.0], np.full((2, 2), 0.5), "float64 must be integers"),
        ([0, 2], np.full((2, 2), 0.5), r"0\.\.2 must lie in 0\.\.1"),
        ([-1, 1], np.full((2, 2), 0.5), r"-1\.\.1 must lie"),
        ([0, 1], np.array([[0.5, 0.5], [0.5, 0.4]]), r"not to 0\.9\.\.1$"),
        ([0, 1], np.array([[0.5, 0.5], [1.5, -0.5]]), "must not be negative"),
        ([0, 1], np.array([[0.5, 0.5], [np.nan, 1]]), "rows sum to one"),
    ],
)
def test_wrong_arrays_are_refused(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        classification(np.asarray(labels), probabilities, names(2))


def test_needs_no_torch():
    code = "import sys, vitpipe.metrics.classification; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
