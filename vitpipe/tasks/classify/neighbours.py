"""The nearest neighbours of an image among the training images, by frozen features: a baseline that learns nothing."""

import numpy as np

from vitpipe.data.batches import SCORED_IMAGES, evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.metrics.classification import sample_scores
from vitpipe.progress import progress
from vitpipe.tasks.base import OfFeatures

MOST_FEATURES = 50_000  # training images at most
NEIGHBOURS = (1, 5, 10, 20)  # k, chosen on the validation images
PROTOCOL = (
    "baseline: shares of the classes among the k training images, of at most "
    f"{MOST_FEATURES:,} evenly spaced ones as they are, whose features of the pretrained encoder as it is, pooled as "
    "the model's are, have the largest cosine similarity; the shares of the classes among all training images count "
    f"as one more neighbour, so that no class is impossible; k of {', '.join(map(str, NEIGHBOURS))} by log loss on "
    "validation images"
)


def fit(train: PackedDataset, val: PackedDataset) -> OfFeatures:
    """Features (b, d) to class probabilities (b, k), by the nearest training images; see `PROTOCOL`.

    Raises:
        InputError: there are no features of these parts.
    """
    rows = evenly_spaced(train, MOST_FEATURES)
    known, labels = unit(train.images("features", rows)), train.labels[rows]
    prior = np.bincount(train.labels, minlength=len(train.classes)) / len(train)
    choices = [k for k in NEIGHBOURS if k <= len(rows)]

    def nearest(features: np.ndarray) -> np.ndarray:
        """Classes of the nearest training images, nearest first: (b, largest k)."""
        similarity = unit(features) @ known.T
        found = np.argpartition(-similarity, choices[-1] - 1, axis=1)[:, : choices[-1]]
        order = np.lexsort((found, -np.take_along_axis(similarity, found, 1)), axis=1)
        classes: np.ndarray = labels[np.take_along_axis(found, order, 1)]
        return classes

    def shares(classes: np.ndarray) -> np.ndarray:
        votes = (classes[:, :, None] == np.arange(len(prior))).sum(1)
        share: np.ndarray = (votes + prior) / (classes.shape[1] + 1)
        return share

    loss = dict.fromkeys(choices, 0.0)
    with progress(len(val), "nearest neighbours", "image") as bar:
        for some in np.array_split(np.arange(len(val)), -(-len(val) // SCORED_IMAGES)):
            classes = nearest(val.images("features", some))
            for k in choices:
                loss[k] += sample_scores(val.labels[some], shares(classes[:, :k]))["loss"].sum()
            bar.update(len(some))
    best = min(choices, key=lambda k: loss[k])  # accuracies on few images are often equal
    return OfFeatures(lambda features: shares(nearest(features)[:, :best]))


def unit(features: np.ndarray) -> np.ndarray:
    """Features (b, d) divided by their length; zeros stay zeros."""
    length = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    scaled: np.ndarray = features / length
    return scaled
