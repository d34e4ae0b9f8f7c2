"""Downloads of NVIDIA's files, from a real server on this machine: checked by SHA-256, and resumed."""

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.errors import UserError
from jetson.board import Download
from jetson.image.fetch import fetch

CONTENT = bytes(range(256)) * 5000


class _Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, with ranges. limit: bytes after which it hangs up, once."""

    def __init__(self, asked: list[str | None], limits: list[int], *more: object) -> None:
        self.asked, self.limits = asked, limits
        super().__init__(*more)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(CONTENT) or self.path != "/package.tbz2":
            self.send_error(416 if start else 404)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = start + self.limits.pop() if self.limits else len(CONTENT)
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[str | None], list[int]]]:
    """Address of the file, what was asked for, and limits."""
    asked: list[str | None] = []
    limits: list[int] = []
    with http.server.HTTPServer(("127.0.0.1", 0), functools.partial(_Server, asked, limits)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/package.tbz2", asked, limits
        running.shutdown()


def _fetch(url: str, tmp_path: Path, sha256: str | None) -> Path:
    return fetch(None, Download(url=url, sha256=sha256), None, tmp_path / "downloads", lambda _: None)


def test_it_is_fetched_once_and_checked(server, tmp_path):
    url, asked, _ = server
    right = hashlib.sha256(CONTENT).hexdigest()
    path = _fetch(url, tmp_path, right)
    assert path.read_bytes() == CONTENT
    assert _fetch(url, tmp_path, right) == path
    assert asked == [None]


def test_a_broken_download_goes_on_where_it_ended(server, tmp_path):
    url, asked, limits = server
    right = hashlib.sha256(CONTENT).hexdigest()
    limits.append(100_000)
    with pytest.raises(UserError, match="run it again, it goes on from there"):
        _fetch(url, tmp_path, right)
    assert not (tmp_path / "downloads/package.tbz2").exists()
    assert _fetch(url, tmp_path, right).read_bytes() == CONTENT
    assert asked == [None, "bytes=100000-"]


def test_another_content_is_refused_and_removed(server, tmp_path):
    url, _, _ = server
    with pytest.raises(UserError, match=f"not {'0' * 64}; download it again, it was removed"):
        _fetch(url, tmp_path, "0" * 64)
    assert not (tmp_path / "downloads/package.tbz2").exists()


def test_without_a_hash_nothing_is_fetched(server, tmp_path):
    url, asked, _ = server
    with pytest.raises(UserError, match="no SHA-256 is known to check it by"):
        _fetch(url, tmp_path, None)
    with pytest.raises(UserError, match="404"):
        _fetch(url.replace("package", "gone"), tmp_path, "0" * 64)
    assert asked == [None]


def test_a_chunked_answer_that_breaks_off_is_one_line(tmp_path):
    class Chunked(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"1000\r\nonly the beginning")
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Chunked)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(UserError, match="run it again, it goes on from there"):
            fetch(f"http://127.0.0.1:{server.server_port}/package.tbz2", None, "0" * 64, tmp_path, lambda _: None)
    finally:
        server.shutdown()
        server.server_close()
