"""Your own pictures: a folder or zip of them, in class sub-folders where there are labels.

Class folders may lie in folders `train`, `val` and `test`, which then are the official parts. `raw` holds
`images.zip`, and `rejects.csv` where pictures cannot be used.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import dropwhile, zip_longest
from pathlib import Path, PurePosixPath

import pandas as pd

from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources.archive import open_files, pack, resolve_root
from vitpipe.sources.images import report_rejects, require_size
from vitpipe.sources.zip_images import ZipImages

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")
ARCHIVE = "images.zip"
PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Official part by name of a folder."""


def fetch(data: Data, seed: int, raw: Path) -> None:
    """Packs the pictures of `data.root`; rejects those that are unreadable or smaller than `data.size`.

    Raises:
        InputError: `data.root` is null, missing, no sound zip or without pictures, or more than 1 % of the pictures
            are rejected.
    """
    if data.root is None:
        raise InputError("data.root is null, but data.name folder needs it: give a folder or zip of your pictures")
    root = resolve_root(data.root)
    with open_files(root) as files:
        names = choose(files, root)
        usable = {name: files[name] for name in names if is_text(name)}
        rejects = pack(usable, raw / ARCHIVE, lambda content: require_size(content, data.size))
    unusual = "has control characters or bytes that are no text in its name: rename it"
    rejects |= {ascii(name): unusual for name in names if name not in usable}
    report_rejects(rejects, len(names), str(root), raw)


def samples(raw: Path) -> pd.DataFrame:
    """One row per usable picture, indexed by its path below the folder (with `/`), sorted.

    Columns `official` and `label`: see `folder_labels`.
    """
    return folder_labels(sorted(filter(is_picture, open_images(raw).members)))


def open_images(raw: Path) -> ZipImages:
    """The pictures by path below the folder."""
    return ZipImages(raw / ARCHIVE)


def folder_labels(names: list[str]) -> pd.DataFrame:
    """The samples `names`, posix paths, with what their folders say about them.

    The first level of folders that have different names tells the class of a picture, column `label`; outer
    folders are not counted, as a zip often has one around everything. If all names at that level are `PARTS`,
    in upper or lower case, one of them train, then they are the column `official`, and the classes are
    the folders below. A column exists if it has two values or more; a picture outside of such folders has none.
    """
    table = pd.DataFrame(index=pd.Index(names, name="id"))
    every_level = zip_longest(*(PurePosixPath(name).parent.parts for name in names))
    levels = list(dropwhile(lambda level: not differ(level), every_level))
    found = {name.lower() for name in levels[0] if name} if levels else set()
    if "train" in found and found <= PARTS.keys():
        table["official"] = [PARTS[name.lower()] if name else None for name in levels.pop(0)]
    if levels and differ(levels[0]):
        table["label"] = levels[0]
    return table


def differ(names: Iterable[str | None]) -> bool:
    """Whether there are several names."""
    return len({*names} - {None}) > 1


def choose(names: Iterable[str], root: Path) -> list[str]:
    """The names that are pictures, sorted; prints what other files there are."""
    names = sorted(names)
    pictures = list(filter(is_picture, names))
    others = Counter(PurePosixPath(name).suffix.lower() or "none" for name in names if not is_picture(name))
    ignored = f"; {others.total()} other files ignored, with ending {', '.join(sorted(others))}" if others else ""
    if not pictures:
        raise InputError(f"no pictures in {root}, which end in {' '.join(ENDINGS)}{ignored}")
    print(f"{len(pictures)} pictures in {root}{ignored}")
    return pictures


def is_picture(name: str) -> bool:
    """Whether a path has one of the `ENDINGS`, in upper or lower case."""
    return name.lower().endswith(ENDINGS)


def is_text(name: str) -> bool:
    """Whether a file name is free of control characters and of surrogates, which stand for bytes that are no UTF-8."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
