"""How well a map tells what a model used: orders of deletion, areas under curves, intervals, rank correlation.

Shapes: b images, g rows and columns of patches, n patches, t points of a curve, r resamples, m methods, c controls,
k steps of randomisation.
"""

import warnings
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ConstantInputWarning, spearmanr

Values = NDArray[np.floating]
RESAMPLES, LEVEL = 2000, 0.95
ALIKE = 0.5  # rank correlation above which maps of trained and random weights are much the same
NAMES = {
    "raw": "raw attention",
    "rollout": "rollout",
    "relevance": "relevance",
    "gradient": "gradient",
    "gradient_input": "gradient × input",
    "smooth": "SmoothGrad",
    "integrated": "integrated gradients",
    "local": "local attribution",
}
"""Names of the methods, in words."""
CONTROLS = {"random": "random order", "centre": "centre first", "edge": "edge first", "near": "nearest first"}
"""Names of the orders that do not depend on a model, in words."""


def ranks(maps: Values, fixed: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """The place of each patch in the order of a map, most important first: (b, n), 0 to the number of patches - 1.

    Patches of equal importance come in random order, not from the top down.

    Args:
        maps: (b, g, g), higher is more important, finite.
        fixed: (b, n), patches that are left out; their place is n.
        seed: of the order of equals.
    """
    values = maps.reshape(len(maps), -1).astype(np.float64)
    ties = np.random.default_rng(seed).random(values.shape)
    order = np.lexsort((ties, -np.where(fixed, -np.inf, values)), axis=-1)
    places = np.argsort(order, axis=-1)
    return np.where(fixed, values.shape[1], places)


def centre_first(rows: int, columns: int) -> Values:
    """A map (g, g) that is highest in the middle of the image; its negative begins at the edges."""
    return nearest_first(((rows - 1) / 2, (columns - 1) / 2), rows, columns)


def nearest_first(point: tuple[float, float], rows: int, columns: int) -> Values:
    """A map (g, g) that falls with the distance from a point (row, column), in patches."""
    row, column = np.mgrid[:rows, :columns]
    return -np.hypot(row - point[0], column - point[1])


def counts(patches: int, most: int, *, local: bool = False) -> NDArray[np.int64]:
    """The number of patches that are deleted at each point of a curve, from 0 to all: (t,).

    Every number where `most` steps are enough; else about `most` of them, as squares, closer at the start, where
    curves bend.

    Args:
        local: whether a few patches decide, so that a curve bends in its first steps: then from 1 by equal factors.
    """
    if patches <= most:
        return np.arange(patches + 1)
    steps = np.geomspace(1, patches, most) if local else np.linspace(0, 1, most + 1)[1:] ** 2 * patches
    return np.unique([0, *np.round(steps).astype(np.int64)])


def area(curves: Values, at: NDArray[np.int64]) -> Values:
    """Area under curves (..., t) over the share of the patches, by the trapezoid rule: (...), as high as the mean.

    Deletion and insertion of Petsiuk et al. 2018 (RISE, arXiv:1806.07421, section 4.2).
    """
    return np.trapezoid(curves, at / at[-1], axis=-1)


def interval(values: Values, seed: int) -> Values:
    """Mean and ends of its 95 % interval, (3, ...) of values (b, ...), by resampling images with replacement.

    The percentile bootstrap (Efron 1979); it covers the draw of the images, not that of the weights. Values of
    one image stay together, so differences of two methods are paired. With one image both ends are the mean.
    """
    picks = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    share = np.apply_along_axis(np.bincount, 1, picks, minlength=len(values)) / len(values)  # r b
    means = np.tensordot(share, values, axes=1)
    return np.concatenate([values.mean(0)[None], np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)])


def rank_correlation(first: Values, second: Values, fixed: NDArray[np.bool_]) -> Values:
    """Spearman's rank correlation of two maps of each image (b, g, g), -1 to 1: (b,).

    0 where a map is the same everywhere, which agrees with no order.

    Args:
        fixed: (b, n), patches that are left out.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        pairs = zip(first, second, fixed, strict=True)
        found = [spearmanr(one.ravel()[~out], other.ravel()[~out]).statistic for one, other, out in pairs]
    return np.nan_to_num(found)


def summary(measured: Mapping[str, Any], seed: int) -> dict[str, NDArray]:
    """Means and 95 % intervals of what was measured for single images; all but the curves are rounded to four decimals.

    Args:
        measured: methods (m,) and controls (c,), names; counts (t,) of deleted patches; deletion and insertion
            (m + c, b, t), scores of each image; steps (k,), names; correlations (m, k, images of their own).
        seed: of the resamples.

    Returns:
        methods, controls, steps; share (t,) of the patches; deletion and insertion (m + c, 3, t), mean, low and
        high; deletion_area and insertion_area (m + c, 3); deletion_best and insertion_best, the control with the best
        mean; deletion_gain and insertion_gain (m, 3), how much better a method is than that; deletion_over_random and
        insertion_over_random (m, 3); correlations (m, k, 3).
    """
    count, controls, at = len(measured["methods"]), list(measured["controls"]), np.asarray(measured["counts"])
    found = {name: np.array(measured[name]) for name in ("methods", "controls", "steps")} | {"share": at / at[-1]}
    for name, better in (("deletion", -1), ("insertion", 1)):
        scores = np.asarray(measured[name], dtype=np.float64)
        areas = better * area(scores, at)  # o b, more is better
        best = int(areas[count:].mean(1).argmax())
        found[name] = np.stack([interval(of_one, seed) for of_one in scores])
        found[f"{name}_area"] = rounded(interval((better * areas).T, seed).T)
        found[f"{name}_best"] = np.array(controls[best])
        for key, rival in (("gain", best), ("over_random", controls.index("random"))):
            found[f"{name}_{key}"] = rounded(interval((areas[:count] - areas[count + rival]).T, seed).T)
    correlations = np.asarray(measured["correlations"], dtype=np.float64)
    return found | {"correlations": rounded(np.moveaxis(interval(np.moveaxis(correlations, -1, 0), seed), 0, -1))}


def report(found: Mapping[str, NDArray]) -> dict[str, Any]:
    """What `summary` returned, ready for JSON: under each method's and control's name the numbers for DVC's tables,
    and in the lists methods and controls the same with intervals."""
    content: dict[str, Any] = {"methods": [], "controls": []}
    count = len(found["methods"])
    for row, name in enumerate([*found["methods"], *found["controls"]]):
        kind, keys = ("method", ("area", "gain", "over_random")) if row < count else ("control", ("area",))
        entry: dict[str, Any] = {kind: str(name)}
        brief: dict[str, float] = {}
        for curve, key in product(("deletion", "insertion"), keys):
            number = curve if key == "area" else f"{curve}_{key}"
            values = found[f"{curve}_{key}"][row].tolist()
            entry |= dict(zip((number, f"{number}_low", f"{number}_high"), values, strict=True))
            brief |= {} if key == "over_random" else {number: values[0]}
        if row < count:
            entry["randomised"] = [
                dict(zip(("step", "correlation", "low", "high"), (str(step), *values.tolist()), strict=True))
                for step, values in zip(found["steps"], found["correlations"][row], strict=True)
            ]
            brief["randomised"] = entry["randomised"][-1]["correlation"]
        content[f"{kind}s"].append(entry)
        content[str(name)] = brief
    return content | {f"best_control_{curve}": str(found[f"{curve}_best"]) for curve in ("deletion", "insertion")}


def rounded(values: Values) -> Values:
    """Four decimals, the precision of areas and correlations; figure and page read the same rounded numbers."""
    return np.vectorize(lambda value: round(value, 4) + 0.0, [np.float64])(values)  # turns -0.0 into 0.0
