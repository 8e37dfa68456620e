"""Downloads that survive broken connections and killed processes, checked by their MD5 sum."""

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
"""HTTP status codes of failures that may soon be over."""

TIMEOUT = (15, 60)
"""Seconds to connect, and between two chunks of the answer."""


def download(url: str, target: Path, md5: str, tries: int = 6, pause: float = 1.0) -> None:
    """Downloads `url` to `target` with a progress bar and checks it.

    What has arrived is kept in `.resume/downloads` of the repository, as DVC clears the outputs of a stage before it
    runs again; the next run continues there. A complete file stays there too, as a hard link where the file system
    allows it, so that no later run downloads it again; `make clean` removes it.

    Args:
        target: the file to write; it appears when it is complete and verified.
        tries: connections in a row without any progress before giving up.
        pause: seconds between two connections; doubled for every one in a row without progress.

    Raises:
        InputError: the server refuses, sends a web page instead (Google Drive does when its quota is used up) or a
            file with another MD5 sum, or the connection breaks too often.
    """
    folder = repository_root() / ".resume" / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    complete = folder / f"{target.name}.{md5[:8]}"
    if not (complete.exists() and md5_of(complete) == md5):
        by_hand = f"download {target.name} with a browser ({url}) and let data.root point at its folder"
        part = folder / f"{complete.name}.part"
        with part.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"another run is downloading {target.name} just now: wait for it") from None
            receive(url, file, target.name, by_hand, tries, pause)
            if (found := md5_of(part)) != md5:
                part.unlink()
                raise InputError(f"{target.name} came with MD5 {found} instead of {md5}: run again, or {by_hand}")
            part.replace(complete)
    target.unlink(missing_ok=True)  # may be a link already, and a file can't be copied onto itself
    try:
        target.hardlink_to(complete)
    except OSError:
        shutil.copyfile(complete, target)


class Interrupted(Exception):
    """The transfer ended too early; the message says why."""


def receive(url: str, file: BinaryIO, name: str, by_hand: str, tries: int, pause: float) -> None:
    """Appends what is missing to `file`, over as many connections as it takes."""
    failures = 0
    while True:
        before = file.tell()
        try:
            return append(url, file, name, by_hand)
        except Interrupted as error:
            problem = str(error)
        except requests.RequestException as error:
            problem = f"the connection broke off ({type(error).__name__})"
        finally:
            file.flush()
        failures = 0 if file.tell() > before else failures + 1
        if failures >= tries:
            raise InputError(
                f"downloading {name} failed: {problem}, {tries} times without progress; "
                f"{file.tell() / 1e6:.1f} MB are kept, so run again to continue from there, or {by_hand}"
            )
        wait = pause * 2**failures
        print(f"{name}: {problem} after {file.tell() / 1e6:.1f} MB, trying again in {wait:.0f} s")
        time.sleep(wait)


def append(url: str, file: BinaryIO, name: str, by_hand: str) -> None:
    """Appends what is missing to `file` over one connection.

    Raises:
        InputError: the server refuses, or sends a web page.
        Interrupted, requests.RequestException: the file is not complete yet.
    """
    start = file.tell()
    headers = {"Accept-Encoding": "identity"}  # a compressed answer could not be resumed
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        status, span = answer.status_code, answer.headers.get("Content-Range", "")
        if status in BUSY:
            raise Interrupted(f"the server is busy (HTTP {status})")
        if status == 416 and span == f"bytes */{start}":  # nothing is missing
            return
        if status not in (200, 206, 416):
            raise InputError(f"downloading {name} failed: the server says HTTP {status}; {by_hand}")
        chunks = answer.iter_content(1 << 16)
        chunk = next(chunks, b"")
        if is_web_page(chunk) or answer.headers.get("Content-Type", "").startswith("text/html"):
            raise InputError(
                f"downloading {name} brought an HTML page instead: Google Drive shows such a page when the file's "
                f"download quota is used up; try again in a day, or {by_hand}"
            )
        expected = re.fullmatch(rf"bytes {start}-\d+/(\d+)", span)
        if status == 200 or not expected:  # the complete file, or another part of it
            file.seek(0)
            file.truncate()
            if status != 200:
                raise Interrupted("the server answered with another part of the file")
        total = int(expected[1] if expected else answer.headers.get("Content-Length", 0))
        with progress(total, name, "B", file.tell()) as bar:
            bar.unit_scale = True  # MB instead of bytes
            while chunk:
                file.write(chunk)
                bar.update(len(chunk))
                chunk = next(chunks, b"")
        if total and file.tell() != total:
            raise Interrupted("the answer was incomplete")


def md5_of(path: Path) -> str:
    """The file's MD5 sum in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
