"""From the label columns of a data set to the classes that a classifier tells apart.

The column `label` holds the class of each image. Any other column is an attribute: 1 has it, -1 has it not,
0 is unknown; its classes are "not NAME" and "NAME".
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from vitpipe.config import nearest
from vitpipe.errors import InputError

Counts = Mapping[str, Mapping[str, int]]
"""Images of each class by label column; the class "" stands for images without."""


def named(table: pd.DataFrame, column: str) -> pd.Series:
    """The class of every image by name, "" where it has none."""
    values = table[column]
    if column == "label":
        return values.fillna("").astype(str)
    return values.map({1: column, -1: f"not {column}"}).fillna("")


def label_counts(values: Mapping[str, Mapping[Any, int]]) -> dict[str, dict[str, int]]:
    """Images of each class, by label column: what the manifest of a packed part keeps.

    Args:
        values: by label column, how often each value occurs.
    """
    counts: dict[str, Counter[str]] = {name: Counter() for name in values}
    for name, found in values.items():
        names = named(pd.DataFrame({name: list(found)}, dtype=object), name)
        for of, count in zip(names, found.values(), strict=True):
            counts[name][of] += count
    return {name: dict(sorted(found.items())) for name, found in counts.items()}


def classes(counts: Mapping[str, Counts], target: str) -> tuple[str, ...]:
    """The classes of the target column in the order of their indices, "not NAME" before "NAME", else sorted.

    Args:
        counts: by part of the split, what `label_counts` gives.
        target: the setting `task.target`.

    Raises:
        InputError: there is no such column, some images have no class, there is but one class, a class has a
            single picture, or one occurs in val or test but not in train.
    """
    columns = sorted(set().union(*counts.values()))
    if target not in columns:
        raise InputError(f"task.target is {target!r}, but {unknown(target, columns)}")
    of = {part: columns[target] for part, columns in counts.items()}
    if missing := sum(found.get("", 0) for found in of.values()):
        total = sum(sum(found.values()) for found in of.values())
        raise InputError(f"{missing} of {total} images have no {target} (task.target): label or remove them")
    known = set().union(*of.values())
    if len(known) < 2:
        raise InputError(f"all images are of one class, {min(known)} (task.target {target}): two or more are needed")
    for name in sorted(known):
        if sum(found.get(name, 0) for found in of.values()) == 1:
            raise InputError(f"class {name!r} of {target} has a single picture: give it more, or remove it")
    for part in ("val", "test"):
        if strange := sorted(of[part].keys() - of["train"].keys()):
            more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
            raise InputError(
                f"class {strange[0]!r}{more} of {target} occurs in part {part}, but not in train: give more images "
                "of it, or split otherwise (data.split, seed)"
            )
    return tuple(sorted(known)) if target == "label" else (f"not {target}", target)


def unknown(target: str, columns: list[str]) -> str:
    """What is wrong with a target that is no column."""
    if not columns:
        return "the images have no labels at all: put those of each class into a folder of its own"
    known = ", ".join(columns[:8]) + (f" and {len(columns) - 8} more" if len(columns) > 8 else "")
    return f"must be one of {known}{nearest(target, columns)}"


def indices(table: pd.DataFrame, target: str, classes: tuple[str, ...]) -> np.ndarray:
    """The class index of every image, int64 (n,)."""
    index = {name: i for i, name in enumerate(classes)}
    return named(table, target).map(index).to_numpy(dtype=np.int64)
