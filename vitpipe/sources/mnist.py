"""MNIST: 60,000 + 10,000 handwritten digits of 28x28 pixels, white on black.

LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 1998.
`raw` holds the four idx files uncompressed.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from vitpipe.config import Data
from vitpipe.sources.archive import resolve_root
from vitpipe.sources.arrays import ArrayImages, official_table, require_side, take_official
from vitpipe.sources.download import download
from vitpipe.sources.torchvision import import_torchvision

IMAGES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
LABELS = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}
SUMS = {
    IMAGES["train"]: "6bbc9ace898e44ae57da46a324031adb",
    LABELS["train"]: "a25bea736e30d166cdddb491f175f624",
    IMAGES["test"]: "2646ac647ad5339dbf082846283269ea",
    LABELS["test"]: "27ae3e4e09519cfbb04c329615203637",
}
"""MD5 sums of the uncompressed files."""
WANTED = "MNIST's four idx files, as they are or as .gz"


def fetch(data: Data, seed: int, raw: Path) -> None:
    """Fills `raw` from `data.root`, or from a mirror of the data set where that is null.

    `data.root` is a folder or zip with the four files at any depth, compressed (.gz) or not.

    Raises:
        InputError: a file is missing, damaged, not MNIST's, or cannot be downloaded.
    """
    require_side(data, 28)
    if data.root is None:
        download_official(raw)
    else:
        root = resolve_root(data.root)
        # torchvision's folder for this data set, next to which others may lie
        take_official(root / "MNIST" if (root / "MNIST").is_dir() else root, raw, SUMS, WANTED)


def samples(raw: Path) -> pd.DataFrame:
    """One row per digit, indexed by ids such as `train-00000`, sorted; `official`: train, test; `label`: "0" to "9"."""
    return official_table({part: read_idx(raw / name).astype(str).tolist() for part, name in LABELS.items()})


def open_images(raw: Path) -> ArrayImages:
    """The pictures by id."""
    return ArrayImages({part: read_idx(raw / name) for part, name in IMAGES.items()})


def download_official(raw: Path) -> None:
    """Downloads the four compressed files from the first of torchvision's mirrors and unpacks them."""
    official = import_torchvision().datasets.MNIST
    for name, md5 in official.resources:
        download(official.mirrors[0] + name, raw / name, md5)
    take_official(raw, raw, SUMS, WANTED)
    for name, _ in official.resources:
        (raw / name).unlink()


def read_idx(path: Path) -> np.ndarray:
    """The array in an idx file, uint8, (n, h, w) or for labels (n,), not read from the disk until it is used.

    The format is described at http://yann.lecun.com/exdb/mnist: four bytes, of which the last is the number of
    dimensions, each dimension as big-endian 32-bit integer, the values.
    """
    dimensions = np.fromfile(path, np.uint8, 4)[3]
    header = np.fromfile(path, ">u4", 1 + dimensions)
    return np.memmap(path, np.uint8, "r", header.nbytes, tuple(header[1:].tolist()))
