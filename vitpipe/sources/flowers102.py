"""Oxford 102 Flower: photographs of 102 kinds of flowers in three parts (1,020 + 1,020 + 6,149 images).

Nilsback, Zisserman: Automated Flower Classification over a Large Number of Classes, ICVGIP 2008. `raw` holds
`images.zip`, the two official annotation files, and `rejects.csv` where files are no pictures.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from scipy.io import loadmat

from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources.archive import resolve_root
from vitpipe.sources.arrays import take_official
from vitpipe.sources.download import download
from vitpipe.sources.listed import ARCHIVE, inner_folder, take_pictures
from vitpipe.sources.torchvision import import_torchvision
from vitpipe.sources.zip_images import ZipImages

FOLDER = "flowers-102"


def fetch(data: Data, seed: int, raw: Path) -> None:
    """Fills `raw` from `data.root`, or downloads the official files where that is null.

    `data.root` is torchvision's folder `flowers-102` or the folder that holds it, with the pictures as files at any
    depth or in the official archive. Pictures may be missing; they are counted.

    Raises:
        InputError: annotation is missing or not the official one, no picture is there, or the download fails.
    """
    files = flowers()._file_dict
    archive = files["image"][0]
    if data.root is None:
        place = raw
        for name, md5 in files.values():
            download(flowers()._download_url_prefix + name, raw / name, md5)
    else:
        place = inner_folder(resolve_root(data.root), FOLDER)
        wanted = f"{FOLDER}, or jpg/ or {archive} beside {files['label'][0]} and {files['setid'][0]}"
        take_official(place, raw, dict(files[kind] for kind in ("label", "setid")), wanted)
    take_pictures(place, raw, {*read_annotation(raw).index}, archive, data)
    (raw / archive).unlink(missing_ok=True)


def samples(raw: Path) -> pd.DataFrame:
    """One row per picture, indexed by file name, sorted.

    Columns: `official`: train, val, test; `label`: the flower as torchvision calls it, such as pink primrose.
    """
    table = read_annotation(raw)
    return table[table.index.isin(open_images(raw).members)]


def open_images(raw: Path) -> ZipImages:
    """The pictures by file name."""
    return ZipImages(raw / ARCHIVE)


def flowers() -> Any:
    """torchvision's class. Raises InputError where it does not name the classes."""
    official = import_torchvision().datasets.Flowers102
    if not hasattr(official, "classes"):
        raise InputError("data.name flowers102 needs the names of classes that torchvision 0.22 brings: install it")
    return official


def read_annotation(raw: Path) -> pd.DataFrame:
    """Everything that the official files say, see `samples`."""
    official = flowers()
    labels, parts = (loadmat(raw / official._file_dict[kind][0], squeeze_me=True) for kind in ("label", "setid"))
    rows = [
        (f"image_{number:05d}.jpg", part, official.classes[labels["labels"][number - 1] - 1])
        for part, name in official._splits_map.items()
        for number in parts[name].tolist()
    ]
    return pd.DataFrame(rows, columns=["id", "official", "label"]).set_index("id").sort_index()
