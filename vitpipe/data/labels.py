"""From the label columns of a data set to the classes of a classifier.

The column `label` and every other column of words hold the class of each image by name. A column of numbers is an
attribute: 1 where the image has it, -1 where it does not, 0 where that is unknown; its classes are "not NAME" and
"NAME".
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from vitpipe.config.validation import nearest
from vitpipe.errors import InputError

Counts = Mapping[str, Mapping[str, int]]
"""Images of each class by label column; images without a class count under ""."""


def class_names(table: pd.DataFrame, column: str) -> pd.Series:
    """The class of every image by name, "" where it has none."""
    values = table[column]
    if column == "label" or not pd.api.types.is_numeric_dtype(values):
        return values.fillna("").astype(str)
    return values.map({1: column, -1: f"not {column}"}).fillna("")


def label_counts(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Images of each class, by label column of the table: what the manifest of a packed part keeps."""
    return {name: class_names(table, name).value_counts().sort_index().to_dict() for name in map(str, table)}


def classes(counts: Mapping[str, Counts], target: str) -> tuple[str, ...]:
    """The classes of the target column in the order of their indices, "not NAME" before "NAME", else sorted.

    Args:
        counts: by part of the split, the result of `label_counts`.

    Raises:
        InputError: there is no such column, some images have no class, there is only one class, a class has a
            single picture, or one occurs in val or test but not in train.
    """
    columns = sorted(set().union(*counts.values()))
    require_column(target, columns)
    by_part = {part: columns[target] for part, columns in counts.items()}
    if missing := sum(found.get("", 0) for found in by_part.values()):
        total = sum(sum(found.values()) for found in by_part.values())
        raise InputError(f"{missing} of {total} images have no {target} (task.target): label or remove them")
    known = sorted(set().union(*by_part.values()))
    if len(known) < 2:
        raise InputError(f"all images are of one class, {known[0]} (task.target {target}): two or more are needed")
    for name in known:
        if sum(found.get(name, 0) for found in by_part.values()) == 1:
            raise InputError(f"class {name!r} of {target} has a single picture: give it more, or remove it")
    for part in ("val", "test"):
        if untrained := sorted(by_part[part].keys() - by_part["train"].keys()):
            more = f" and {len(untrained) - 1} more" if len(untrained) > 1 else ""
            raise InputError(
                f"class {untrained[0]!r}{more} of {target} occurs in part {part}, but not in train: give more images "
                "of it, or split otherwise (data.split, seed)"
            )
    is_attribute = target != "label" and set(known) == {f"not {target}", target}
    return (f"not {target}", target) if is_attribute else tuple(known)


def require_column(target: str, columns: list[str]) -> None:
    """Raises InputError if the target is none of the label columns."""
    if target in columns:
        return
    known = ", ".join(columns[:8]) + (f" and {len(columns) - 8} more" if len(columns) > 8 else "")
    none = "the images have no labels at all: put those of each class into a folder of its own"
    rule = f"must be one of {known}{nearest(target, columns)}" if columns else none
    raise InputError(f"task.target is {target!r}, but {rule}")


def indices(table: pd.DataFrame, target: str, classes: tuple[str, ...]) -> np.ndarray:
    """The class index of every image, int64 (n,)."""
    index = {name: i for i, name in enumerate(classes)}
    return class_names(table, target).map(index).to_numpy(dtype=np.int64)
