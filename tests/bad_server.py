"""A real HTTP server on localhost that misbehaves as it is told, path by path."""

import contextlib
import email.utils
import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Answer", "BadServer", "bad_server", "swallowing_port"]


@dataclass
class Answer:
    """What a path answers: `faults` are used up one per request, then the content comes as it should.

    A fault is a status, as in 429; "stall": headers, then nothing; "drip": a byte now and then; "cut": half of what was
    asked for, then the end; "change": from here on the content is the next of `later`.
    takes_ranges: whether parts can be asked for. knows_if_range: whether it looks at the version they are of. delay:
    seconds before each answer. headers: added to every answer.
    """

    content: bytes
    faults: list[int | str] = field(default_factory=list)
    takes_ranges: bool = True
    knows_if_range: bool = True
    later: list[bytes] = field(default_factory=list)
    delay: float = 0
    headers: dict[str, str] = field(default_factory=dict)
    etag: str = ""

    @property
    def version(self) -> str:
        """The ETag: it changes with the content, unless one was given."""
        return f'"{self.etag}"' if self.etag else f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'


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
    connections: list[socket.socket] = field(default_factory=list)
    close: Callable[[], None] = lambda: None

    def vanish(self) -> None:
        """As if the network were gone: nobody listens any more, and what is connected breaks off."""
        self.close()
        with self.lock:
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    state: BadServer

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that break off are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        with self.server.state.lock:
            self.server.state.connections.append(self.connection)

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
        if fault == "change":
            answer.content = answer.later.pop(0)
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
        elif fault == "drip":
            for byte in rest:
                self.wfile.write(bytes([byte]))
                state.ending.wait(0.05)
        elif fault == "cut":
            self.wfile.write(rest[: max(1, len(rest) // 2)])
            self.close_connection = True
        else:
            self.wfile.write(rest)

    def _start(self, answer: Answer) -> int:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        is_same = not answer.knows_if_range or self.headers.get("If-Range", answer.version) == answer.version
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
        """A status with a page that comes a little later, as storage services send it."""
        page = b"<Error>" + b"x" * 200 + b"</Error>"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.flush()
        time.sleep(0.01)
        self.wfile.write(page)


@contextlib.contextmanager
def bad_server(answers: dict[str, Answer]) -> Iterator[BadServer]:
    """Serve `answers`, by path with a leading slash, until the block is left."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.state = BadServer(f"http://127.0.0.1:{server.server_address[1]}", answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()

    def close() -> None:
        server.state.ending.set()
        server.shutdown()
        server.server_close()
        thread.join()

    server.state.close = close
    try:
        yield server.state
    finally:
        close()


@contextlib.contextmanager
def swallowing_port() -> Iterator[str]:
    """Yield an address whose packets get no answer: its queue of connections is full and nobody takes one."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
