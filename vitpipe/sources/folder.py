"""Your own pictures: a folder or zip of them, in class sub-folders where there are labels.

Class folders may lie in folders `train`, `val` and `test`, which then are the official parts. `raw` holds
`images.zip`, and `rejects.csv` where pictures cannot be used.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import dropwhile, zip_longest
from pathlib import Path, PurePosixPath

import pandas as pd

from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources.archive import open_files, pack, repository_root, resolve_root
from vitpipe.sources.images import WHY_DARK, comes_out_black, picture_size, report_rejects, require_size
from vitpipe.sources.zip_images import ZipImages

ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".ppm", ".pgm", ".pbm",
    ".pnm",
)  # fmt: skip
BESIDE_PICTURES = (
    ".txt", ".md", ".rst", ".tex", ".bib", ".pdf", ".doc", ".docx", ".csv", ".tsv", ".xlsx", ".json", ".jsonl", ".xml",
    ".yaml", ".yml", ".toml", ".html", ".ini", ".log", ".db", ".lnk", ".url", ".py", ".ipynb", ".sh", ".m", ".mat",
    ".pkl", ".npy", ".npz", ".h5", ".hdf5", ".parquet", ".sqlite", ".pt", ".pth", ".safetensors", ".zip", ".tar", ".gz",
    ".tgz", ".7z", ".rar", ".md5", ".sha256",
)  # fmt: skip
"""Endings of notes, annotation and archives: a folder of these is no class."""
NOTES = ("readme", "license", "licence", "copying", "authors", "changelog", "makefile", "citation")
"""The same without an ending."""
ARCHIVE = "images.zip"
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Official part by name of a folder."""
FILLERS = {"set", "data", "dataset", "split", "images", "imgs", "pictures", "photos", "seg", "folder"}
"""Words beside it, as in training_set and seg_test."""


def fetch(data: Data, seed: int, raw: Path) -> None:
    """Packs the pictures of `data.root`; rejects those that are unreadable or smaller than `data.size`.

    With `data.scale` 1 small ones are taken and told: they will be enlarged, as pretrained encoders want it. A
    super-sampler would learn what the enlarging made.

    Raises:
        InputError: `data.root` is null, missing, no sound zip or without pictures, more than 1 % of the pictures are
            rejected, or the folders are a mixture of parts and others, see `folder_labels`.
    """
    if data.root is None:
        raise InputError("data.root is null, but data.name folder needs it: give a folder or zip of your pictures")
    root = resolve_root(data.root)
    if root in ((here := repository_root().resolve()), *here.parents):
        raise InputError(f"data.root is {data.root!r}, which holds this repository: give the folder of your pictures")
    dark: list[bool] = []
    small: list[bool] = []

    def check(content: bytes) -> None:
        if data.scale > 1:
            require_size(content, data.size)
        small.append(min(picture_size(content)) < data.size)
        dark.append(comes_out_black(content))

    with open_files(root) as files:
        names = choose(files, root)
        usable = {name: files[name] for name in names if is_text(name)}
        folder_labels([*usable])  # refuses a mixture before all is copied
        rejects = pack(usable, raw / ARCHIVE, check)
    if any(dark):
        print(f"warning: {sum(dark)} of {len(names)} pictures come out black: {WHY_DARK}")
    if any(small):
        print(f"{sum(small)} of {len(names)} pictures are smaller than data.size {data.size} and will be enlarged")
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
    folders are not counted, as a zip often has one around everything. If all names at that level are those of parts
    (`part_of`), then they are the column `official`, and the classes are the folders below. A picture outside of such
    folders has no value. A single name of a part among others is a class, unless folders lie below it: there is a
    vehicle called train.

    Raises:
        InputError: the names of two parts or more stand beside other names, or none of the parts is train.
    """
    table = pd.DataFrame(index=pd.Index(names, name="id"))
    levels = levels_of(names)
    parts = {name: part_of(name) for name in levels[0] if name} if levels else {}
    others = sorted(name for name, part in parts.items() if part is None)
    known = sorted(parts.keys() - {*others})
    several = len({parts[name] for name in known}) > 1
    if others and (several or any(holds_classes(names, name) for name in known)):
        raise InputError(
            f"the folders {' and '.join(known)} hold parts of the data, but beside them there {told(others)}: move "
            "it away, or into one of them, or rename the folders"
        )
    if known and not others and (several or all(name.lower() in PARTS for name in known)):
        if "train" not in parts.values():
            raise InputError(f"the folders {' and '.join(known)} hold parts of the data, but none is named train")
        table["official"] = [parts[name] if name else None for name in levels[0]]
        again = dropwhile(lambda level: all(name is None or part_of(name) for name in level), levels[1:])
        levels = list(dropwhile(lambda level: not differ(level), again))  # seg_train/seg_train has its part twice
    if levels and differ(levels[0]):
        table["label"] = levels[0]
    return table


def levels_of(names: list[str]) -> list[tuple[str | None, ...]]:
    """The folders of each name at every level, from the first at which they differ; None where there is no more."""
    every_level = zip_longest(*(PurePosixPath(name).parent.parts for name in names))
    return list(dropwhile(lambda level: not differ(level), every_level))


def part_of(name: str) -> str | None:
    """The official part that a folder is named after: `PARTS` in upper or lower case, alone or beside `FILLERS`."""
    words = [word for word in re.split(r"[\W\d_]+", name.lower()) if word and word not in FILLERS]
    return PARTS.get(words[0].removesuffix("set")) if len(words) == 1 else None


def holds_classes(names: list[str], folder: str) -> bool:
    """Whether there are several folders in the folder of that name."""
    return bool(levels_of([name for name in names if folder in PurePosixPath(name).parent.parts]))


def told(others: list[str]) -> str:
    """Names of folders after "there"; at most three of them."""
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return f"{'is' if len(others) == 1 else 'are'} {', '.join(others[:3])}{more}"


def differ(names: Iterable[str | None]) -> bool:
    """Whether there are several names."""
    return len({*names} - {None}) > 1


def choose(names: Iterable[str], root: Path) -> list[str]:
    """The names that are pictures, sorted; prints what other files there are."""
    names = sorted(names)
    pictures = list(filter(is_picture, names))
    others = Counter(suffix(name) for name in names if not is_picture(name))
    ignored = f"; {others.total()} other files ignored, with ending {', '.join(sorted(others))}" if others else ""
    if not pictures:
        raise InputError(f"no pictures in {root}, which end in {' '.join(ENDINGS)}{ignored}")
    if lost := lost_folders(names):
        (folder, ending), more = next(iter(lost.items())), f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise InputError(
            f"{root} holds the folder {folder}{more} without pictures, only files that end in {ending}: convert them "
            f"into pictures, which end in {' '.join(ENDINGS)}, or move the folder away"
        )
    print(f"{len(pictures)} pictures in {root}{ignored}")
    return pictures


def lost_folders(names: list[str]) -> dict[str, str]:
    """The folders of a class or part that hold files but no picture: an ending of these files by path of the folder.

    Folders of notes, annotation and archives are none.
    """
    try:
        table = folder_labels([name for name in names if not is_note(name)])
    except InputError:  # what lies beside parts is not theirs; the pictures among it are told later
        return {}
    places = {name: "/".join(value for value in row if isinstance(value, str)) for name, *row in table.itertuples()}
    pictured = {place for name, place in places.items() if is_picture(name)}
    return {place: suffix(name) for name, place in places.items() if place and place not in pictured}


def suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower() or "none"


def is_note(name: str) -> bool:
    """Whether a file is named like text, annotation or an archive."""
    path = PurePosixPath(name.lower())
    return path.suffix in BESIDE_PICTURES or path.name in NOTES


def is_picture(name: str) -> bool:
    """Whether a path has one of the `ENDINGS`, in upper or lower case."""
    return name.lower().endswith(ENDINGS)


def is_text(name: str) -> bool:
    """Whether a file name is free of control characters and of surrogates, which stand for bytes that are no UTF-8."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
