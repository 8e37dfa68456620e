"""Means over seeds with their intervals. A seed is the unit: it draws its own data, split, weights and order."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import t as student

LEVEL = 0.95
ESTIMATE = ["n", "mean", "low", "high"]


def interval(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Mean of a few independent values and its 95 % interval by Student's t (Student 1908, Biometrika 6:1).

    Returns:
        n, values that are not nan; mean, nan of none; low and high, nan of fewer than two.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    n, mean = len(known), float(known.mean()) if len(known) else np.nan
    half = student.ppf((1 + LEVEL) / 2, n - 1) * known.std(ddof=1) / n**0.5 if n > 1 else np.nan
    return {"n": n, "mean": mean, "low": mean - half, "high": mean + half}


def cells(runs: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """The interval of each measure over the seeds, for each patch and number of heads.

    Args:
        runs: a row for each run with patch, heads, seed and the measures.

    Returns:
        Columns measure, patch, heads, n, mean, low, high.
    """
    rows = [
        {"measure": measure, "patch": patch, "heads": heads} | interval(group[measure])
        for measure in measures
        for (patch, heads), group in runs.groupby(["patch", "heads"])
    ]
    return pd.DataFrame(rows, columns=["measure", "patch", "heads", *ESTIMATE])


def differences(runs: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """Largest minus smallest patch, paired: at equal heads and seed, then the interval over the seeds.

    Returns:
        Columns measure, heads, n, mean, low, high: a row for each number of heads and one with heads "all", where a
        seed counts once, with its mean over all numbers of heads. Pairs of which one is missing are left out; a seed
        with such a pair is no part of "all". Empty with one patch only.
    """
    small, large = runs.patch.min(), runs.patch.max()
    rows = []
    if small < large:
        for measure in measures:
            table = runs.pivot(index=["seed", "heads"], columns="patch", values=measure)
            pairs = (table[large] - table[small]).unstack("heads")  # seed by heads
            rows += [{"measure": measure, "heads": heads} | interval(pairs[heads]) for heads in pairs.columns]
            rows.append({"measure": measure, "heads": "all"} | interval(pairs.mean(axis=1, skipna=False)))
    return pd.DataFrame(rows, columns=["measure", "heads", *ESTIMATE])


def slopes(runs: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """Change with each doubling of the heads: a least-squares line over log2(heads) for each patch and seed, then the
    interval over the seeds (summary measures, Matthews et al. 1990, BMJ 300:230).

    Returns:
        Columns measure, patch, n, mean, low, high. A seed with a run missing is left out.
    """
    rows = []
    for measure in measures:
        for patch, group in runs.groupby("patch"):
            table = group.pivot(index="heads", columns="seed", values=measure)  # heads by seed
            if len(table) > 1:
                doublings = np.log2(table.index.to_numpy(dtype=np.float64))
                centred = doublings - doublings.mean()
                each = centred @ table.to_numpy(dtype=np.float64) / (centred @ centred)  # nan where one is missing
                rows.append({"measure": measure, "patch": patch} | interval(each))
    return pd.DataFrame(rows, columns=["measure", "patch", *ESTIMATE])
