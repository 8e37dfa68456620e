"""Downloads that survive broken connections and killed processes, and are what they should be."""

import fcntl
import hashlib
import re
import shutil
import time
from pathlib import Path
from typing import BinaryIO

import requests

from vitpipe.errors import InputError
from vitpipe.progress import progress
from vitpipe.sources.archive import is_web_page, repository_root

BUSY = (408, 429, 500, 502, 503, 504)
"""HTTP status codes that may be gone the next moment."""

TIMEOUT = (15, 60)
"""Seconds to connect and between two pieces of the answer."""


def download(url: str, target: Path, md5: str, tries: int = 6, pause: float = 1.0) -> None:
    """Downloads `url` to `target` with a progress bar and checks it.

    What has arrived is kept in `.resume/downloads` of the repository, because DVC clears a stage's
    outputs before it runs the stage again; the next try, or the next run, goes on from there. A whole
    file stays there too, as a second name of `target` where the file system allows it, so that no
    later run downloads it again; `make clean` removes it.

    Args:
        url: an http(s) address.
        target: the file to write; it appears when it is whole and verified.
        md5: what the file's MD5 sum must be, in hexadecimal.
        tries: connections in a row without any progress before giving up.
        pause: seconds between two connections; doubled for every one in a row without progress.

    Raises:
        InputError: the server refuses, sends a web page instead (Google Drive does when its
            quota is used up) or something with another MD5, or the connection breaks too often.
    """
    folder = repository_root() / ".resume" / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / f"{target.name}.{md5[:8]}"
    part = folder / f"{whole.name}.part"
    if whole.exists() and md5_of(whole) == md5:
        return link(whole, target)
    by_hand = f"download {target.name} with a browser ({url}) and let data.root point at its folder"
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another run is downloading {target.name} just now: wait for it") from None
        receive(url, file, target.name, by_hand, tries, pause)
        file.flush()
        found = md5_of(part)
        if found != md5:
            part.unlink()
            raise InputError(f"{target.name} came with MD5 {found} instead of {md5}: run again, or {by_hand}")
        part.replace(whole)
    link(whole, target)


def link(whole: Path, target: Path) -> None:
    """Makes `target` another name of the file, or a copy where that can't be."""
    target.unlink(missing_ok=True)  # may be another name already, which must not be copied onto itself
    try:
        target.hardlink_to(whole)
    except OSError:
        shutil.copyfile(whole, target)


def receive(url: str, file: BinaryIO, name: str, by_hand: str, tries: int, pause: float) -> None:
    """Appends to `file` what is missing at its end, over as many connections as it takes."""
    failures = 0
    while True:
        before = file.tell()
        try:
            with requests.get(url, headers=request_headers(before), stream=True, timeout=TIMEOUT) as answer:
                if answer.status_code not in BUSY:
                    if append(answer, file, name, by_hand):
                        return
                    problem = "the answer was incomplete"
                else:
                    problem = f"the server is busy (HTTP {answer.status_code})"
        except requests.RequestException as error:
            problem = f"the connection broke off ({type(error).__name__})"
        file.flush()
        failures = 0 if file.tell() > before else failures + 1
        if failures >= tries:
            raise InputError(
                f"downloading {name} failed: {problem}, {tries} times without progress; "
                f"{file.tell() / 1e6:.1f} MB are kept, so run again to go on from there, or {by_hand}"
            )
        wait = pause * 2**failures
        print(f"{name}: {problem} after {file.tell() / 1e6:.1f} MB, trying again in {wait:.0f} s")
        time.sleep(wait)


def request_headers(start: int) -> dict[str, str]:
    """Asks for the bytes from `start` on, as they are: a compressed answer could not be resumed."""
    return {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})


def append(answer: requests.Response, file: BinaryIO, name: str, by_hand: str) -> bool:
    """Writes one answer to the file's end; says whether the file is whole now."""
    if answer.status_code == 416:  # nothing from there on: either all is here, or the part is of something else
        if answer.headers.get("Content-Range") == f"bytes */{file.tell()}":
            return True
        restart(file)
        return False
    if answer.status_code not in (200, 206):
        raise InputError(f"downloading {name} failed: the server says HTTP {answer.status_code}; {by_hand}")
    pieces = answer.iter_content(1 << 16)
    piece = next(pieces, b"")
    if is_web_page(piece) or answer.headers.get("Content-Type", "").startswith("text/html"):
        raise InputError(
            f"downloading {name} brought an HTML page instead: Google Drive shows such a page when the file's "
            f"download quota is used up; try again in a day, or {by_hand}"
        )
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    if answer.status_code == 206 and (span is None or int(span[1]) != file.tell()):
        restart(file)  # a piece from elsewhere
        return False
    if answer.status_code == 200:
        restart(file)  # the server knows no ranges and sends all of it again
    length = answer.headers.get("Content-Length")
    total = int(span[2]) if span else int(length) if length else 0
    with progress(total, name, "B", file.tell()) as bar:
        bar.unit_scale = True  # MB instead of bytes
        while piece:
            file.write(piece)
            bar.update(len(piece))
            piece = next(pieces, b"")
    return total == 0 or file.tell() == total


def restart(file: BinaryIO) -> None:
    """Empties the file."""
    file.seek(0)
    file.truncate()


def md5_of(path: Path) -> str:
    """The file's MD5 sum in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
