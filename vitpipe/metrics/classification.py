"""How well predicted class probabilities fit the labels.

`PROTOCOL` says how each number is measured. It is written with the numbers, inside a list, as the tables per class are,
because DVC leaves lists out of its tables of metrics.

Shapes: n images, c classes, r resamples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

Labels = NDArray[np.integer]
Values = NDArray[np.floating]

EPSILON = 1e-15
BINS = 15
CONFIDENCE = 0.95
RESAMPLES, SEED = 2000, 0

PROTOCOL = {
    "predicted": "the class with the largest probability, the first of equals",
    "accuracy": "share of the images whose predicted class is the actual one",
    "accuracy_low": f"lower end of the {100 * CONFIDENCE:g} % Wilson score interval (1927) of the accuracy; where "
    "there is a number of persons, that of the bootstrap over persons, as for the balanced accuracy",
    "accuracy_high": "upper end of the same interval; it covers the draw of the test images (or persons), not that of "
    "the weights",
    "balanced_accuracy": "mean recall of the classes that occur among the images",
    "balanced_accuracy_low": f"lower end of its {100 * CONFIDENCE:g} % interval by the percentile bootstrap (Efron "
    f"1979), {RESAMPLES:,} draws with seed {SEED}: of images, or where there is a number of persons, of persons with "
    "all their images; classes that a draw lacks are left out of its mean",
    "balanced_accuracy_high": "upper end of the same interval; a bootstrap that meets no error has no width",
    "macro_f1": "mean F1 of the classes that occur or are predicted",
    "log_loss": f"mean of -ln(probability of the actual class), which counts as {EPSILON:g} where it is less",
    "calibration_error": "expected calibration error (Guo et al. 2017, arXiv:1706.04599): |accuracy - mean probability "
    f"of the predicted class| in each of {BINS} bins of that probability, equally wide over (0, 1], "
    "averaged with the number of images as weight",
    "images": "number of images scored",
    "persons": "number of people in them, where two or more are known",
    "per_class": "precision, recall and F1 of each class, 0 where undefined (never predicted, or without images)",
    "confusion": "number of images; row: actual class, column: predicted class, in the order of per_class",
}


def classification(
    labels: Labels, probabilities: Values, classes: Sequence[str], persons: NDArray[np.integer] | None = None
) -> dict[str, Any]:
    """Every measure of `PROTOCOL`, floats rounded to six significant digits, never NaN.

    Args:
        labels: (n,) index of the actual class in 0..c-1; not every class needs to occur.
        probabilities: (n, c), each row sums to one.
        classes: the c names, in the order of the columns.
        persons: (n,) who is in each image, in 0..; images of one person are no independent draws, so intervals are
            then over persons. None, or a single one: every image stands for itself.

    Returns:
        accuracy, balanced_accuracy, each with _low and _high, macro_f1, calibration_error in [0, 1]; log_loss in nats;
        images; persons, where there are two or more; per_class, a dict of each class: class, images, predicted (both
        counts), precision, recall, f1; confusion, (c, c) nested lists of counts that sum to n. Ready for JSON.
    """
    if probabilities.shape[1:] != (len(classes),):
        raise ValueError(f"probabilities {probabilities.shape} must have one column for each of {len(classes)} classes")
    samples, indices = sample_scores(labels, probabilities), range(len(classes))
    predicted = samples["predicted"]
    counts = confusion_matrix(labels, predicted, labels=indices)
    found = precision_recall_fscore_support(labels, predicted, labels=indices, zero_division=0)
    precision, recall, f1, images = found
    correct = int(counts.trace())
    people = 0 if persons is None else len(np.unique(persons))
    clusters = persons if people > 1 else None
    (low, high), balanced = intervals(labels, predicted == labels, len(classes), clusters)
    if clusters is None:
        low, high = binomtest(correct, len(labels)).proportion_ci(CONFIDENCE, "wilson")
    return {
        "accuracy": rounded(correct / len(labels)),
        "accuracy_low": rounded(low),
        "accuracy_high": rounded(high),
        "balanced_accuracy": rounded(recall[images > 0].mean()),  # scikit-learn's own warns about absent classes
        "balanced_accuracy_low": rounded(balanced[0]),
        "balanced_accuracy_high": rounded(balanced[1]),
        "macro_f1": rounded(f1_score(labels, predicted, average="macro", zero_division=0)),
        "log_loss": rounded(samples["loss"].mean()),
        "calibration_error": rounded(calibration_error(predicted == labels, samples["probability"])),
        "images": len(labels),
        **({"persons": people} if clusters is not None else {}),
        "per_class": [
            {
                "class": name,
                "images": int(images[i]),
                "predicted": int(counts[:, i].sum()),
                "precision": rounded(precision[i]),
                "recall": rounded(recall[i]),
                "f1": rounded(f1[i]),
            }
            for i, name in enumerate(classes)
        ],
        "confusion": counts.tolist(),
    }


def sample_scores(labels: Labels, probabilities: Values) -> dict[str, NDArray]:
    """The prediction for each image, and how well it fits.

    Args:
        labels: (n,) index of the actual class in 0..c-1.
        probabilities: (n, c), each row sums to one.

    Returns:
        predicted: (n,) int64, the class with the largest probability, the first of equals.
        probability, probability_actual: (n,) float64 in [0, 1], of the predicted and of the actual class.
        loss: (n,) float64, -ln of `probability_actual` clipped to [EPSILON, 1], so finite and never negative.
    """
    check(labels, probabilities)
    rows = np.arange(len(labels))
    exact = probabilities.astype(np.float64).clip(0, 1)  # a row of float32 may pass one by its rounding
    predicted = exact.argmax(1)
    actual = exact[rows, labels]
    return {
        "predicted": predicted,
        "probability": exact[rows, predicted],
        "probability_actual": actual,
        "loss": -np.log(np.maximum(actual, EPSILON)) + 0.0,  # turns -0.0 into 0.0
    }


def check(labels: Labels, probabilities: Values) -> None:
    """Raises ValueError where labels or probabilities are not what `sample_scores` documents."""
    shapes = f"labels {labels.shape} and probabilities {probabilities.shape}"
    if labels.ndim != 1 or len(labels) == 0 or probabilities.ndim != 2 or len(probabilities) != len(labels):
        raise ValueError(f"{shapes} must be (n,) and (n, c), n > 0")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels {labels.dtype} must be integers")
    last = probabilities.shape[1] - 1
    if labels.min() < 0 or labels.max() > last:
        raise ValueError(f"labels {labels.min()}..{labels.max()} must lie in 0..{last}")
    totals = probabilities.sum(1, dtype=np.float64)
    if not ((probabilities >= 0).all() and (abs(totals - 1) < 1e-3).all()):  # NaN fails both
        found = f"{totals.min():g}..{totals.max():g}"
        raise ValueError(f"probabilities must not be negative, and rows sum to one, not to {found}")


def calibration_error(correct: NDArray[np.bool_], confidence: Values) -> float:
    """Expected calibration error in [0, 1], of (n,) outcomes and the (n,) probabilities given to them.

    C. Guo et al., "On calibration of modern neural networks", 2017, arXiv:1706.04599, equation 3: bin m of
    M holds the confidences in ((m - 1) / M, m / M].
    """
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    # a bin's weight times its gap: (images / n) * |sum of correct - sum of confidence| / images
    gaps = np.bincount(bins, weights=correct - confidence, minlength=BINS)
    return float(abs(gaps).sum() / len(confidence))


def intervals(
    labels: Labels, correct: NDArray[np.bool_], classes: int, clusters: NDArray[np.integer] | None = None
) -> Values:
    """Ends of the 95 % intervals of accuracy and balanced accuracy, (2, 2), by the percentile bootstrap of `PROTOCOL`.

    A resample draws as many clusters as there are, with replacement, and takes all images of each (Field and Welsh
    2007, "Bootstrapping clustered data").

    Args:
        labels: (n,) class of each image in 0..classes-1.
        correct: (n,) whether it was predicted.
        clusters: (n,) the cluster of each image, in 0..; None where each image is one.
    """
    cells = 2 * labels + correct  # all that both measures need of an image
    if clusters is None:
        kinds, times = np.eye(2 * classes), np.bincount(cells, minlength=2 * classes)
    else:
        names, codes = np.unique(clusters, return_inverse=True)
        tables = np.zeros((len(names), 2 * classes))
        np.add.at(tables, (codes, cells), 1)
        kinds, times = np.unique(tables, axis=0, return_counts=True)  # equal clusters are drawn together
    drawn = np.random.default_rng(SEED).multinomial(times.sum(), times / times.sum(), RESAMPLES) @ kinds
    wrong, right = drawn.reshape(RESAMPLES, classes, 2).transpose(2, 0, 1)  # r c
    images = wrong + right
    recall = np.divide(right, images, out=np.zeros(images.shape), where=images > 0)
    found = np.stack([right.sum(1) / images.sum(1), recall.sum(1) / (images > 0).sum(1)])
    return np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=1).T


def rounded(value: float) -> float:
    """Six significant digits: the last bits, in which machines differ, stay out of the JSON."""
    return float(f"{value:.6g}")
