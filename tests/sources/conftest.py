"""A web server that can fail."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Web(ThreadingHTTPServer):
    """Serves `files`, content by path; `faults` says per request whether it breaks off ("drop"), in turn."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.asked: list[tuple[str, int]] = []  # path and from which byte on, per request
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.server.asked.append((self.path, start))
        fault = self.server.faults.pop(0) if self.server.faults else ""
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : (start + len(content)) // 2 if fault == "drop" else None])

    def log_message(self, *args) -> None:
        """Quiet."""


@pytest.fixture
def web(tmp_path, monkeypatch):
    """The server; downloads are kept below `tmp_path`, and the pauses between connections are short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vitpipe.sources.download.time.sleep", lambda seconds: None)
    with Web() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()
