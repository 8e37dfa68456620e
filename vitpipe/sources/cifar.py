"""CIFAR-10 and CIFAR-100, which differ in files and classes alone.

Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009. `raw` holds the files of the official archive.
They are pickles, and reading a pickle can run any code: only files with torchvision's MD5 sums get into `raw`, and
torchvision checks the sums again before it reads them.
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


class Cifar:
    """One of the two data sets, with the functions of `vitpipe.sources.Source`.

    Args:
        name: of torchvision's class, `CIFAR10` or `CIFAR100`.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def official(self) -> Any:
        """torchvision's class: names and MD5 sums of the files."""
        return getattr(import_torchvision().datasets, self.name)

    def fetch(self, data: Data, seed: int, raw: Path) -> None:
        """Fills `raw` from `data.root`, or downloads the official archive where that is null.

        `data.root` is torchvision's archive or folder, or a folder with either.

        Raises:
            InputError: files are missing, damaged or not the official ones, or cannot be downloaded.
        """
        require_side(data, 32)
        if data.root is not None:
            return self.take(resolve_root(data.root), raw)
        archive = raw / self.official.filename
        download(self.official.url, archive, self.official.tgz_md5)
        self.take(archive, raw)
        archive.unlink()

    def samples(self, raw: Path) -> pd.DataFrame:
        """One row per picture, indexed by ids such as `train-00000`, sorted.

        Columns: `official`: train or test; `label`: the name of the (fine) class, such as airplane or aquarium_fish.
        """
        parts = self.read(raw)
        labels = {part: [files.classes[label] for label in files.targets] for part, files in parts.items()}
        return official_table(labels)

    def open_images(self, raw: Path) -> ArrayImages:
        """The pictures by id, 184 MB in memory."""
        return ArrayImages({part: files.data for part, files in self.read(raw).items()})

    def read(self, raw: Path) -> dict[str, Any]:
        """torchvision's data sets by part: `data` uint8 (n, 32, 32, 3), `targets`, `classes`."""
        in_raw = type("InRaw", (self.official,), {"base_folder": ""})  # the files lie in `raw` itself
        try:
            return {part: in_raw(raw, train=part == "train", download=False) for part in ("train", "test")}
        except RuntimeError:  # another MD5 sum
            raise InputError(f"{raw} is damaged: delete it, then run again to fetch {self.name} anew") from None

    def take(self, root: Path, raw: Path) -> None:
        """Copies the official files from `root`, an archive or folder."""
        official = self.official
        meta = (official.meta["filename"], official.meta["md5"])
        inner = (root / official.base_folder, root / official.filename)
        place = next((path for path in inner if path.exists()), root)
        wanted = f"{official.base_folder} or {official.filename} (pictures in class folders are for data.name folder)"
        take_official(place, raw, dict([*official.train_list, *official.test_list, meta]), wanted)
