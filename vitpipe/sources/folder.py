"""Your own pictures: a folder or zip of them, in class sub-folders where there are labels.

Class folders may lie in folders `train`, `val` and `test`, which then are the official parts.

`raw` holds `images.zip`, and `rejects.csv` where pictures cannot be used.
"""

import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import IO

import pandas as pd

from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.files import write_csv
from vitpipe.progress import progress
from vitpipe.sources.archive import (
    UNREADABLE,
    is_picture,
    is_visible,
    list_files,
    open_zip,
    pack,
    resolve_root,
    why_unreadable,
)
from vitpipe.sources.images import UnreadableImage, check_rejects, dimensions, require_size
from vitpipe.sources.zip_images import ZipImages, member_names

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")
ARCHIVE, REJECTS = "images.zip", "rejects.csv"
PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Official part by name of a folder."""


def fetch(data: Data, seed: int, raw: Path) -> None:
    """Copies the pictures of `data.root`; rejects those that are unreadable or smaller than `data.size`.

    Raises:
        InputError: `data.root` is null, missing, no sound zip or without pictures, or more than 1 %
            of the pictures are rejected.
    """
    if data.root is None:
        raise InputError("data.root is null, but data.name folder needs it: give a folder or zip of your pictures")
    root = resolve_root(data.root)
    if root.is_dir():
        files = list_files(root, is_visible)
        names = choose(files, root)
        rejects = find_rejects(names, lambda name: files[name].open("rb"), data.size)
    else:
        with open_zip(root) as archive:
            names = choose((name for name in archive.namelist() if not name.endswith("/")), root)
            rejects = find_rejects(names, archive.open, data.size)
    printable = {name if is_text(name) else ascii(name): reason for name, reason in rejects.items()}
    check_rejects(printable, len(names), str(root))
    if root.is_dir():
        printable |= pack({name: files[name] for name in names if name not in rejects}, raw / ARCHIVE)
    else:
        shutil.copyfile(root, raw / ARCHIVE)
    if printable:
        write_csv(raw / REJECTS, [{"id": name, "reason": reason} for name, reason in printable.items()])


def samples(raw: Path) -> pd.DataFrame:
    """One row per usable picture, indexed by its path below the folder (with `/`), sorted.

    Columns `official` and `label`: see `folder_labels`.
    """
    names = {name for name in member_names(raw / ARCHIVE) if is_picture(name, ENDINGS) and is_text(name)}
    if (raw / REJECTS).exists():
        names -= set(pd.read_csv(raw / REJECTS, dtype=str)["id"])
    return folder_labels(sorted(names))


def folder_labels(names: list[str]) -> pd.DataFrame:
    """The samples `names`, posix paths, with what the folders say of them.

    The first level of folders that have different names tells the class of a picture, column `label`; outer
    folders are not counted, as a zip often has one around everything. If all names at that level are `PARTS`,
    in upper or lower case, one of them train, then they are the column `official`, and the classes are
    the folders below. A column is there if it has two values or more; a picture that lies outside of such
    folders has none.
    """
    table = pd.DataFrame(index=pd.Index(names, name="id"))
    folders = [PurePosixPath(name).parent.parts for name in names]
    depth = max((len(parts) for parts in folders), default=0)
    levels = [[parts[level] if level < len(parts) else None for parts in folders] for level in range(depth)]
    while levels and not differ(levels[0]):
        levels.pop(0)
    found = {name.lower() for name in levels[0] if name} if levels else set()
    if "train" in found and found <= PARTS.keys():
        table["official"] = [PARTS[name.lower()] if name else None for name in levels.pop(0)]
    if levels and differ(levels[0]):
        table["label"] = levels[0]
    return table


def differ(names: list[str | None]) -> bool:
    """Whether there are several names."""
    return len(set(names) - {None}) > 1


def open_images(raw: Path) -> ZipImages:
    """The pictures by path below the folder."""
    return ZipImages(raw / ARCHIVE)


def choose(names: Iterable[str], root: Path) -> list[str]:
    """The names that are pictures, sorted; prints what else there is."""
    visible = [name for name in names if is_visible(name)]
    pictures = sorted(name for name in visible if is_picture(name, ENDINGS))
    others = Counter(PurePosixPath(name).suffix.lower() or "none" for name in visible if not is_picture(name, ENDINGS))
    ignored = f"{others.total()} other files ignored, with ending {', '.join(sorted(others))}" if others else ""
    if not pictures:
        raise InputError(
            f"no pictures in {root}, which end in {' '.join(ENDINGS)}" + (f"; {ignored}" if ignored else "")
        )
    repeated = [name for name, count in Counter(pictures).items() if count > 1]
    if repeated:
        raise InputError(f"{root} holds {repeated[0]!a} twice: keep one")
    print(f"{len(pictures)} pictures in {root}" + (f"; {ignored}" if ignored else ""))
    return pictures


def is_text(name: str) -> bool:
    """Whether a file name is free of control characters and of surrogates, which stand for bytes that are no UTF-8."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)


def find_rejects(names: list[str], opener: Callable[[str], IO[bytes]], size: int) -> dict[str, str]:
    """Reads every picture's header; the reason by name of those that cannot be used at `size` pixels."""
    rejects = {}
    with progress(len(names), "checking", "images") as bar:
        for name in names:
            bar.update()
            if not is_text(name):
                rejects[name] = "has control characters or bytes that are no text in its name: rename it"
                continue
            try:
                with opener(name) as file:
                    require_size(dimensions(file), size)
            except UnreadableImage as error:
                rejects[name] = str(error)
            except UNREADABLE as error:
                rejects[name] = why_unreadable(error)
    return rejects
