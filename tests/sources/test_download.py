"""Downloads from a local server that fails as real ones do."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vitpipe.errors import InputError
from vitpipe.files import atomic_folder
from vitpipe.sources.download import download

CONTENT = np.random.default_rng(0).bytes(1_969_080)  # not a multiple of any buffer
MD5 = hashlib.md5(CONTENT).hexdigest()
DROP = 1_969_081 // 3  # bytes that a connection brings before it breaks off
KEPT = DROP // 65_536 * 65_536  # requests gives complete chunks of 64 KiB only, if it knows how much is to come


@pytest.fixture
def server(web):
    web.files = {"/file": CONTENT}
    return web


@pytest.fixture
def target(tmp_path, server) -> Path:
    return tmp_path / "file.zip"


def part_of(content: bytes) -> Path:
    """The file that an earlier run left."""
    path = Path(f".resume/downloads/file.zip.{MD5[:8]}.part")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def get(server, target: Path, md5: str = MD5, tries: int = 3) -> None:
    download(f"{server.url}/file", target, md5, tries=tries, pause=0.01)


def starts(server) -> list[int]:
    return [start for _, start in server.asked]


def test_a_later_failure_does_not_repeat_a_complete_download(server, tmp_path):
    def fetch() -> None:
        with atomic_folder(tmp_path / "raw") as raw:
            get(server, raw / "first.zip")
            get(server, raw / "second.zip")

    server.faults = ["", "page"]
    with pytest.raises(InputError, match=r"second\.zip brought an HTML page"):
        fetch()
    assert not (tmp_path / "raw").exists()
    fetch()
    assert starts(server) == [0, 0, 0]  # the first once, the second twice
    for name in ("first.zip", "second.zip"):
        assert (tmp_path / "raw" / name).read_bytes() == CONTENT
        assert (tmp_path / "raw" / name).samefile(f".resume/downloads/{name}.{MD5[:8]}")  # no disk space twice


@pytest.mark.parametrize("links", [True, False])
def test_a_complete_file_is_linked_or_copied_without_another_download(server, target, monkeypatch, links):
    def refuse(*_) -> None:
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    get(server, target)
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert starts(server) == [0]
    target.unlink()
    next(Path(".resume/downloads").iterdir()).write_bytes(b"something else")
    get(server, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("faults", "asked"),
    [
        ([], [0]),
        (["drop"], [0, KEPT]),
        (["drop", "drop"], [0, KEPT, 2 * KEPT]),
        (["drop", "no ranges"], [0, KEPT]),
        (["503", "429", ""], [0, 0, 0]),
        (["drop", "silent drop"], [0, KEPT, KEPT + DROP]),
        (["drop", "wrong range"], [0, KEPT, 0]),
        (["drop", "503", "503", "drop", "503"], [0, KEPT, KEPT, KEPT, 2 * KEPT, 2 * KEPT]),
    ],
)
def test_faults_are_survived(server, target, faults, asked):
    server.faults = list(faults)
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert starts(server) == asked
    assert [path.name for path in Path(".resume/downloads").iterdir()] == [f"file.zip.{MD5[:8]}"]


@pytest.mark.parametrize(
    ("faults", "message", "asked"),
    [
        (["page"], "HTML page.*quota.*data.root", [0]),
        (["unlabelled page"], "HTML page.*quota.*data.root", [0]),
        (["drop", "page"], "HTML page", [KEPT]),
        (["garbage"], f"MD5 .* instead of {MD5}", [0]),
        (["404"], "HTTP 404", [0]),
        (["503"] * 3, "busy .HTTP 503., 3 times without progress.*run again", [0]),
        (["drop", "503", "503", "503"], "0.7 MB are kept, so run again", [KEPT]),
        (["no ranges, drop"] * 4, "without progress", None),
    ],
)
def test_failures_are_told_in_one_line_and_the_next_run_continues(server, target, faults, message, asked):
    server.faults = list(faults)
    with pytest.raises(InputError, match=message) as caught:
        get(server, target)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    server.asked.clear()
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert asked is None or starts(server) == asked


@pytest.mark.parametrize(("more", "asked"), [(b"", [len(CONTENT)]), (b"more", [len(CONTENT) + 4, 0])])
def test_a_complete_or_too_long_part(server, target, more, asked):
    part_of(CONTENT + more)
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert starts(server) == asked


def test_no_connection_is_told(target):
    with pytest.raises(InputError, match="ConnectionError"):
        download("http://127.0.0.1:9/file", target, MD5, tries=2, pause=0.01)


def test_a_killed_process_is_continued(server, target):
    server.pace = 0.05
    arguments = f"'{server.url}/file', Path('file.zip'), {MD5!r}"
    code = f"from pathlib import Path; from vitpipe.sources.download import download; download({arguments})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    part = Path(f".resume/downloads/file.zip.{MD5[:8]}.part")
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size > 300_000):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(InputError, match="another run is downloading"):
        get(server, target)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not target.exists()
    server.pace = 0
    get(server, target)
    assert starts(server)[-1] > 300_000
    assert target.read_bytes() == CONTENT
