"""Logistic regression on pixels or on frozen features, baselines that a classifier has to beat."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from vitpipe.data.batches import evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError
from vitpipe.metrics.classification import sample_scores
from vitpipe.progress import progress
from vitpipe.tasks.base import OfFeatures, Predict

MOST_IMAGES = 10_000  # training images at most whose pixels are read
MOST_FEATURES = 50_000  # training images at most whose features are read
LARGEST_SIDE = 32  # pixels on a side at most
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of logistic regression, chosen on the validation images
PROBE_PENALTIES = (*PENALTIES, 10.0, 100.0)  # few images are best told apart by large weights of good features
ITERATIONS = 100
FIT = "at most {} iterations of L-BFGS; C of {} by log loss on validation images"
PROTOCOL = (
    "baseline: multinomial logistic regression on standardised input pixels, averaged to at most "
    f"{LARGEST_SIDE}x{LARGEST_SIDE}, of at most {MOST_IMAGES:,} evenly spaced training images, "
    + FIT.format(ITERATIONS, ", ".join(f"{c:g}" for c in PENALTIES))
)
PROBE_PROTOCOL = (
    "baseline: multinomial logistic regression on standardised features of the pretrained encoder as it is (linear "
    f"probe), pooled as the model's are, of at most {MOST_FEATURES:,} evenly spaced training images as they are, "
    + FIT.format(ITERATIONS, ", ".join(f"{c:g}" for c in PROBE_PENALTIES))
)


def fit(train: PackedDataset, val: PackedDataset, *, grey: bool) -> Predict:
    """Images (b, s, s, 3) uint8 to class probabilities (b, k), by logistic regression; see `PROTOCOL`.

    Args:
        grey: whether it sees the mean of the three channels.

    Raises:
        InputError: the training images are all of one class.
    """

    def pixels(images: np.ndarray) -> np.ndarray:
        small = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        small = F.adaptive_avg_pool2d(small, min(small.shape[-1], LARGEST_SIDE))
        return (small.mean(1) if grey else small).flatten(1).numpy()

    return regression(train, val, "lr", MOST_IMAGES, PENALTIES, pixels)


def probe(train: PackedDataset, val: PackedDataset) -> OfFeatures:
    """Features (b, d) to class probabilities (b, k), by logistic regression; see `PROBE_PROTOCOL`.

    Raises:
        InputError: as `fit` does, or there are no features of these parts.
    """
    return OfFeatures(regression(train, val, "features", MOST_FEATURES, PROBE_PENALTIES, lambda features: features))


def regression(
    train: PackedDataset,
    val: PackedDataset,
    name: str,
    most: int,
    penalties: Sequence[float],
    numbers: Callable[[np.ndarray], np.ndarray],
) -> Predict:
    """Logistic regression on what `numbers` makes of the images `name` of at most `most` training images, (b, d)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    def probabilities(model: LogisticRegression, images: np.ndarray) -> np.ndarray:
        found = np.zeros((len(images), len(train.classes)))
        found[:, model.classes_] = model.predict_proba(scaler.transform(numbers(images)))
        return found

    rows = evenly_spaced(train, most)
    scaler = StandardScaler()
    inputs, labels = scaler.fit_transform(numbers(train.images(name, rows))), train.labels[rows]
    if len(np.unique(labels)) < 2:
        raise InputError(f"{train.classes[labels[0]]!r} is the class of all {len(rows)} training images")
    held_out = val.images(name, evenly_spaced(val, most))
    actual = val.labels[evenly_spaced(val, most)]
    least, best = np.inf, None
    with progress(len(penalties), "logistic regression", "fit") as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for penalty in penalties:
            model = LogisticRegression(C=penalty, max_iter=ITERATIONS).fit(inputs, labels)
            error = sample_scores(actual, probabilities(model, held_out))["loss"].mean()
            if error < least:
                least, best = error, model
            bar.update()
    assert best is not None
    return lambda images: probabilities(best, images)
