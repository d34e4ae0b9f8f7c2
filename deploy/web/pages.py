"""What each address answers: the page's files, newest picture, status, metrics, health. Knows nothing of sockets.

The files are read once, when the server starts, and found by their exact address: no request names a path on the disk.
"""

import asyncio
import json
import math
import re
import threading
import urllib.parse
import uuid
from collections import deque
from pathlib import Path
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Tuple

from deploy.events import Event, Events
from deploy.web.door import Door, Request
from deploy.web.metrics import CONTENT_TYPE, LOST, metrics_text
from deploy.web.pictures import Pictures

_WAIT = 2.0  # seconds that a request for a newer picture is held
_EVENTS = 200  # kept for the page
_DEPTH = 8
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/picture.js": ("picture.js", "text/javascript; charset=utf-8"),
    "/panels.js": ("panels.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/login.html": ("login.html", "text/html; charset=utf-8"),
}
_OPEN = ("/page.css", "/icon.svg", "/login")  # nothing in these tells anything of the drone
# W3C, Content Security Policy Level 3: nothing but this server's own files, no inline script, no frame around it.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
SECURITY = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)


class Answer(NamedTuple):
    """status: of HTTP. kind: content type. more: further headers."""

    status: int
    kind: str
    body: bytes
    more: Tuple[Tuple[str, str], ...] = ()


class Pages:
    """Everything that can be asked.

    own: JSON values of the server on itself. refused: requests that showed a wrong token.
    """

    def __init__(
        self,
        door: Door,
        pictures: Pictures,
        status: Callable[[], Dict[str, Any]],
        own: Callable[[], Dict[str, Any]],
        events: Events,
    ) -> None:
        self.refused = 0
        self._door, self._pictures, self._status, self._own, self._events = door, pictures, status, own, events
        folder = Path(__file__).with_name("static")
        self._files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
        self._run = uuid.uuid4().hex[:12]
        self._lock = threading.Lock()
        self._kept: Deque[Tuple[int, Event]] = deque(enumerate(events.newest(), 1), maxlen=_EVENTS)
        events.listen(self._keep)
        self._questions = {
            "/api/status": self._api_status,
            "/metrics": self._metrics,
            "/healthz": self._healthz,
        }

    def is_picture(self, request: Request) -> bool:
        """Whether who asks this is watching."""
        return request.path == "/api/frame"

    def is_known(self, request: Request) -> bool:
        """Whether who asks has shown the token; a wrong one is counted."""
        knows = self._door.knows(request)
        if knows is False:
            self.refused += 1
        return knows is True

    async def answer(self, request: Request, is_known: bool) -> Answer:
        """Answer a request that the door let in. is_known: whether it showed the token."""
        values = urllib.parse.parse_qs(request.query, keep_blank_values=True)
        if request.path == "/login":
            return self._login(values)
        if not is_known and request.path not in _OPEN:
            body, kind = self._files["/login.html"]
            return Answer(401, kind, body, (("WWW-Authenticate", 'Bearer realm="skylight"'),))
        if request.path == "/api/frame":
            return await self._frame(values)
        if request.path in self._questions:
            return self._questions[request.path](values)
        if request.path in self._files:
            body, kind = self._files[request.path]
            return Answer(200, kind, body)
        return _text(404, "no such page")

    def _login(self, values: Dict[str, List[str]]) -> Answer:
        """The link that is opened once: /login?token=..."""
        shown = values.get("token", [""])
        cookie = self._door.cookie(shown[0]) if len(shown) == 1 else None
        if cookie is not None:
            return Answer(303, "text/plain; charset=utf-8", b"", (("Location", "/"), ("Set-Cookie", cookie)))
        self.refused += bool(shown[0])
        body, kind = self._files["/login.html"]
        return Answer(401, kind, body)

    async def _frame(self, values: Dict[str, List[str]]) -> Answer:
        """The newest message of `Pictures`, at once or when there is one; 204 after two seconds without.

        The header tells how long it was held, so that who asks knows what the way took and how old the picture is.
        """
        after = _number(values.get("after"))
        if after is None:
            return _text(400, "after must be a whole number")
        loop = asyncio.get_event_loop()
        begin = loop.time()
        message = self._pictures.message(after)
        while message is None and loop.time() - begin < _WAIT:
            await asyncio.sleep(0.02)
            message = self._pictures.message(after)
        held = (("X-Held", "{:.4f}".format(loop.time() - begin)),)
        if message is None:
            return Answer(204, "application/octet-stream", b"", held)
        return Answer(200, "application/octet-stream", message, held)

    def _api_status(self, values: Dict[str, List[str]]) -> Answer:
        """Everything known. after, run: the number of the newest event that is known already, and of which run."""
        after = _number(values.get("after"))
        if after is None:
            return _text(400, "after must be a whole number")
        if values.get("run") != [self._run]:
            after = 0
        with self._lock:
            kept = list(self._kept)
        events = [
            {"number": number, "wall": one.wall, "level": one.level, "kind": one.kind, "text": one.text}
            for number, one in kept
            if number > after
        ]
        content = {"run": self._run, "page": self._page(), "status": self._status(), "events": events}
        return Answer(200, "application/json", json.dumps(plain(content), allow_nan=False).encode("utf-8"))

    def _metrics(self, _values: Dict[str, List[str]]) -> Answer:
        text = metrics_text(plain(self._status()), plain(self._page()), dict(self._events.counts))
        return Answer(200, CONTENT_TYPE, text.encode("utf-8"))

    def _healthz(self, _values: Dict[str, List[str]]) -> Answer:
        newest = self._pictures.summary()
        if newest is None:
            return _text(503, "nothing was seen yet")
        if newest["published_ago"] > LOST:
            return _text(503, "nothing was seen for {:.1f} s".format(newest["published_ago"]))
        if not newest["is_current"]:
            return _text(503, "{:.3f} s old, limit {} s".format(newest["published_age"], newest["limit"]))
        return _text(200, "ok")

    def _page(self) -> Dict[str, Any]:
        return dict(self._own(), newest=self._pictures.summary())

    def _keep(self, event: Event) -> None:
        """Called in whatever thread the event happens in."""
        with self._lock:
            self._kept.append((self._kept[-1][0] + 1 if self._kept else 1, event))


def plain(value: Any, depth: int = _DEPTH) -> Any:
    """The value as JSON takes it: what is not finite becomes None, what is unknown its text."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return value if math.isfinite(value) else None
    if depth > 0 and isinstance(value, dict):
        return {str(key): plain(one, depth - 1) for key, one in value.items()}
    if depth > 0 and isinstance(value, (list, tuple)):
        return [plain(one, depth - 1) for one in value]
    item = getattr(value, "item", None)  # numpy's scalars
    return plain(item(), 0) if callable(item) and getattr(value, "size", 0) == 1 else str(value)


def _number(given: Optional[List[str]]) -> Optional[int]:
    """A whole number; 0 where none is given, None where it is none."""
    if given is None:
        return 0
    if len(given) == 1 and re.fullmatch("[0-9]{1,15}", given[0]):
        return int(given[0])
    return None


def _text(status: int, text: str) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", (text + "\n").encode("utf-8"))
