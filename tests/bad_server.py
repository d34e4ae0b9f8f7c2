"""A real HTTP server on localhost that misbehaves as it is told, path by path."""

import contextlib
import email.utils
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Answer", "BadServer", "bad_server"]


@dataclass
class Answer:
    """What a path answers: `faults` are used up one per request, then the content comes as it should.

    A fault is a status, as in 429; "stall": headers, then nothing; "cut": half of what was asked for, then the end.
    takes_ranges: whether parts can be asked for. delay: seconds before each answer. headers: added to every answer.
    """

    content: bytes
    faults: list[int | str] = field(default_factory=list)
    takes_ranges: bool = True
    delay: float = 0
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The ETag: it changes with the content."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'


@dataclass
class BadServer:
    """url: without a slash at the end. asked: (path, Range header or "") in order. most_at_once: requests."""

    url: str
    answers: dict[str, Answer]
    asked: list[tuple[str, str]] = field(default_factory=list)
    most_at_once: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    ending: threading.Event = field(default_factory=threading.Event)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    state: BadServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        state = self.server.state
        with state.lock:
            state.asked.append((self.path, self.headers.get("Range", "")))
            state.at_once += 1
            state.most_at_once = max(state.most_at_once, state.at_once)
        try:
            self._answer(state)
        finally:
            with state.lock:
                state.at_once -= 1

    def _answer(self, state: BadServer) -> None:
        answer = state.answers.get(self.path)
        if answer is None:
            self._status(404, {})
            return
        time.sleep(answer.delay)
        with state.lock:
            fault = answer.faults.pop(0) if answer.faults else None
        if isinstance(fault, int):
            self._status(fault, answer.headers)
            return
        start = self._start(answer)
        if start and start >= len(answer.content):
            self._status(416, {"Content-Range": f"bytes */{len(answer.content)}"})
            return
        self._head(answer, start)
        rest = answer.content[start:]
        if fault == "stall":
            self.wfile.flush()
            state.ending.wait(20)
            self.close_connection = True
        elif fault == "cut":
            self.wfile.write(rest[: max(1, len(rest) // 2)])
            self.close_connection = True
        else:
            self.wfile.write(rest)

    def _start(self, answer: Answer) -> int:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        is_same = self.headers.get("If-Range", answer.version) == answer.version
        return int(wanted[1]) if wanted and answer.takes_ranges and is_same else 0

    def _head(self, answer: Answer, start: int) -> None:
        size = len(answer.content)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(size - start))
        self.send_header("ETag", answer.version)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Last-Modified", email.utils.formatdate(0, usegmt=True))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _status(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextlib.contextmanager
def bad_server(answers: dict[str, Answer]) -> Iterator[BadServer]:
    """Serve `answers`, by path with a leading slash, until the block is left."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.state = BadServer(f"http://127.0.0.1:{server.server_address[1]}", answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.state
    finally:
        server.state.ending.set()
        server.shutdown()
        server.server_close()
        thread.join()
