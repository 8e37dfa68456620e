"""Which image is for training, validation or testing."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from vitpipe.config import Data
from vitpipe.data.labels import class_names, require_column
from vitpipe.errors import InputError
from vitpipe.sources import COLUMNS

PARTS = ("train", "val", "test")


def split(samples: pd.DataFrame, data: Data, seed: int, target: str | None = None) -> pd.DataFrame:
    """The samples (see `vitpipe.sources`) with a column `part`, in the order of their ids.

    `random` and `identity` give each image or person a number from a seeded hash of its name and
    cut at `data.test` and `data.val`, so neither the order of the images nor adding others moves
    any of them. `data.count` keeps the images with the smallest hash, for the same reason. Official
    parts are kept; where the data set has no validation part, a share `data.val` of train becomes it.
    `data.shots` leaves out training images, see `take_shots`.

    Args:
        target: the label column that `data.shots` counts the classes of.

    Raises:
        InputError: a part would be empty, or the data set lacks what the kind of split or `data.shots` needs.
    """
    samples = samples.sort_index()
    if data.count is not None and data.count < len(samples):
        order = pd.Series([uniform(f"{seed}:count:{sample}") for sample in samples.index], samples.index)
        samples = samples.loc[order.nsmallest(data.count).index].sort_index()

    if data.split == "official":
        part = column(samples, "official", data).copy()
        if "val" not in set(part):
            held_out = np.array([uniform(f"{seed}:{sample}") < data.val for sample in part.index])
            part[(part == "train") & held_out] = "val"
    else:
        keys = pd.Series(samples.index, samples.index) if data.split == "random" else column(samples, "identity", data)
        part = keys.map({key: part_of(f"{seed}:{key}", data) for key in keys.unique()})

    counts = part.value_counts().reindex(PARTS, fill_value=0)
    if (counts == 0).any():
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(
            f"data.split {data.split} leaves a part empty ({found} of {len(samples)} images): "
            "give more images or raise data.count, data.test or data.val"
        )
    table = samples.drop(columns="official", errors="ignore")
    table.insert(0, "part", part)
    return table if data.shots is None or target is None else take_shots(table, data.shots, seed, target)


def take_shots(table: pd.DataFrame, shots: int, seed: int, target: str) -> pd.DataFrame:
    """The table with at most `shots` training images of each class of the column `target`; val and test stay whole.

    Those with the smallest seeded hash of their names are kept, so two shots are among five.

    Raises:
        InputError: there is no such column, or a training image has no class in it.
    """
    require_column(target, sorted(table.columns.difference(["part", *COLUMNS])))
    names = class_names(table[table["part"] == "train"], target)
    if missing := int((names == "").sum()):
        raise InputError(
            f"data.shots is {shots}, but {missing} of {len(names)} training images have no {target} (task.target): "
            "label or remove them, or use data.shots null"
        )
    order = pd.Series([uniform(f"{seed}:shots:{sample}") for sample in names.index], names.index)
    rank = order.groupby(names).rank()
    return table.drop(index=rank.index[rank > shots])


def read_table(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """A csv file of samples, indexed by sample id; of all columns or the given ones, `id` among them."""
    kinds = {"id": str, "identity": str, "label": str}
    return pd.read_csv(path, index_col="id", usecols=columns, dtype=kinds, na_values=[""], keep_default_na=False)


def column(samples: pd.DataFrame, name: str, data: Data) -> pd.Series:
    if name not in samples or samples[name].isna().any():
        missing = int(samples[name].isna().sum()) if name in samples else len(samples)
        wanted = "official part" if name == "official" else name
        raise InputError(
            f"data.split {data.split} needs the {wanted} of every image, but {missing} of {len(samples)} in "
            f"data.name {data.name} have none: use data.split random"
        )
    return samples[name]


def part_of(key: str, data: Data) -> str:
    number = uniform(key)
    if number < data.test:
        return "test"
    return "val" if number < data.test + data.val * (1 - data.test) else "train"


def uniform(key: str) -> float:
    """A number in [0, 1) that depends on `key` alone."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64
