"""Files in folders and archives: opened by name, packed into zips; and the place that `data.root` names."""

import locale
import lzma
import os
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

from vitpipe.errors import InputError
from vitpipe.progress import progress
from vitpipe.sources.images import UnreadableImage

Opener = Callable[[], Any]
"""Opens a file for reading bytes."""

LARGEST_FILE = 2**30
"""Bytes. No picture is larger; a zip member that claims to be is a trap or damaged."""

UNREADABLE = (BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OSError)
"""Raised when a file or a member of an archive is damaged, encrypted (RuntimeError), missing, forbidden, or compressed
in a way that Python can't undo (NotImplementedError, a RuntimeError)."""

BY_PRODUCTS = ("__MACOSX", "@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN")
"""Folders that macOS, Synology's and QNAP's disk stations and Windows put among a user's files."""

PART_NAME = re.compile(r"\.(z\d{2,}|\d{3,})$", re.IGNORECASE)
SPLIT = (
    "is one part of a split zip: join the parts, for instance with `cat NAME.zip.* > all.zip` (7-Zip's) or "
    "`zip -s 0 NAME.zip --out all.zip`, and let data.root point at all.zip"
)

UNSAFE = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")
"""Absolute paths and paths that lead out of a folder, on any system."""


@contextmanager
def open_files(root: Path) -> Iterator[dict[str, Opener]]:
    """The visible files at any depth of a folder, zip or tar: by relative posix path, what opens them.

    Raises:
        InputError: a folder can't be listed, the archive is none or damaged, or two members of a zip have one name.
    """
    if root.is_dir():
        yield {plain_path(name): partial(path.open, "rb") for name, path in list_files(root).items()}
    elif root.name.endswith((".tar", ".tar.gz", ".tgz")):
        try:
            tar = tarfile.open(root)  # noqa: SIM115
            members = {plain_path(member.name): member for member in tar.getmembers() if member.isfile()}
        except UNREADABLE as error:
            raise InputError(f"{root} {why_unreadable(error)}: download or copy it again") from None
        with tar:
            yield {name: partial(tar.extractfile, member) for name, member in members.items() if is_visible(name)}
    else:
        with open_zip(root) as archive:
            files = [(name, info) for name, info in zip_members(archive) if is_visible(name)]
            repeated, count = Counter(name for name, _ in files).most_common(1)[0] if files else ("", 0)
            if count > 1:
                raise InputError(f"{root} holds {repeated!a} twice: keep one")
            yield {name: partial(archive.open, info) for name, info in files}


def zip_members(archive: ZipFile) -> list[tuple[str, ZipInfo]]:
    """The files in a zip by relative posix path, see `plain_path`; a path may come twice."""
    files = [(info.filename.replace("\\", "/"), info) for info in archive.infolist()]
    return [(plain_path(name), info) for name, info in files if not name.endswith("/")]


def plain_path(name: str) -> str:
    """A member's name as posix path: without the `./` of some programs, and with `/` for the backslash of others."""
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def read_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each visible file in a tar, in its order.

    A compressed tar can't be read in another order without starting again for every file.

    Raises:
        InputError: it is no tar or damaged.
    """
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                name = plain_path(member.name)
                if member.isfile() and is_visible(name):
                    yield name, read_file(partial(tar.extractfile, member))
    except UNREADABLE as error:
        raise InputError(f"{path} {why_unreadable(error)}: download or copy it again") from None


def open_zip(path: Path) -> ZipFile:
    """Opens a zip for reading.

    Raises:
        InputError: the file is no zip, a truncated zip, one part of a split zip or a web page, or the path of a member
            is absolute or leads out of the folder with `..`, on any system.
    """
    try:
        archive = ZipFile(path)
    except (BadZipFile, ValueError, NotImplementedError):
        with path.open("rb") as file:
            start = file.read(512)
        if is_web_page(start):
            problem = (
                "is an HTML page, not a zip: Google Drive shows such a page when its download quota is used up; "
                "download the file with a browser and let data.root point at it"
            )
        elif PART_NAME.search(path.name) or start.startswith(b"PK\x07\x08") or last_disk(path):
            problem = SPLIT
        elif start.startswith(b"PK"):
            problem = f"is a damaged zip, cut off after {path.stat().st_size} bytes: download or copy it again"
        else:
            problem = "is no zip"
        raise InputError(f"{path} {problem}") from None
    if last_disk(path) or any(info.header_offset < 0 for info in archive.infolist()):  # only the end is here
        archive.close()
        raise InputError(f"{path} {SPLIT}")
    if name := next(filter(UNSAFE.search, archive.namelist()), None):
        archive.close()
        raise InputError(f"{path} is refused: its member {name!r} would be written outside of the target folder")
    return archive


def last_disk(path: Path) -> int:
    """The number of the part that ends a zip, from its end record; 0 where the zip is in one part or has no end."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2**16 - 22))  # the record with the longest comment
        _, found, record = file.read().rpartition(b"PK\x05\x06")
    number = int.from_bytes(record[:2], "little") if found else 0
    return 0 if number == 0xFFFF else number  # larger zips have it elsewhere, and Python reads it there


def is_web_page(start: bytes) -> bool:
    """Whether a file that starts with these bytes is an HTML page."""
    start = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html"))


def pack(
    files: Mapping[str, Opener], target: Path, check: Callable[[bytes], object] = lambda content: None
) -> dict[str, str]:
    """Zips files uncompressed, sorted and without dates, so that equal files give equal zips.

    Args:
        check: is called with the content of each file; raises UnreadableImage to leave it out.

    Returns:
        The reason by member name of files that were left out or can't be read.
    """
    rejects: dict[str, str] = {}
    with ZipFile(target, "w") as archive, progress(len(files), "packing", "images") as bar:
        for name in sorted(files):
            bar.update()
            try:
                content = read_file(files[name])
                check(content)
            except UnreadableImage as error:
                rejects[name] = str(error)
            except UNREADABLE as error:
                rejects[name] = why_unreadable(error)
            else:
                archive.writestr(ZipInfo(name), content)
    return rejects


def read_file(opener: Opener) -> bytes:
    """The content of a file, of at most `LARGEST_FILE` bytes. Raises one of `UNREADABLE`."""
    with opener() as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise OSError(f"larger than {LARGEST_FILE} bytes")
    return content


def why_unreadable(error: Exception) -> str:
    """One of `UNREADABLE` as a reason that follows the file's name, without any path."""
    text = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    return f"cannot be read ({text})"


def is_visible(name: str) -> bool:
    """Whether no part of a relative posix path is hidden, or one of `BY_PRODUCTS`."""
    return not any(part.startswith(".") or part in BY_PRODUCTS for part in name.split("/"))


def list_files(folder: Path) -> dict[str, Path]:
    """The visible files at any depth below `folder`, path by relative posix path, sorted.

    Links to files are followed, links to folders are not. Raises InputError where a folder can't be listed.
    """

    def refuse(error: OSError) -> None:  # without it os.walk skips the folder silently
        raise InputError(f"{error.filename} cannot be listed ({error.strerror}): make it readable, or move it away")

    found = {}
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = filter(is_visible, folders)
        for path in (Path(place, name) for name in names if is_visible(name)):
            found[path.relative_to(folder).as_posix()] = path
    return dict(sorted(found.items()))


def repository_root() -> Path:
    """The folder that relative paths in the settings count from: the working directory of a stage.

    Of a queued or `--temp` experiment, which DVC runs in a copy below `.dvc/tmp/exps`, it is the original repository.
    """
    here = Path.cwd()
    copies = [folder for folder in here.parents if folder.parts[-3:] == (".dvc", "tmp", "exps")]
    return copies[0].parents[2] if copies else here


def resolve_root(root: str) -> Path:
    """`data.root` as an absolute path, see `located`. Raises InputError where there is nothing."""
    path = located(root, "data.root")
    if not path.exists():
        raise InputError(f"data.root is {root!r}, but there is no {path}: give an existing folder or zip")
    return path


def located(name: str, key: str) -> Path:
    """The path that a setting names as an absolute one, whether there is something or not; see `repository_root`.

    Where nothing is there, the bytes are tried that a shell with another encoding than UTF-8 may have meant.

    Raises:
        InputError: it can be no path here.
    """
    spellings = [name]
    with suppress(UnicodeEncodeError):
        spellings.append(os.fsdecode(name.encode(locale.getencoding())))
    try:
        # links are kept: the names of a file and of its neighbours are those that the user sees
        paths = [Path(os.path.abspath(repository_root() / Path(spelling).expanduser())) for spelling in spellings]
        return next((path for path in paths if path.exists()), paths[0])
    except (RuntimeError, ValueError) as error:  # there is no such user, a loop of links; a null byte
        raise InputError(f"{key} is {name!r}, which is no path here ({error}): give that of a folder or file") from None
