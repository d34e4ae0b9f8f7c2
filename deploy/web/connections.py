"""Tornado's HTTP/1.1 under our rules: few connections, short requests, a limit of time for everything.

When all places are taken, who has shown no token makes room first. Knows nothing of what is answered.
"""

import asyncio
import http.client
import time
from typing import Any, Awaitable, Callable, Dict, List, Optional, Set, Tuple, Union

from tornado import httputil
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, StreamClosedError

from deploy.web.door import Door, Refusal, Request
from deploy.web.pages import SECURITY, Answer

HEADER_BYTES = 8192
_REQUEST_SECONDS = 10.0  # for a whole request to arrive, counted from the answer before it
_ANSWER_SECONDS = 20.0  # for an answer to be taken
_WATCHING = 4.0  # seconds after the last picture in which a connection counts as watching


class Guest:
    """A connection. Times are seconds on the monotonic clock.

    is_known: whether it has shown the token. quiet_since: of its last request. stuck_since: the answer is not taken.
    """

    def __init__(self, stream: IOStream, now: float) -> None:
        self.stream = stream
        self.is_known = False
        self.quiet_since = now
        self.stuck_since: Optional[float] = None
        self.watched: Optional[float] = None


class Guests:
    """All connections, `limit` at most. dropped: how many did not take their answer in time."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.dropped = 0
        self.turned_away = 0
        self._limit, self._clock = limit, clock
        self._guests: Dict[IOStream, Guest] = {}

    def welcome(self, stream: IOStream) -> bool:
        """Give a new connection a place, if need be that of the quietest one that is not known."""
        self._sweep()
        if len(self._guests) >= self._limit:
            strangers = [guest for guest in self._guests.values() if not guest.is_known]
            self.turned_away += 1
            if not strangers:
                return False
            self._drop(min(strangers, key=lambda guest: guest.quiet_since))
        self._guests[stream] = Guest(stream, self._clock())
        return True

    def ask(self, stream: IOStream, is_known: bool, is_picture: bool) -> None:
        """Note that a request came."""
        guest = self._guests.get(stream)
        if guest is not None:
            guest.is_known, guest.quiet_since, guest.stuck_since = is_known, self._clock(), None
            if is_picture and is_known:
                guest.watched = guest.quiet_since

    def tick(self) -> None:
        """Called about once a second: drop who does not take the answer."""
        self._sweep()
        now = self._clock()
        for guest in list(self._guests.values()):
            if not guest.stream.writing():
                guest.stuck_since = None
            elif guest.stuck_since is None:
                guest.stuck_since = now
            elif now - guest.stuck_since > _ANSWER_SECONDS:
                self.dropped += 1
                self._drop(guest)

    def watchers(self) -> int:
        """How many connections look at pictures."""
        now = self._clock()
        return sum(one.watched is not None and now - one.watched < _WATCHING for one in list(self._guests.values()))

    def count(self) -> int:
        """How many connections are open."""
        return len(self._guests)

    def close(self) -> None:
        """Close all of them."""
        for guest in list(self._guests.values()):
            self._drop(guest)

    def _sweep(self) -> None:
        for stream in [stream for stream in self._guests if stream.closed()]:
            del self._guests[stream]

    def _drop(self, guest: Guest) -> None:
        self._guests.pop(guest.stream, None)
        guest.stream.close()


class Reception(httputil.HTTPServerConnectionDelegate):
    """Takes requests from Tornado: asks the door, and has the others answered.

    known: whether a request shows the token. answer: gives its answer. is_picture: whether it asks for a picture.
    failed: is told of an error in answering, which is a fault of ours.
    """

    def __init__(
        self,
        door: Door,
        guests: Guests,
        known: Callable[[Request], bool],
        answer: Callable[[Request, bool], Awaitable[Answer]],
        is_picture: Callable[[Request], bool],
        failed: Callable[[Request, Exception], None],
    ) -> None:
        self.door, self.guests = door, guests
        self.known, self.answer, self.is_picture, self.failed = known, answer, is_picture, failed
        self.refused = 0
        self.tasks: Set[Any] = set()

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> httputil.HTTPMessageDelegate:
        """One request begins."""
        return _Exchange(self, request_conn)


class _Exchange(httputil.HTTPMessageDelegate):
    """One request and its answer."""

    def __init__(self, reception: Reception, connection: Any) -> None:
        self._reception, self._connection = reception, connection
        self._stream: IOStream = connection.stream
        self._request: Optional[Request] = None
        self._task: Optional[Any] = None

    def headers_received(
        self, start_line: Union[httputil.RequestStartLine, httputil.ResponseStartLine], headers: httputil.HTTPHeaders
    ) -> Optional[Awaitable[None]]:
        """Refuse here, before anything that follows the headers is read."""
        assert isinstance(start_line, httputil.RequestStartLine)
        pairs = [(name, value) for name, value in headers.get_all()]
        request, refusal = self._reception.door.check(start_line.method, start_line.path, pairs)
        if refusal is None:
            self._request = request
            return None
        self._reception.refused += 1
        return _turn_away(self._connection.detach(), refusal)

    def finish(self) -> None:
        """The request is complete."""
        self._task = asyncio.ensure_future(self._answer())
        self._reception.tasks.add(self._task)
        self._task.add_done_callback(self._reception.tasks.discard)

    def on_connection_close(self) -> None:
        """Who asked has gone."""
        if self._task is not None:
            self._task.cancel()

    async def _answer(self) -> None:
        request, reception = self._request, self._reception
        assert request is not None
        is_known = reception.known(request)
        reception.guests.ask(self._stream, is_known, reception.is_picture(request))
        try:
            answer = await reception.answer(request, is_known)
        except asyncio.CancelledError:  # an Exception as well, up to Python 3.7
            raise
        except Exception as error:  # a part's status: what flies goes on, and it is told
            reception.failed(request, error)
            answer = Answer(500, "text/plain; charset=utf-8", b"this failed here; the log of events says how\n")
        try:
            body = answer.body if request.method == "GET" and answer.status != 204 else b""
            line = httputil.ResponseStartLine("HTTP/1.1", answer.status, _reason(answer.status))
            self._connection.write_headers(line, httputil.HTTPHeaders(dict(_headers(answer))), body or None)
            self._connection.finish()
        except StreamClosedError:
            pass  # who asked has gone


class LimitedServer(HTTPServer):
    """A server whose connections all have a place among the guests."""

    guests: Guests

    def handle_stream(self, stream: IOStream, address: Tuple[Any, ...]) -> None:
        """A connection was accepted."""
        if self.guests.welcome(stream):
            super().handle_stream(stream, address)
        else:
            stream.close()


def make_server(reception: Reception) -> LimitedServer:
    """A server with its limits set; made in the thread whose event loop runs it."""
    server = LimitedServer(
        reception,
        idle_connection_timeout=_REQUEST_SECONDS,
        body_timeout=_REQUEST_SECONDS,
        max_header_size=HEADER_BYTES,
        max_body_size=0,
        max_buffer_size=1 << 22,
        chunk_size=HEADER_BYTES,
    )
    server.guests = reception.guests
    return server


async def _turn_away(stream: IOStream, refusal: Refusal) -> None:
    """Answer once and close, since nobody knows where the request ends."""
    answer = Answer(refusal.status, "text/plain; charset=utf-8", (refusal.text + "\n").encode("utf-8"))
    lines = ["HTTP/1.1 {} {}".format(answer.status, _reason(answer.status)), "Connection: close"]
    lines += ["{}: {}".format(name, value) for name, value in _headers(answer)]
    try:
        await stream.write("\r\n".join(lines + ["", ""]).encode("ascii") + answer.body)
    except StreamClosedError:
        return
    stream.close()


def _headers(answer: Answer) -> List[Tuple[str, str]]:
    rows = [("Content-Type", answer.kind), *SECURITY, *answer.more]
    if answer.status == 405:
        rows.append(("Allow", "GET, HEAD"))
    return rows + ([("Content-Length", str(len(answer.body)))] if answer.status != 204 else [])


def _reason(status: int) -> str:
    return http.client.responses.get(status, "Misdirected Request" if status == 421 else "Unknown")
