"""Data sets that come as arrays instead of picture files: their official files, ids, labels and images."""

import gzip
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from PIL import Image

from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources.archive import UNREADABLE, open_files, read_file, why_unreadable


def take_official(root: Path, raw: Path, sums: Mapping[str, str], wanted: str) -> None:
    """Copies files that are known by their MD5 sums from a folder, zip or tar into `raw`.

    They may lie at any depth, and be compressed (.gz). Of several files of one name that with the right sum is taken.

    Args:
        sums: MD5 sum of the uncompressed content by file name.
        wanted: what `data.root` must hold, for the message.

    Raises:
        InputError: a file is missing, can't be read, or is not the official one.
    """
    with open_files(root) as files:
        for name, md5 in sums.items():
            problem = f"{root} lacks {name}: data.root must hold {wanted}"
            for path in [path for path in files if plain_name(path) == name]:
                try:
                    content = read_file(files[path])
                    if path.endswith(".gz"):
                        content = gzip.decompress(content)
                except UNREADABLE as error:
                    problem = f"{root}/{path} {why_unreadable(error)}: download or copy it again"
                    continue
                found = hashlib.md5(content, usedforsecurity=False).hexdigest()
                if found == md5:
                    (raw / name).write_bytes(content)
                    break
                problem = f"{root}/{path} is damaged or not the official file: its MD5 is {found} instead of {md5}"
            else:
                raise InputError(problem)


def plain_name(path: str) -> str:
    """The file name without .gz; Kaggle's copies of MNIST are called .idx instead of -idx."""
    return PurePosixPath(path).name.removesuffix(".gz").replace(".idx", "-idx")


def official_table(labels: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The samples of a data set with official parts: ids such as `train-00000`, sorted, `official` and `label`.

    Args:
        labels: by official part, the class of every image, at most 100,000, in the order of the arrays.
    """
    rows = [(f"{part}-{i:05d}", part, label) for part in sorted(labels) for i, label in enumerate(labels[part])]
    return pd.DataFrame(rows, columns=["id", "official", "label"]).set_index("id")


def require_side(data: Data, side: int) -> None:
    """Says that `data.size` enlarges the images, which have `side` pixels on each side.

    Pretrained encoders want that. Raises InputError where a super-sampler would learn what the enlarging made.
    """
    if data.size <= side:
        return
    problem = f"data.size is {data.size}, but the pictures of data.name {data.name} have {side}x{side} pixels"
    if data.scale > 1:
        raise InputError(f"{problem}: use {side} or less, or data.scale 1")
    print(f"{problem}, so they are enlarged", file=sys.stderr)


class ArrayImages:
    """Pictures in arrays by sample id, safe to share between threads.

    Args:
        arrays: by the part of an id before the dash ("" where there is none), the pictures that the rest of the id
            numbers: uint8 (n, h, w) or (n, h, w, 3), 0 black and 255 white.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays

    def read(self, sample: str) -> Image.Image:
        """The picture as RGB. Raises LookupError where there is no such sample."""
        part, _, number = sample.rpartition("-")
        return Image.fromarray(self.arrays[part][int(number)]).convert("RGB")
