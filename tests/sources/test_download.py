"""Downloads from a local server that misbehaves as the real ones do."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from vitpipe.sources.download import download
from vitpipe.errors import InputError
from vitpipe.files import atomic_folder

CONTENT = np.random.default_rng(0).bytes(1_969_080)  # not a multiple of any buffer
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `faults` says per request what goes wrong, in turn, and then nothing does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[str] = []
        self.asked: list[int] = []  # from which byte on, per request
        self.pace = 0.0  # seconds between pieces
        self.url = f"http://127.0.0.1:{self.server_port}/file"

    def handle_error(self, request, client_address) -> None:
        """Clients that are killed are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        fault = self.server.faults.pop(0) if self.server.faults else ""
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(span[1]) if span else 0
        self.server.asked.append(start)
        if fault.isdigit():
            return self.answer(int(fault), b"")
        if fault == "page":
            return self.answer(200, b"<!DOCTYPE html><html>Quota exceeded</html>", {"Content-Type": "text/html"})
        if fault == "unlabelled page":
            return self.answer(200, b"\n<html>Quota exceeded</html>")
        if fault == "no ranges":
            return self.answer(200, CONTENT)
        if fault == "no ranges, drop":
            return self.answer(200, CONTENT, cut=1_500_000)
        if fault == "wrong range":
            return self.answer(206, CONTENT[9:], {"Content-Range": f"bytes 9-{len(CONTENT) - 1}/{len(CONTENT)}"})
        if fault == "silent drop":  # breaks off without having said how much there would be
            span = {"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}", "Content-Length": None}
            return self.answer(206, CONTENT[start:], span, cut=700_000)
        if start >= len(CONTENT):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(CONTENT)}"})
        headers = {"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"} if start else {}
        content = b"x" * len(CONTENT) if fault == "garbage" else CONTENT
        return self.answer(206 if start else 200, content[start:], headers, cut=700_000 if fault == "drop" else None)

    def answer(
        self, status: int, content: bytes, headers: dict[str, str | None] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        content = content[:cut]
        for position in range(0, len(content), 50_000):
            self.wfile.write(content[position : position + 50_000])
            time.sleep(self.server.pace)

    def log_message(self, *args) -> None:
        """Quiet."""


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def target(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "file.zip"


def parts() -> list[Path]:
    return list(Path(".resume/downloads").glob("*.part"))


def get(server: Server, target: Path, md5: str = MD5, tries: int = 3) -> None:
    download(server.url, target, md5, tries=tries, pause=0.01)


def test_a_whole_file_is_not_downloaded_again(server, target):
    get(server, target)
    target.unlink()  # as when a later file fails, or when DVC clears the stage's outputs
    server.asked.clear()
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == []


def test_a_later_failure_costs_nothing_that_is_there(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def fetch() -> None:
        with atomic_folder(tmp_path / "raw") as raw:
            get(server, raw / "first.zip")
            get(server, raw / "second.zip")

    server.faults = ["", "page"]
    with pytest.raises(InputError, match=r"second\.zip brought an HTML page"):
        fetch()
    assert not (tmp_path / "raw").exists()
    fetch()
    assert server.asked == [0, 0, 0]  # the first once, the second twice
    for name in ("first.zip", "second.zip"):
        assert (tmp_path / "raw" / name).read_bytes() == CONTENT
        assert (tmp_path / "raw" / name).samefile(f".resume/downloads/{name}.{MD5[:8]}")  # no disk space twice


def test_without_hard_links_the_file_is_copied(server, target, monkeypatch):
    def refuse(*_) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    get(server, target)
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == [0]


def test_a_kept_file_that_was_changed_is(server, target):
    get(server, target)
    target.unlink()
    next(Path(".resume/downloads").iterdir()).write_bytes(b"something else")
    get(server, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("faults", "asked"),
    [
        ([], [0]),
        (["drop"], [0, 655_360]),  # what came in whole pieces of 64 KiB is kept
        (["drop", "drop"], [0, 655_360, 1_310_720]),
        (["drop", "no ranges"], [0, 655_360]),
        (["503", "429", ""], [0, 0, 0]),
        (["drop", "silent drop"], [0, 655_360, 655_360 + 700_000]),
        (["drop", "wrong range"], [0, 655_360, 0]),
        (["drop", "503", "503", "drop", "503"], [0, 655_360, 655_360, 655_360, 1_310_720, 1_310_720]),
    ],
)
def test_faults_are_survived(server, target, faults, asked):
    server.faults = list(faults)
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == asked
    assert parts() == []


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (["page"], "HTML page.*quota.*data.root"),
        (["unlabelled page"], "HTML page.*quota.*data.root"),
        (["garbage"], f"MD5 .* instead of {MD5}"),
        (["404"], "HTTP 404"),
        (["503"] * 3, "busy .HTTP 503., 3 times without progress.*run again"),
        (["drop", "503", "503", "503"], "0.7 MB are kept, so run again"),
        (["no ranges, drop"] * 4, "without progress"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(server, target, faults, message):
    server.faults = list(faults)
    with pytest.raises(InputError, match=message) as caught:
        get(server, target)
    assert "\n" not in str(caught.value)
    assert not target.exists()


def test_page_in_the_middle_does_not_spoil_what_is_there(server, target):
    server.faults = ["drop", "page"]
    with pytest.raises(InputError, match="HTML"):
        get(server, target)
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == [0, 655_360, 655_360]


def test_wrong_md5_starts_over_the_next_time(server, target):
    server.faults = ["garbage"]
    with pytest.raises(InputError, match="MD5"):
        get(server, target)
    get(server, target)
    assert server.asked == [0, 0]
    assert target.read_bytes() == CONTENT


def test_complete_but_unmoved_part_is_used(server, target):
    Path(".resume/downloads").mkdir(parents=True)
    Path(f".resume/downloads/file.zip.{MD5[:8]}.part").write_bytes(CONTENT)
    get(server, target)
    assert server.asked == [len(CONTENT)]
    assert target.read_bytes() == CONTENT


def test_overlong_part_starts_over(server, target):
    Path(".resume/downloads").mkdir(parents=True)
    Path(f".resume/downloads/file.zip.{MD5[:8]}.part").write_bytes(CONTENT + b"more")
    get(server, target)
    assert target.read_bytes() == CONTENT


def test_no_connection_is_said(server, target):
    with pytest.raises(InputError, match="ConnectionError"):
        download("http://127.0.0.1:9/file", target, MD5, tries=2, pause=0.01)


def test_killed_process_goes_on_where_it_was(server, target):
    server.pace = 0.05
    arguments = f"{server.url!r}, Path('file.zip'), {MD5!r}"
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
    assert server.asked[-1] > 300_000
    assert target.read_bytes() == CONTENT
