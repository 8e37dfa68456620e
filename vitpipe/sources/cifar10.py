"""CIFAR-10: 50,000 + 10,000 photographs of 32x32 pixels in ten classes.

Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009. `raw` holds the seven files of the official
archive. They are pickles, and reading a pickle can run any code: only files with torchvision's MD5 sums get into
`raw`, and torchvision checks the sums again before it reads them.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources.archive import resolve_root
from vitpipe.sources.arrays import ArrayImages, official_table, require_side, take_official
from vitpipe.sources.download import download
from vitpipe.sources.torchvision import import_torchvision


def fetch(data: Data, seed: int, raw: Path) -> None:
    """Fills `raw` from `data.root`, or downloads the official archive where that is null.

    `data.root` is `cifar-10-python.tar.gz` or the folder `cifar-10-batches-py`, or a folder with either.

    Raises:
        InputError: files are missing, damaged or not the official ones, or cannot be downloaded.
    """
    require_side(data, 32)
    if data.root is None:
        download_official(raw)
    else:
        take(resolve_root(data.root), raw)


def samples(raw: Path) -> pd.DataFrame:
    """One row per picture, indexed by ids such as `train-00000`, sorted.

    Columns: `official`: train or test; `label`: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.
    """
    parts = read(raw)
    return official_table({part: [files.classes[label] for label in files.targets] for part, files in parts.items()})


def open_images(raw: Path) -> ArrayImages:
    """The pictures by id, 184 MB in memory."""
    return ArrayImages({part: files.data for part, files in read(raw).items()})


def read(raw: Path) -> dict[str, Any]:
    """torchvision's data sets by part: `data` uint8 (n, 32, 32, 3), `targets`, `classes`."""

    class InRaw(import_torchvision().datasets.CIFAR10):  # type: ignore[misc]
        base_folder = ""  # the files lie in `raw` itself

    try:
        return {part: InRaw(raw, train=part == "train", download=False) for part in ("train", "test")}
    except RuntimeError:  # another MD5 sum
        raise InputError(f"{raw} is damaged: delete it, then run again to fetch CIFAR-10 anew") from None


def download_official(raw: Path) -> None:
    """Downloads the archive and takes the files out of it."""
    official = import_torchvision().datasets.CIFAR10
    archive = raw / official.filename
    download(official.url, archive, official.tgz_md5)
    take(archive, raw)
    archive.unlink()


def take(root: Path, raw: Path) -> None:
    """Copies the seven files from `root`, an archive or folder."""
    official = import_torchvision().datasets.CIFAR10
    meta = (official.meta["filename"], official.meta["md5"])
    inner = (root / official.base_folder, root / official.filename)
    place = next((path for path in inner if path.exists()), root)
    wanted = f"{official.base_folder} or {official.filename} (pictures in class folders are for data.name folder)"
    take_official(place, raw, dict([*official.train_list, *official.test_list, meta]), wanted)
