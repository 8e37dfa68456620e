"""CelebA: aligned faces with attributes, landmarks, identities and official parts.

Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild, ICCV 2015. 202,599 JPEGs of
178x218 pixels, 10,177 people, for non-commercial research. `raw` holds `img_align_celeba.zip` and
those of the annotation files that there are, all in the official format; and `rejects.csv` where
images of a folder could not be read.
"""

import io
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd

from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.files import write_csv
from vitpipe.sources import LANDMARKS
from vitpipe.sources.archive import (
    UNREADABLE,
    is_visible,
    list_files,
    open_zip,
    pack,
    resolve_root,
    why_unreadable,
)
from vitpipe.sources.images import check_rejects
from vitpipe.sources.zip_images import ZipImages, member_names

ARCHIVE, REJECTS = "img_align_celeba.zip", "rejects.csv"
PARTITION, IDENTITY = "list_eval_partition.txt", "identity_CelebA.txt"
LANDMARK_FILE, ATTRIBUTES = "list_landmarks_align_celeba.txt", "list_attr_celeba.txt"
ANNOTATIONS = (PARTITION, IDENTITY, LANDMARK_FILE, ATTRIBUTES)
PARTS = {0: "train", 1: "val", 2: "test"}
DRIVE = "https://drive.usercontent.google.com/download?id={id}&export=download&confirm=t"
MEAN_LANDMARKS = (69.0, 111.5, 108.1, 111.2, 88.7, 135.3, 70.8, 151.7, 105.8, 151.8)
"""Mean over 43 annotated images, in the order of `LANDMARKS`; eyes scatter by 2 pixels, noses by 6."""
SAMPLE = re.compile(r"\d{6,}\.jpg")


def fetch(data: Data, seed: int, raw: Path) -> None:
    """Fills `raw` from `data.root`, or downloads the official files where that is null.

    Raises:
        InputError: no images found, an archive that cannot be read, annotation that does not
            belong to the images, or a failed download.
    """
    if data.root is None:
        download_official(raw)
    else:
        take(resolve_root(data.root), raw)
    with open_zip(raw / ARCHIVE) as archive:
        report(members(archive).keys(), annotations(raw))


def samples(raw: Path) -> pd.DataFrame:
    """One row per image in the archive, indexed by file name, sorted.

    Columns, each there when its file is: `official` (train, val, test), `identity` (Int64), the
    40 attributes (int8, 1 or -1). Where an image has no row in a file, they are missing values, and
    0 for attributes. The landmarks (float, pixels in the 178x218 image) are always there, since the
    images are aligned: `landmarks` says whether they are `annotated` or the `mean` of others.
    """
    found = {sample for member in member_names(raw / ARCHIVE) if (sample := sample_of(member)) is not None}
    table = pd.DataFrame(index=pd.Index(sorted(found), name="id"))
    for name, rows in annotations(raw).items():
        rows = rows.reindex(table.index, fill_value=0) if name == ATTRIBUTES else rows.reindex(table.index)
        table = table.join(rows)
    table = table.reindex(columns=[*table.columns.difference(LANDMARKS, sort=False), *LANDMARKS])
    table["landmarks"] = np.where(table["nose_x"].isna(), "mean", "annotated")
    return table.fillna(dict(zip(LANDMARKS, MEAN_LANDMARKS, strict=True)))


def open_images(raw: Path) -> ZipImages:
    """The pictures by file name."""
    return ZipImages(raw / ARCHIVE, sample_of)


def sample_of(member: str) -> str | None:
    """The sample id of a zip member: its file name, wherever in the zip it lies; None where it is no such picture."""
    name = member.rpartition("/")[2]
    return name if SAMPLE.fullmatch(name) and is_visible(member) else None


def members(archive: ZipFile) -> dict[str, str]:
    """Zip member by sample id."""
    found: dict[str, str] = {}
    for member in archive.namelist():
        if (sample := sample_of(member)) is not None:
            if sample in found:
                raise InputError(f"{archive.filename} holds {sample} twice, as {found[sample]} and {member}: keep one")
            found[sample] = member
    if not found:
        raise InputError(f"{archive.filename} holds no CelebA images, which are named like 000001.jpg")
    return found


def annotations(raw: Path) -> dict[str, pd.DataFrame]:
    """The annotation files in `raw` by name, each as table indexed by image file name."""
    return {name: read_annotation(raw / name) for name in ANNOTATIONS if (raw / name).exists()}


def read_annotation(path: Path) -> pd.DataFrame:
    """Reads a file in the official format.

    Attributes and landmarks start with a line that counts the rows and one that names the columns.

    Raises:
        InputError: the file is cut off, holds anything else than numbers, or has an image twice.
    """
    try:
        if path.name in (ATTRIBUTES, LANDMARK_FILE):
            with path.open() as file:
                count, names = int(file.readline()), file.readline().split()
            kind = np.int8 if path.name == ATTRIBUTES else np.float32
            rows = read_rows(path, names, kind, skip=2)
            if len(rows) != count:
                raise ValueError(f"its first line announces {count} rows, but {len(rows)} follow")
            if path.name == ATTRIBUTES and not rows.isin([-1, 1]).all(axis=None):
                raise ValueError("attributes must be 1 or -1")
            if path.name == LANDMARK_FILE and tuple(names) != LANDMARKS:
                raise ValueError(f"its columns must be {' '.join(LANDMARKS)}")
        elif path.name == IDENTITY:
            rows = read_rows(path, ["identity"], np.int64, skip=0).astype("Int64")
        else:
            rows = read_rows(path, ["official"], np.int8, skip=0)
            if not rows["official"].isin(PARTS).all():
                raise ValueError("parts must be 0, 1 or 2")
            rows["official"] = rows["official"].map(PARTS)
        if rows.index.has_duplicates:
            raise ValueError(f"it holds {rows.index[rows.index.duplicated()][0]} twice")
        return rows
    except (ValueError, KeyError) as error:  # ValueError: among others pandas' parser errors; KeyError: rows too long
        problem = "its rows are too long" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(f"{path.name} is no annotation file as CelebA has it: {problem}") from None


def read_rows(path: Path, names: list[str], kind: type[np.generic], skip: int) -> pd.DataFrame:
    """Rows of an image file name and as many numbers as `names` has, separated by spaces."""
    columns = {"id": str} | dict.fromkeys(names, kind)
    rows = pd.read_csv(path, sep=r"\s+", skiprows=skip, header=None, names=list(columns), dtype=columns, index_col="id")
    if rows.isna().any(axis=None):
        raise ValueError("a row is too short")
    return rows


def report(images: Iterable[str], tables: dict[str, pd.DataFrame]) -> None:
    """Prints how images and annotation fit, by file name; refuses annotation of other images."""
    present = pd.Index(sorted(images))
    for name, rows in tables.items():
        joined = int(rows.index.isin(present).sum())
        if joined == 0:
            raise InputError(f"{name} has {len(rows)} rows, but none for any of the {len(present)} images")
        print(f"{name}: {len(rows) - joined} rows without image, {len(present) - joined} images without row")


def take(root: Path, raw: Path) -> None:
    """Copies images and annotation from a folder or zip in one of the usual layouts."""
    base = root / "celeba" if (root / "celeba").is_dir() else root
    places = [base, base / "Anno", base / "Eval"] if root.is_dir() else [root.parent]
    inner = root
    while inner.name == "img_align_celeba":  # the image folder itself: its annotation lies beside it
        inner = inner.parent
        places.append(inner)
    candidates = [folder / name for folder in (base, base / "Img") for name in (ARCHIVE, "img_align_celeba")]
    images = next((path for path in candidates if path.exists()), base)
    if images.is_dir():
        files = list_images(images)
        rejects = pack(files, raw / ARCHIVE)
        check_rejects(rejects, len(files), str(images))
        if rejects:
            write_csv(raw / REJECTS, [{"id": name, "reason": reason} for name, reason in rejects.items()])
        take_annotations(places, None, raw)
    else:
        with open_zip(images) as archive:
            members(archive)
            shutil.copyfile(images, raw / ARCHIVE)
            take_annotations(places, archive, raw)


def list_images(folder: Path) -> dict[str, Path]:
    """Path by zip member name of the images anywhere below `folder`."""
    found: dict[str, Path] = {}
    for path in list_files(folder, is_visible).values():
        if SAMPLE.fullmatch(path.name):
            member = f"img_align_celeba/{path.name}"
            if member in found:
                raise InputError(f"{folder} holds {path.name} twice, as {found[member]} and {path}: keep one")
            found[member] = path
    if not found:
        raise InputError(f"{folder} holds neither {ARCHIVE} nor CelebA images, which are named like 000001.jpg")
    return found


def take_annotations(places: list[Path], archive: ZipFile | None, raw: Path) -> None:
    """Copies every annotation file found, in the zip or else in `places`; Kaggle's csv become official."""
    for name in ANNOTATIONS:
        for variant in (name, Path(name).with_suffix(".csv").name):
            content = find(variant, places, archive)
            if content is not None:
                (raw / name).write_bytes(official_format(content, variant) if variant != name else content)
                break


def find(name: str, places: list[Path], archive: ZipFile | None) -> bytes | None:
    """The content of the file `name`, None when it is nowhere."""
    if archive:
        for member in archive.namelist():
            if member.rpartition("/")[2] == name and is_visible(member):
                try:
                    return archive.read(member)
                except UNREADABLE as error:
                    raise InputError(f"{member} in {archive.filename} {why_unreadable(error)}") from None
    return next((path.read_bytes() for place in places if (path := place / name).is_file()), None)


def official_format(content: bytes, name: str) -> bytes:
    """Turns a csv with header (image_id, ...), as Kaggle has them, into the official text format."""
    try:
        rows = pd.read_csv(io.BytesIO(content), dtype=str)
    except ValueError as error:
        raise InputError(f"{name} is no csv: {' '.join(str(error).split())}") from None
    body = rows.to_csv(sep=" ", header=False, index=False, lineterminator="\n")
    headed = name.startswith(("list_attr", "list_landmarks"))
    return ((f"{len(rows)}\n{' '.join(rows.columns[1:])}\n" if headed else "") + body).encode()


def download_official(raw: Path, url: str = DRIVE) -> None:
    """Downloads the official files; their Google Drive ids and MD5 sums are those torchvision lists.

    Args:
        raw: the folder to fill.
        url: the address of a file, with `{id}` for its id.
    """
    from vitpipe.sources.download import download
    from vitpipe.sources.torchvision import import_torchvision

    import_torchvision()
    from torchvision.datasets import CelebA

    for file_id, md5, name in CelebA.file_list:
        if name in (ARCHIVE, *ANNOTATIONS):
            download(url.format(id=file_id), raw / name, md5)
