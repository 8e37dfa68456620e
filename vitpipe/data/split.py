"""Which image is for training, validation or testing."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from vitpipe.config import Data
from vitpipe.errors import InputError

PARTS = ("train", "val", "test")


def split(samples: pd.DataFrame, data: Data, seed: int) -> pd.DataFrame:
    """The samples (see `vitpipe.sources`) with a column `part`, in the order of their ids.

    `random` and `identity` give each image or person a number from a seeded hash of its name and
    cut at `data.test` and `data.val`, so neither the order of the images nor adding others moves
    any of them. `data.count` keeps the images with the smallest hash, for the same reason. Official
    parts are kept; where the data set has no validation part, a share `data.val` of train becomes it.

    Raises:
        InputError: a part would be empty, or the data set lacks what the kind of split needs.
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
    return table


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
