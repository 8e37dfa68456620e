"""Oxford-IIIT Pet: photographs of cats and dogs of 37 breeds, in two parts (3,680 + 3,669 images).

Parkhi, Vedaldi, Zisserman, Jawahar: Cats and Dogs, CVPR 2012. `raw` holds `images.zip` with the pictures that the
lists name, the lists `trainval.txt` and `test.txt`, and `rejects.csv` where files are no pictures.
"""

import re
from pathlib import Path

import pandas as pd

from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources.archive import resolve_root
from vitpipe.sources.download import download
from vitpipe.sources.listed import ARCHIVE, inner_folder, take_pictures, take_texts
from vitpipe.sources.torchvision import import_torchvision
from vitpipe.sources.zip_images import ZipImages

LISTS = {"trainval.txt": "train", "test.txt": "test"}
"""Official part by name of its list."""
FOLDER, IMAGES, ANNOTATIONS = "oxford-iiit-pet", "images.tar.gz", "annotations.tar.gz"
WANTED = f"{FOLDER}, or images/ and annotations/, or {IMAGES} and {ANNOTATIONS}"
LINE = re.compile(r"((\w+)_\d+) ([1-9]\d?) ([12]) \d+")
"""Image, breed, number of the breed, species, number of the breed in its species."""
SPECIES = {"1": "cat", "2": "dog"}


def fetch(data: Data, seed: int, raw: Path) -> None:
    """Fills `raw` from `data.root`, or downloads the official archives where that is null.

    `data.root` is torchvision's folder `oxford-iiit-pet` or the folder that holds it, with pictures and lists at any
    depth, or in the official archives. Pictures may be missing; they are counted.

    Raises:
        InputError: a list is missing or wrong, no picture is there, or the download fails.
    """
    if data.root is not None:
        return take(inner_folder(resolve_root(data.root), FOLDER), data, raw)
    archives = import_torchvision().datasets.OxfordIIITPet._RESOURCES
    for url, md5 in archives:
        download(url, raw / url.rpartition("/")[2], md5)
    take(raw, data, raw)
    for url, _ in archives:
        (raw / url.rpartition("/")[2]).unlink()


def samples(raw: Path) -> pd.DataFrame:
    """One row per picture, indexed by file name, sorted.

    Columns: `official`: train (the list trainval) or test; `label`: the breed as torchvision calls it, such as
    American Bulldog, so that sorted names have torchvision's order; `species`: cat or dog.
    """
    table = read_lists(raw)
    return table[table.index.isin(open_images(raw).members)]


def open_images(raw: Path) -> ZipImages:
    """The pictures by file name."""
    return ZipImages(raw / ARCHIVE)


def take(root: Path, data: Data, raw: Path) -> None:
    """Copies the lists and the pictures that they name from `root`."""
    take_texts(root, raw, LISTS, ANNOTATIONS, WANTED)
    take_pictures(root, raw, {*read_lists(raw).index}, IMAGES, data)


def read_lists(raw: Path) -> pd.DataFrame:
    """Everything that the two lists say, see `samples`.

    Raises:
        InputError: a line is no line of such a list, a list is empty, or an image is listed twice.
    """
    rows: dict[str, tuple[str, str, str]] = {}
    for name, part in LISTS.items():
        lines = (raw / name).read_text(encoding="utf-8", errors="replace").splitlines()
        if not lines:
            raise InputError(f"{name} names no picture: download or copy it again")
        for number, line in enumerate(lines, 1):
            found = LINE.fullmatch(line.strip())
            if not found:
                right = "'Abyssinian_100 1 1 1': image, breed, species, breed in species"
                raise InputError(
                    f"{name} is no list of Oxford-IIIT Pet: line {number} is {line[:80]!r}, not like {right}"
                )
            image = f"{found[1]}.jpg"
            if image in rows:
                raise InputError(f"{name} lists {found[1]} in line {number}, but it is listed before: keep one")
            rows[image] = (part, found[2].replace("_", " ").title(), SPECIES[found[4]])
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["official", "label", "species"])
    return table.rename_axis("id").sort_index()
