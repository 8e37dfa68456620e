"""Data sets whose annotation lists their pictures: of what lies in a folder, zip or tar only these are taken."""

from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources.archive import UNREADABLE, list_files, open_files, pack, read_file, read_tar, why_unreadable
from vitpipe.sources.images import picture_size, report_rejects

ARCHIVE = "images.zip"


def inner_folder(root: Path, folder: str) -> Path:
    """torchvision's folder of this name in `root`, or `root` itself where there is none."""
    return root / folder if (root / folder).is_dir() else root


def take_texts(root: Path, raw: Path, names: Collection[str], archive: str, wanted: str) -> None:
    """Copies small files into `raw`, from any depth of `root`, or of a tar called `archive` in it.

    Args:
        wanted: what `data.root` must hold, for the message.

    Raises:
        InputError: a file is missing, there twice, or can't be read.
    """
    with open_files(root) as files:
        found = by_name(files, {*names, archive}, root)
        if not found.keys() >= {*names} and archive in found and root.is_dir():
            return take_texts(root / found[archive], raw, names, "", wanted)
        for name in names:
            if name not in found:
                raise InputError(f"{root} lacks {name}: data.root must hold {wanted}")
            try:
                content = read_file(files[found[name]])
            except UNREADABLE as error:
                raise InputError(f"{root}/{found[name]} {why_unreadable(error)}: download or copy it again") from None
            (raw / name).write_bytes(content)


def take_pictures(root: Path, raw: Path, names: Collection[str], archive: str, data: Data) -> None:
    """Packs pictures into `raw`/images.zip, from any depth of `root`, or where none is there from a tar in it.

    Tells once how many are missing, and how many are smaller than `data.size`: those will be enlarged.

    Args:
        names: file names of the pictures.
        archive: file name of the tar.

    Raises:
        InputError: none of them is there, one is there twice, or more than 1 % are no pictures.
    """
    small = []

    def check(content: bytes) -> None:
        small.append(min(picture_size(content)) < data.size)

    with open_files(root) as files, TemporaryDirectory(dir=raw) as folder:
        found = by_name(files, {*names, archive}, root)
        packed = found.pop(archive, None)
        openers = {name: files[path] for name, path in found.items()}
        if not openers and packed and root.is_dir():
            unpack(root / packed, names, Path(folder))
            openers = {name: partial(path.open, "rb") for name, path in list_files(Path(folder)).items()}
        if not openers:
            raise InputError(
                f"{root} holds none of the {len(names)} pictures of data.name {data.name}, such as {min(names)}, "
                f"and no {archive} with them"
            )
        rejects = pack(openers, raw / ARCHIVE, check)
    if missing := len(names) - len(openers):
        print(f"{missing} of {len(names)} listed pictures are not in {root}: the others are taken")
    if any(small):
        print(f"{sum(small)} of {len(openers)} pictures are smaller than data.size {data.size} and will be enlarged")
    report_rejects(rejects, len(openers), str(root), raw)


def by_name(paths: Iterable[str], names: Collection[str], where: Path) -> dict[str, str]:
    """The path by file name, of those in `names`. Raises InputError where one is there twice."""
    found: dict[str, str] = {}
    for path in paths:
        if (name := PurePosixPath(path).name) in names:
            if name in found:
                raise InputError(f"{where} holds {name} twice, as {found[name]} and {path}: keep one")
            found[name] = path
    return found


def unpack(path: Path, names: Collection[str], folder: Path) -> None:
    """Writes the files of a tar with these names into `folder`, whatever folders they are in."""
    for member, content in read_tar(path):
        if (name := PurePosixPath(member).name) in names:
            (folder / name).write_bytes(content)
