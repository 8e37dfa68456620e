"""Zips, which keep 200,000 pictures in one file; and where `data.root` points."""

import lzma
import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from vitpipe.errors import InputError
from vitpipe.files import atomic_file
from vitpipe.progress import progress

LARGEST_MEMBER = 2**30
"""Bytes. No picture file is larger; a zip member that claims to be is a trap or damaged."""

UNREADABLE = (BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OSError)
"""What reading a file or zip member raises when it is damaged, encrypted (RuntimeError), compressed in
a way that Python can't undo (NotImplementedError, a RuntimeError), gone or not ours to read."""


def open_zip(path: Path) -> ZipFile:
    """Opens a zip for reading.

    Raises:
        InputError: the file is no zip, a cut-off zip or a web page, or one of its members has an
            absolute path or one that climbs out with `..`.
    """
    try:
        archive = ZipFile(path)
    except (BadZipFile, ValueError, NotImplementedError):
        raise InputError(not_a_zip(path)) from None
    for name in archive.namelist():
        if unsafe(name):
            archive.close()
            raise InputError(f"{path} is refused: its member {name!r} would be written outside of the target folder")
    return archive


def unsafe(name: str) -> bool:
    """Whether a zip member's name leads out of the folder it is unpacked in, on any system."""
    windows = PureWindowsPath(name)
    return bool(windows.drive or windows.root or ".." in windows.parts or PurePosixPath(name).is_absolute())


def not_a_zip(path: Path) -> str:
    """What a file that cannot be opened as zip is instead, and what to do."""
    with path.open("rb") as file:
        start = file.read(512)
    if is_web_page(start):
        return (
            f"{path} is an HTML page, not a zip: Google Drive shows such a page when its download quota is used up; "
            "download the file with a browser and let data.root point at it"
        )
    if start.startswith(b"PK"):
        return f"{path} is a damaged zip, cut off after {path.stat().st_size} bytes: download or copy it again"
    return f"{path} is no zip"


def is_web_page(start: bytes) -> bool:
    """Whether a file that starts so is an HTML page."""
    start = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html"))


def pack(files: Mapping[str, Path], target: Path) -> dict[str, str]:
    """Zips `files`, a path by member name: uncompressed, sorted and undated, so equal files give equal zips.

    Returns:
        The reason by member name of files left out because they can't be opened.
    """
    rejects: dict[str, str] = {}
    with (
        atomic_file(target) as temporary,
        ZipFile(temporary, "w", ZIP_STORED) as archive,
        progress(len(files), "packing", "images") as bar,
    ):
        for name in sorted(files):
            bar.update()
            try:
                source = files[name].open("rb")
            except OSError as error:
                rejects[name] = why_unreadable(error)
                continue
            info = ZipInfo(name)
            info.file_size = files[name].stat().st_size
            with source, archive.open(info, "w") as member:
                shutil.copyfileobj(source, member, 1 << 20)
    return rejects


def why_unreadable(error: Exception) -> str:
    """One of the `UNREADABLE` as a reason that follows the file's name, without any path."""
    said = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    return f"cannot be read ({said})"


def is_visible(name: str) -> bool:
    """Whether no part of a relative posix path is hidden or macOS's by-product."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def is_picture(name: str, endings: tuple[str, ...]) -> bool:
    """Whether a visible path has one of the `endings`, in upper or lower case."""
    return is_visible(name) and name.lower().endswith(endings)


def list_files(folder: Path, wanted: Callable[[str], bool]) -> dict[str, Path]:
    """The wanted files at any depth below `folder`, path by relative posix path, sorted.

    Links to files are followed, links to folders are not: they may lead in circles. Hidden folders
    are passed by.

    Raises:
        InputError: a folder can't be listed.
    """
    found = {}
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if is_visible(name)]
        for name in names:
            path = Path(place, name)
            relative = path.relative_to(folder).as_posix()
            if wanted(relative):
                found[relative] = path
    return dict(sorted(found.items()))


def refuse(error: OSError) -> None:
    """Stops where `os.walk` would skip a folder in silence."""
    raise InputError(f"{error.filename} cannot be listed ({error.strerror}): make it readable, or move it away")


def repository_root() -> Path:
    """The folder that relative paths in the settings count from.

    A stage runs in the repository's root, except that DVC runs queued and `--temp` experiments in
    a copy below the repository's `.dvc/tmp/exps`, from where the files around it are not seen.
    """
    here = Path.cwd()
    copies = [folder for folder in here.parents if folder.parts[-3:] == (".dvc", "tmp", "exps")]
    return copies[0].parents[2] if copies else here


def resolve_root(root: str) -> Path:
    """`data.root` as an absolute path; a relative one counts from the repository's root.

    Raises:
        InputError: there is nothing at that path.
    """
    path = (repository_root() / Path(root).expanduser()).resolve()
    if not path.exists():
        raise InputError(f"data.root is {root!r}, but there is no {path}: give an existing folder or zip")
    return path
