"""What happens beside the frames: a camera lost, a stage over its budget, a link that is back.

One line each on standard error, where the journal takes it, and a few hundred kept for the page. Knows nothing of what
the events mean.
"""

import sys
import threading
import time
from collections import deque
from typing import Callable, Deque, Dict, List, NamedTuple, Optional, TextIO, Tuple

LEVELS = ("info", "warning", "error")
_KEPT = 300
_QUIET = 10.0  # seconds in which the same kind of event is counted, not printed again


class Event(NamedTuple):
    """monotonic: seconds on the monotonic clock. wall: seconds since 1970. level: of LEVELS. kind: `camera.lost`."""

    monotonic: float
    wall: float
    level: str
    kind: str
    text: str


class Events:
    """Takes events from any thread.

    stream: where lines go, None for nowhere. An event of one kind is printed at most every ten seconds, with how many
    were not; every one of them reaches the listeners. unprinted: lines that the stream did not take: a journal that was
    restarted or a closed terminal must not end the flight.
    """

    def __init__(self, stream: Optional[TextIO] = sys.stderr, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._lock = threading.Lock()
        self._kept: Deque[Event] = deque(maxlen=_KEPT)
        self._listeners: List[Callable[[Event], None]] = []
        self._printed: Dict[str, Tuple[float, int]] = {}
        self.counts: Dict[str, int] = {}
        self.unprinted = 0

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Hand every later event to `listener`, in the thread where it happens; it must return at once."""
        self._listeners.append(listener)

    def add(self, level: str, kind: str, text: str) -> Event:
        """Note that something happened. level: one of LEVELS; kind: one word or two with a dot; text: one line."""
        event = Event(self._clock(), time.time(), level, kind, text)
        with self._lock:
            self._kept.append(event)
            self.counts[kind] = self.counts.get(kind, 0) + 1
            line = self._line(event)
        if line is not None and self._stream is not None:
            try:
                print(line, file=self._stream, flush=True)
            except (OSError, ValueError):  # ValueError: it was closed
                self.unprinted += 1
        for listener in self._listeners:
            listener(event)
        return event

    def newest(self, count: int = _KEPT) -> List[Event]:
        """The newest events, oldest first."""
        with self._lock:
            return list(self._kept)[-count:]

    def _line(self, event: Event) -> Optional[str]:
        last, unsaid = self._printed.get(event.kind, (-_QUIET, 0))
        if event.monotonic - last < _QUIET:
            self._printed[event.kind] = (last, unsaid + 1)
            return None
        self._printed[event.kind] = (event.monotonic, 0)
        more = " ({} more before)".format(unsaid) if unsaid else ""
        return "{}: {}: {}{}".format(event.level, event.kind, event.text, more)
