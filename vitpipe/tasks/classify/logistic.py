"""Logistic regression on pixels or on frozen features, baselines that a classifier has to beat."""

import warnings
from collections.abc import Callable

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
ITERATIONS = 100
FIT = (
    f"at most {ITERATIONS} iterations of L-BFGS; C of {', '.join(f'{c:g}' for c in PENALTIES)} by log loss on "
    "validation images"
)
PROTOCOL = (
    "baseline: multinomial logistic regression on standardised input pixels, averaged to at most "
    f"{LARGEST_SIDE}x{LARGEST_SIDE}, of at most {MOST_IMAGES:,} evenly spaced training images, {FIT}"
)
PROBE_PROTOCOL = (
    "baseline: multinomial logistic regression on standardised features of the pretrained encoder as it is (linear "
    f"probe), pooled as the model's are, of at most {MOST_FEATURES:,} evenly spaced training images as they are, {FIT}"
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

    return regression(train, val, "lr", MOST_IMAGES, pixels)


def probe(train: PackedDataset, val: PackedDataset) -> OfFeatures:
    """Features (b, d) to class probabilities (b, k), by logistic regression; see `PROBE_PROTOCOL`.

    Raises:
        InputError: as `fit` does, or there are no features of these parts.
    """
    return OfFeatures(regression(train, val, "features", MOST_FEATURES, lambda features: features))


def regression(
    train: PackedDataset, val: PackedDataset, name: str, most: int, numbers: Callable[[np.ndarray], np.ndarray]
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
    with progress(len(PENALTIES), "logistic regression", "fit") as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for penalty in PENALTIES:
            model = LogisticRegression(C=penalty, max_iter=ITERATIONS).fit(inputs, labels)
            error = sample_scores(actual, probabilities(model, held_out))["loss"].mean()
            if error < least:
                least, best = error, model
            bar.update()
    assert best is not None
    return lambda images: probabilities(best, images)
