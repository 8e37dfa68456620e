"""A web server that fails as real ones do."""

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Web(ThreadingHTTPServer):
    """Serves `files`, content by path. `faults` says what goes wrong, one for each request; after them nothing."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.asked: list[tuple[str, int]] = []  # path and first byte of each request
        self.pace = 0.0  # seconds between chunks
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address) -> None:
        """Says nothing of clients that the tests kill."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(span[1]) if span else 0
        self.server.asked.append((self.path, start))
        fault = self.server.faults.pop(0) if self.server.faults else ""
        content = self.server.files.get(self.path)
        if content is None or fault.isdigit():
            return self.answer(int(fault or 404), b"")
        size = len(content)
        if fault == "page":
            return self.answer(200, b"<!DOCTYPE html><html>Quota exceeded</html>", {"Content-Type": "text/html"})
        if fault == "unlabelled page":
            return self.answer(200, b"\n<html>Quota exceeded</html>")
        if fault == "no ranges":
            return self.answer(200, content)
        if fault == "no ranges, drop":
            return self.answer(200, content, cut=3 * size // 4)
        if fault == "wrong range":
            return self.answer(206, content[9:], {"Content-Range": f"bytes 9-{size - 1}/{size}"})
        if start >= size:
            return self.answer(416, b"", {"Content-Range": f"bytes */{size}"})
        headers = {"Content-Range": f"bytes {start}-{size - 1}/{size}"} if start else {}
        if fault == "silent drop":  # it did not say how much there would be
            headers["Content-Length"] = None
        rest = (b"x" * size if fault == "garbage" else content)[start:]
        return self.answer(206 if start else 200, rest, headers, (size + 1) // 3 if fault.endswith("drop") else None)

    def answer(
        self, status: int, content: bytes, headers: dict[str, str | None] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        for position in range(0, len(content[:cut]), 50_000):
            self.wfile.write(content[:cut][position : position + 50_000])
            time.sleep(self.server.pace)

    def log_message(self, *args) -> None:
        """Quiet."""


@pytest.fixture
def web(tmp_path, monkeypatch):
    """The server; downloads are kept below `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    with Web() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()
