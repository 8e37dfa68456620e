"""Whether the images of a class are looked at in other places than all images.

Legend of the shapes: m images, l layers, n patches, k chosen classes, r permutations.
"""

from collections.abc import Sequence

import numpy as np

from vitpipe.errors import InputError


def per_class(
    rows: np.ndarray, labels: np.ndarray, chosen: Sequence[int], permutations: int = 1000, seed: int = 0
) -> dict[str, np.ndarray]:
    """Median attention of classes, how it differs from that of all images, and which differences are more than chance.

    A permutation test: labels are shuffled over the images, so class sizes stay. A difference is divided by
    its standard deviation over the shuffles (the true labels are one of them), since patches vary unlike, and
    compared with the largest one anywhere in each shuffle: the single-step max-T procedure (Westfall & Young
    1993, Resampling-Based Multiple Testing, section 2.3). So p is adjusted for the number of patches, layers and chosen
    classes: without any true difference, one p <= 0.05 or more comes up in 5 % of analyses.
    p = (1 + #{shuffles with a maximum at least as large}) / (1 + permutations) (Phipson & Smyth 2010,
    arXiv:1603.05766), which is never 0.

    Args:
        rows: attention to the patches (m, l, n), mean over heads, as `vitpipe.explain.class_token.query_row` gives.
        labels: class index of each image (m,).
        chosen: the k class indices to compare.
        permutations: r, how often labels are shuffled.
        seed: of the shuffles.

    Returns:
        median (k, l, n) over the images of a class, all_median (l, n) over all images, difference (k, l, n)
        of the two, in units of `rows`; p (k, l, n); counts (k,), images of each class.

    Raises:
        InputError: a chosen class has fewer than two images.
    """
    assert len(rows) == len(labels), f"{len(rows)} rows for {len(labels)} labels"
    counts = np.array([np.count_nonzero(labels == index) for index in chosen])
    for index, count in zip(chosen, counts, strict=True):
        if count < 2:
            raise InputError(
                f"attention per class: class {index} has {count} of the {len(labels)} images, at least 2 are needed"
            )
    values = np.ascontiguousarray(rows.reshape(len(rows), -1), dtype=np.float32)  # m l*n
    random = np.random.default_rng(seed)
    every = median(values)
    shuffles = [labels, *(random.permutation(labels) for _ in range(permutations))]
    medians = np.array([[median(values[labels == index]) for index in chosen] for labels in shuffles])  # 1+r k l*n
    differences = medians - every
    p = adjusted(differences)

    shape = (len(chosen), *rows.shape[1:])
    return {
        "median": medians[0].reshape(shape),
        "all_median": every.reshape(rows.shape[1:]),
        "difference": differences[0].reshape(shape),
        "p": p.reshape(shape),
        "counts": counts,
    }


def adjusted(differences: np.ndarray) -> np.ndarray:
    """p values (k, l*n) of the first of 1 + r differences (1 + r, k, l*n), the others those of shuffled labels."""
    size = np.abs(differences)
    deviation = differences.std(0)
    varies = deviation > 1e-6 * size.max(0)  # else it is rounding, and nothing to be surprised at
    scaled = np.divide(size, deviation, out=np.zeros_like(size), where=varies)
    largest = np.sort(scaled[1:].max((1, 2)))  # r
    as_large = len(largest) - np.searchsorted(largest, scaled[0], side="left")
    return (1 + as_large) / (1 + len(largest))


def median(values: np.ndarray) -> np.ndarray:
    """Median over the first axis; for a matrix of this shape several times as fast as numpy's."""
    ordered = np.sort(values, axis=0)
    return (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2
