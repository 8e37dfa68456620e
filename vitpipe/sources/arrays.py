"""Data sets that come as arrays instead of picture files: their ids, labels and images."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from PIL import Image

from vitpipe.config import Data
from vitpipe.errors import InputError


def official_table(labels: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The samples of a data set with official parts: ids such as `train-00000`, sorted, `official` and `label`.

    Args:
        labels: by official part, the class of every image, at most 100,000, in the order of the arrays.
    """
    parts = sorted(labels)
    rows = {f"{part}-{number:05d}": (part, label) for part in parts for number, label in enumerate(labels[part])}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["official", "label"])
    return table.rename_axis("id")


def require_side(data: Data, side: int) -> None:
    """Refuses a `data.size` that would enlarge the images, which have `side` pixels on each side."""
    if data.size > side:
        raise InputError(
            f"data.size is {data.size}, but the pictures of data.name {data.name} have {side}x{side} pixels: "
            f"use {side} or less"
        )


class ArrayImages:
    """Pictures in arrays by sample id, safe to share between threads.

    Args:
        arrays: by what stands before the dash of an id ("" where there is none), the pictures that are numbered
            by the rest of it: uint8 (n, h, w) or (n, h, w, 3), 0 black and 255 white. Memory maps are read lazily.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays

    def read(self, sample: str) -> Image.Image:
        """The picture as RGB. Raises LookupError where there is no such sample."""
        part, _, number = sample.rpartition("-")
        return Image.fromarray(self.arrays[part][int(number)]).convert("RGB")
