"""MNIST: 60,000 + 10,000 handwritten digits of 28x28 pixels, white on black.

LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 1998.
`raw` holds the four idx files uncompressed, the same whichever way they came: an idx file is a header and
then the pixels, so pictures are read from the disk as they are asked for.
"""

import gzip
import hashlib
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources.archive import UNREADABLE, open_zip, resolve_root, why_unreadable
from vitpipe.sources.arrays import ArrayImages, official_table, require_side

IMAGES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
LABELS = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}
FOLDERS = ("MNIST/raw", "raw", "")
"""Where the files may lie below `data.root`, as torchvision has them or loose; the first that has any counts."""


def fetch(data: Data, seed: int, raw: Path) -> None:
    """Fills `raw` from `data.root`, or from torchvision's mirrors where that is null.

    `data.root` is a folder or zip with the four files, compressed (.gz) or not, loose or in `raw` or `MNIST/raw`.

    Raises:
        InputError: a file is missing, damaged or cut off, not MNIST's, or cannot be downloaded.
    """
    require_side(data, 28)
    if data.root is None:
        download_official(raw)
    else:
        take(resolve_root(data.root), raw)
    check(raw)


def samples(raw: Path) -> pd.DataFrame:
    """One row per digit, indexed by ids such as `train-00000`, sorted; `official`: train, test; `label`: "0" to "9"."""
    return official_table({part: read_idx(raw / name).astype(str).tolist() for part, name in LABELS.items()})


def open_images(raw: Path) -> ArrayImages:
    """The pictures by id."""
    return ArrayImages({part: read_idx(raw / name) for part, name in IMAGES.items()})


def torchvision_mnist() -> Any:
    """torchvision's class, which lists `mirrors` and in `resources` the compressed files with their MD5 sums."""
    from vitpipe.sources.torchvision import import_torchvision

    import_torchvision()
    from torchvision.datasets import MNIST

    return MNIST


def download_official(raw: Path) -> None:
    """Downloads the four files, each from the first of torchvision's mirrors that has it."""
    from vitpipe.sources.download import download

    facts = torchvision_mnist()
    for name, md5 in facts.resources:
        for mirror in facts.mirrors:
            try:
                download(mirror + name, raw / name, md5, tries=3)
                break
            except InputError as error:
                if mirror == facts.mirrors[-1]:
                    raise
                print(f"{error}; trying the next mirror")
    take(raw, raw)
    for name, _ in facts.resources:
        (raw / name).unlink()


def take(root: Path, raw: Path) -> None:
    """Copies the four files from a folder or zip; unpacks compressed ones, whose MD5 sums must be the official."""
    top: Path | zipfile.Path = root if root.is_dir() else zipfile.Path(open_zip(root))
    names = [*IMAGES.values(), *LABELS.values()]
    places = [top / folder if folder else top for folder in FOLDERS]
    found = next((found for place in places if (found := find(place, names))), {})
    if missing := [name for name in names if name not in found]:
        raise InputError(
            f"{root} lacks {', '.join(missing)}: data.root must hold MNIST's four idx files, as they are or as .gz"
        )
    sums = dict(torchvision_mnist().resources)
    for name, file in found.items():
        try:
            content = file.read_bytes()
        except UNREADABLE as error:
            raise InputError(f"{file} {why_unreadable(error)}: download or copy it again") from None
        if file.name.endswith(".gz"):
            md5, official = hashlib.md5(content, usedforsecurity=False).hexdigest(), sums[f"{name}.gz"]
            if md5 != official:
                raise InputError(f"{file} is not MNIST's, or damaged: its MD5 is {md5} instead of {official}")
            content = gzip.decompress(content)
        (raw / name).write_bytes(content)


def find(place: Path | zipfile.Path, names: list[str]) -> dict[str, Path | zipfile.Path]:
    """The file by official name, compressed rather than not, as only then its sum is known."""
    found = {}
    for name in names:
        stems = (name, name.replace("-idx", ".idx"))  # the latter is Kaggle's
        files = [place / f"{stem}{ending}" for ending in (".gz", "") for stem in stems]
        if (file := next((file for file in files if file.is_file()), None)) is not None:
            found[name] = file
    return found


def check(raw: Path) -> None:
    """Raises InputError unless the four files in `raw` are whole and belong together."""
    for part in IMAGES:
        images, labels = read_idx(raw / IMAGES[part]), read_idx(raw / LABELS[part])
        if len(images) != len(labels):
            raise InputError(
                f"{IMAGES[part]} holds {len(images)} images, but {LABELS[part]} {len(labels)} labels: "
                "take both from one place"
            )
        if labels.max() > 9:
            raise InputError(f"{LABELS[part]} holds the label {labels.max()}, but MNIST's are 0 to 9")


def read_idx(path: Path) -> np.ndarray:
    """The array in an idx file, uint8, (n, h, w) or for labels (n,), not read from the disk until it is used.

    The format is described at http://yann.lecun.com/exdb/mnist: two zero bytes, 8 for uint8, the number of
    dimensions, each dimension as big-endian 32-bit integer, the values.

    Raises:
        InputError: the header is not that of such a file, or the file is shorter or longer than it says.
    """
    dimensions = 3 if "idx3" in path.name else 1
    start = 4 + 4 * dimensions
    with path.open("rb") as file:
        header = file.read(start)
    if len(header) < start or header[:4] != bytes([0, 0, 8, dimensions]):
        raise InputError(f"{path.name} is no idx file of MNIST: it starts with {header[:4].hex(' ') or 'nothing'}")
    shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
    size, expected = path.stat().st_size, start + math.prod(shape)
    if size != expected or not math.prod(shape):
        problem = "is cut off" if size < expected else "is no idx file of MNIST"
        raise InputError(f"{path.name} {problem}: it has {size} bytes, but its header means {expected}: copy it again")
    return np.memmap(path, np.uint8, "r", start, shape)
