"""A camera or stream: the newest frame in one slot, whatever the camera does.

A camera that ends, refuses, falls silent, gives the same picture again and again or nothing but damaged ones is lost:
its reader (reader.py) closes it, and opens it again after a pause that doubles. A reader that hangs inside the driver
cannot be ended: it is left behind, and another takes over. All of them are daemons, so that none holds the process.

Knows nothing of how a camera is opened and read.
"""

import atexit
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional

from deploy.errors import UserError, refuse
from deploy.events import Events
from deploy.frame import Frame
from deploy.sources.capture import Capture, Opener, Reading
from deploy.sources.pause import Pause
from deploy.sources.reader import OPENING, Device, Listener, Reader
from deploy.sources.settings import SourceSettings
from deploy.sources.source import EndOfSource, Source

_CLOSING = 1.0  # seconds that `close` waits for a thread that may hang in a driver
_MOST_HUNG = 4  # threads left behind in drivers; beyond that only a new process helps


class LiveSource(Source, Listener):
    """A camera or stream, of which the newest frame alone is kept.

    name: for frames and messages. opener: opens the device, called in the reader's thread. is_endless: False for what
    may end, such as a file; losing it is its end. dropped: good frames that arrived and were never handed out.
    steps_back: frames whose stamp lay before that of an earlier one; they are told as old as that one, since times that
    go back would end every track, and a frame may be told as older than it is but never as newer.

    Raises UserError where it cannot be opened at first, unless it is endless and the settings say to wait for it.
    """

    kind = "live"

    def __init__(
        self,
        name: str,
        opener: Opener,
        settings: SourceSettings,
        events: Optional[Events] = None,
        is_endless: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._settings, self._clock = name, settings, clock
        self._events = events or Events(stream=None)
        self._is_endless = is_endless
        self._news = threading.Condition()
        self._slot: Optional[Frame] = None
        self._number = 0
        self._captured = float("-inf")  # of the newest frame
        self._lost_at: Optional[float] = None
        self._lost_text = ""
        self._refusal: Optional[UserError] = None
        self._is_ended = self._is_open = False
        self._hung: List[Reader] = []
        self.dropped = self.repeats = self.damaged = self.losses = self.steps_back = 0
        self._device = Device(opener, settings.patience, is_endless, clock)
        self._reader = Reader(self._device, self, Pause(settings.retry, settings.longest_retry))
        atexit.register(self.close)
        self._require_first()

    def __iter__(self) -> Iterator[Frame]:
        """Frames until the end. Raises UserError after `patience` seconds without one."""
        while True:
            try:
                frame = self.newest(self._settings.patience)
            except EndOfSource:
                return
            if frame is None:
                text = self._lost_text or "no frame for {:g} s".format(self._settings.patience)
                raise refuse(self._name, text, "check the cable")
            yield frame

    def newest(self, timeout: float) -> Optional[Frame]:
        """See Source. A signal that arrives while it waits is handled at once.

        Raises UserError where so many readers hang in the driver that only a new process can help.
        """
        with self._news:
            self._news.wait_for(lambda: self._slot is not None or self._is_ended, timeout)
            frame, self._slot = self._slot, None
            is_ended = self._is_ended
        if frame is not None:
            return frame
        if is_ended:
            raise EndOfSource
        self._leave_if_hung()
        return None

    def status(self) -> Dict[str, Any]:
        """See Source."""
        with self._news:
            lost_at = self._lost_at
            return {
                "kind": self.kind,
                "name": self._name,
                "frames": self._number,
                "dropped": self.dropped,
                "repeats": self.repeats,
                "damaged": self.damaged,
                "losses": self.losses,
                "steps_back": self.steps_back,
                "is_lost": lost_at is not None,
                "lost_for": 0.0 if lost_at is None else round(self._clock() - lost_at, 3),
            }

    def close(self) -> None:
        """Stop the reader, which gives the camera back; one that hangs is waited for a second and left."""
        atexit.unregister(self.close)
        with self._news:
            self._is_ended = True
            self._news.notify_all()
        self._reader.stop()
        self._reader.join(_CLOSING)

    def _require_first(self) -> None:
        """Wait until the device is open, unless that is not asked for."""
        if self._settings.wait and self._is_endless:
            return
        limit = OPENING * self._settings.patience
        with self._news:
            self._news.wait_for(lambda: self._is_open or self._is_ended or self._refusal is not None, limit)
            refusal = self._refusal
            is_open = self._is_open or (self._is_ended and refusal is None)
        if not is_open:
            self.close()
            text = "does not open within {:g} s".format(limit)
            raise refusal or refuse(self._name, text, "check the cable and who uses it")

    def _leave_if_hung(self) -> None:
        """Start another reader where this one has been inside the driver for too long."""
        if not self._is_endless or self._clock() < self._reader.gives_up_at:
            return
        self._hung = [reader for reader in self._hung if reader.is_alive()]
        if len(self._hung) >= _MOST_HUNG:
            text = "{} readers hang in its driver".format(len(self._hung) + 1)
            self._events.add("error", "camera.hung", "{}: {}".format(self._name, text))
            raise refuse(self._name, text, "start again; a service is started again by itself")
        hung = self._reader
        hung.stop()
        self._hung.append(hung)
        self.on_lost("does not answer for {:g} s".format(self._settings.patience))
        self._reader = Reader(self._device, self, hung.pause, is_late=True)

    def on_open(self, capture: Capture) -> None:
        """See Listener."""
        with self._news:
            self.fps, self._is_open, self._refusal = capture.fps, True, None
            self._news.notify_all()

    def on_refused(self, error: UserError) -> None:
        """See Listener."""
        with self._news:
            self._refusal = error
            self._news.notify_all()
        if self._settings.wait or self._is_open:
            self.on_lost(str(error))

    def on_frame(self, reading: Reading) -> None:
        """See Listener."""
        with self._news:
            self.dropped += self._slot is not None
            back = self._captured - reading.captured
            self._captured = max(self._captured, reading.captured)
            self.steps_back += back > 0
            is_first_step = back > 0 and self.steps_back == 1
            self._slot = Frame(self._number, self._captured, reading.source_time, reading.image, self._name)
            self._number += 1
            lost_at, self._lost_at, self._lost_text = self._lost_at, None, ""
            self._news.notify_all()
        if is_first_step:
            text = "{}: its stamps step back, by {:.3f} s; such frames count as old as the one before"
            self._events.add("warning", "camera.clock", text.format(self._name, back))
        if lost_at is not None:
            text = "{}: gives frames again after {:.1f} s".format(self._name, self._clock() - lost_at)
            self._events.add("info", "camera.back", text)

    def on_lost(self, reason: str) -> None:
        """See Listener. Told once, until it is back."""
        with self._news:
            is_known, self._lost_text = self._lost_at is not None or self._is_ended, reason
            if not is_known:
                self._lost_at = self._clock()
                self.losses += 1
        if not is_known:
            self._events.add("error", "camera.lost", "{}: {}".format(self._name, reason))

    def on_end(self) -> None:
        """See Listener."""
        with self._news:
            self._is_ended = True
            self._news.notify_all()

    def on_odd(self, is_repeat: bool) -> None:
        """See Listener."""
        self.repeats += is_repeat
        self.damaged += not is_repeat

    def on_frozen(self, seconds: float) -> None:
        """See Listener."""
        text = "{}: the same picture, byte for byte, for {:.1f} s".format(self._name, seconds)
        self._events.add("warning", "camera.frozen", text)
