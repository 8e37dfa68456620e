"""CelebA: aligned faces with attributes, landmarks, identities and official parts.

Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild, ICCV 2015. 202,599 JPEGs of 178x218 pixels, 10,177
people, for non-commercial research. `raw` holds `img_align_celeba.zip` and the available annotation files in the
official format, and `rejects.csv` where images of a folder could not be read.
"""

import io
import re
import shutil
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources import LANDMARKS
from vitpipe.sources.archive import (
    UNREADABLE,
    Opener,
    is_visible,
    open_files,
    open_zip,
    pack,
    read_file,
    resolve_root,
    why_unreadable,
    zip_members,
)
from vitpipe.sources.download import download
from vitpipe.sources.images import report_rejects
from vitpipe.sources.torchvision import import_torchvision
from vitpipe.sources.zip_images import ZipImages

ARCHIVE = "img_align_celeba.zip"
PARTITION, IDENTITY = "list_eval_partition.txt", "identity_CelebA.txt"
LANDMARK_FILE, ATTRIBUTES = "list_landmarks_align_celeba.txt", "list_attr_celeba.txt"
KINDS = {PARTITION: "int8", IDENTITY: "Int64", LANDMARK_FILE: "float32", ATTRIBUTES: "int8"}
"""Type of the numbers in each annotation file."""
COLUMN = {PARTITION: "official", IDENTITY: "identity"}
"""What the files without a header hold."""
PARTS = {0: "train", 1: "val", 2: "test"}
DRIVE = "https://drive.usercontent.google.com/download?id={id}&export=download&confirm=t"
MEAN_LANDMARKS = (69.0, 111.5, 108.1, 111.2, 88.7, 135.3, 70.8, 151.7, 105.8, 151.8)
"""Mean over 43 annotated images, in the order of `LANDMARKS`; eyes scatter by 2 pixels, noses by 6."""
SAMPLE = re.compile(r"\d{6,}\.jpg")


def fetch(data: Data, seed: int, raw: Path) -> None:
    """Fills `raw` from `data.root`, or downloads the official files where that is null.

    Raises:
        InputError: no images found, an archive that cannot be read, annotation that does not belong to the images,
            or a failed download.
    """
    shown: dict[str, str] = {}
    if data.root is None:
        download_official(raw)
    else:
        shown = take(resolve_root(data.root), raw)
    report(open_images(raw).members, {shown.get(name, name): rows for name, rows in annotations(raw, shown).items()})


def samples(raw: Path) -> pd.DataFrame:
    """One row per image in the archive, indexed by file name, sorted.

    Columns, each present if its file is: `official` (train, val, test), `identity` (Int64), the 40 attributes (int8,
    1 or -1). Where an image has no row in a file, they are missing values, and 0 for attributes. The landmarks (pixels
    in the 178x218 image) are always present; `landmarks` says whether they are `annotated` or the `mean` of others.
    """
    table = pd.DataFrame(index=pd.Index(sorted(open_images(raw).members), name="id"))
    for name, rows in annotations(raw).items():
        table = table.join(rows.reindex(table.index, **({"fill_value": 0} if name == ATTRIBUTES else {})))
    table = table.reindex(columns=[*table.columns.difference(LANDMARKS, sort=False), *LANDMARKS])
    table["landmarks"] = np.where(table["nose_x"].isna(), "mean", "annotated")
    return table.fillna(dict(zip(LANDMARKS, MEAN_LANDMARKS, strict=True)))


def open_images(raw: Path) -> ZipImages:
    """The pictures by file name."""
    return ZipImages(raw / ARCHIVE, sample_of)


def sample_of(path: str) -> str | None:
    """The sample id of a file or zip member, its name without the folder; None if it is no such picture."""
    name = path.rpartition("/")[2]
    return name if SAMPLE.fullmatch(name) and is_visible(path) else None


def members(paths: Iterable[str], where: Path) -> dict[str, str]:
    """The path of each sample. Raises InputError where there is none, or one twice."""
    found: dict[str, str] = {}
    for path in paths:
        if (sample := sample_of(path)) is not None:
            if sample in found:
                raise InputError(f"{where} holds {sample} twice, as {found[sample]} and {path}: keep one")
            found[sample] = path
    if not found:
        raise InputError(f"{where} holds no CelebA images, which are named like 000001.jpg or lie in {ARCHIVE}")
    return found


def annotations(raw: Path, shown: Mapping[str, str] | None = None) -> dict[str, pd.DataFrame]:
    """The annotation files in `raw` by name, each as table indexed by image file name; `shown` are names to tell."""
    told = shown or {}
    return {name: read_annotation(raw / name, told.get(name, "")) for name in KINDS if (raw / name).exists()}


def read_annotation(path: Path, shown: str = "") -> pd.DataFrame:
    """Reads a file in the official format: rows of an image file name and numbers, separated by spaces.

    Attributes and landmarks start with a line that counts the rows and one that names the columns.

    Args:
        shown: the name of the user's file that it was made from, for messages.

    Raises:
        InputError: the file is truncated, holds anything else than numbers, or has an image twice.
    """
    headed = path.name not in COLUMN
    try:
        with path.open(encoding="utf-8") as file:
            count, names = (int(file.readline()), file.readline().split()) if headed else (None, [COLUMN[path.name]])
        kinds = {"id": str} | dict.fromkeys(names, KINDS[path.name])
        skip = 2 if headed else 0
        rows = pd.read_csv(path, sep=r"\s+", skiprows=skip, header=None, names=list(kinds), dtype=kinds, index_col="id")
        if rows.isna().any(axis=None):
            raise ValueError("a row is too short")
        if headed and len(rows) != count:
            raise ValueError(f"its first line announces {count} rows, but {len(rows)} follow")
        if path.name == LANDMARK_FILE and tuple(names) != LANDMARKS:
            raise ValueError(f"its columns must be {' '.join(LANDMARKS)}")
        if path.name == ATTRIBUTES and not rows.isin([-1, 1]).all(axis=None):
            raise ValueError("attributes must be 1 or -1")
        if path.name == PARTITION:
            if not rows["official"].isin(PARTS).all():
                raise ValueError("parts must be 0, 1 or 2")
            rows["official"] = rows["official"].map(PARTS)
        if rows.index.has_duplicates:
            raise ValueError(f"it holds {rows.index[rows.index.duplicated()][0]} twice")
        return rows
    except (ValueError, KeyError) as error:  # ValueError: also pandas' parser errors; KeyError: rows too long
        problem = "its rows are too long" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(f"{shown or path.name} is no annotation file as CelebA has it: {problem}") from None


def report(images: Iterable[str], tables: dict[str, pd.DataFrame]) -> None:
    """Prints for each annotation file how many rows and images fit; refuses annotation of other images."""
    present = pd.Index(sorted(images))
    for name, rows in tables.items():
        joined = int(rows.index.isin(present).sum())
        if joined == 0:
            raise InputError(f"{name} has {len(rows)} rows, but none for any of the {len(present)} images")
        print(f"{name}: {len(rows) - joined} rows without image, {len(present) - joined} images without row")


def take(root: Path, raw: Path) -> dict[str, str]:
    """Copies images and annotation from a folder or zip in one of the usual layouts; see `take_annotations`."""
    base = root / "celeba" if (root / "celeba").is_dir() else root
    with open_files(base) as files:
        archive = base if base.is_file() else next((base / path for path in files if path.endswith(ARCHIVE)), None)
        if archive is not None:
            with open_zip(archive) as content:
                members([path for path, _ in zip_members(content)], archive)
            shutil.copyfile(archive, raw / ARCHIVE)
        else:
            named = {f"img_align_celeba/{sample}": files[path] for sample, path in members(files, base).items()}
            report_rejects(pack(named, raw / ARCHIVE), len(named), str(base), raw)
        texts = {path.rpartition("/")[2]: opener for path, opener in files.items()}
        while base.is_file() or base.name == "img_align_celeba":  # annotation may also lie next to the images
            base = base.parent
            texts = {path.name: partial(path.open, "rb") for path in base.iterdir() if path.is_file()} | texts
        return take_annotations(texts, root, raw)


def take_annotations(texts: Mapping[str, Opener], root: Path, raw: Path) -> dict[str, str]:
    """Copies the annotation files among `texts`; converts Kaggle's csv into the official format.

    Returns:
        The name of the user's file by that of the file in `raw`.
    """
    taken = {}
    for name in KINDS:
        for found in (name, Path(name).with_suffix(".csv").name):
            if found in texts:
                try:
                    content = read_file(texts[found])
                except UNREADABLE as error:
                    raise InputError(f"{found} in {root} {why_unreadable(error)}") from None
                (raw / name).write_bytes(content if found == name else official_format(content, name))
                taken[name] = found
                break
    return taken


def official_format(content: bytes, name: str) -> bytes:
    """A csv with header (image_id, ...), as Kaggle has them, in the text format of the official file `name`."""
    try:
        rows = pd.read_csv(io.BytesIO(content), dtype=str)
    except ValueError as error:
        raise InputError(f"{Path(name).stem}.csv is no csv: {' '.join(str(error).split())}") from None
    body = rows.to_csv(sep=" ", header=False, index=False, lineterminator="\n")
    head = "" if name in COLUMN else f"{len(rows)}\n{' '.join(rows.columns[1:])}\n"
    return (head + body).encode()


def download_official(raw: Path) -> None:
    """Downloads the official files by the Google Drive ids and MD5 sums that torchvision lists."""
    for file_id, md5, name in import_torchvision().datasets.CelebA.file_list:
        if name in (ARCHIVE, *KINDS):
            download(DRIVE.format(id=file_id), raw / name, md5)
