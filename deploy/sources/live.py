"""A camera or stream: the newest frame in one slot, whatever the camera does.

A thread of its own reads; it also opens the device and gives it back. A camera that ends, refuses, falls silent, gives
the same picture again and again or nothing but damaged ones is lost: it is closed, and opened again after a pause that
doubles. A thread that hangs inside the driver cannot be ended; it is left behind, and closes what it holds if it ever
returns. All of them are daemons, so that none holds the process.

Knows nothing of how a camera is opened.
"""

import atexit
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional

import cv2

from deploy.errors import UserError, refuse
from deploy.events import Events
from deploy.frame import Frame
from deploy.sources.capture import Capture, Opener, Reading
from deploy.sources.pause import Pause
from deploy.sources.settings import SourceSettings
from deploy.sources.sight import Sight
from deploy.sources.source import EndOfSource, Source

_CLOSING = 1.0  # seconds that `close` waits for a thread that may hang in a driver
_OPENING = 4  # opening a camera may take so many times its patience
_MOST_HUNG = 4  # threads left behind in drivers; beyond that only a new process helps


class LiveSource(Source):
    """A camera or stream, of which the newest frame alone is kept.

    name: for frames and messages. opener: opens the device, called in the reader's thread. is_endless: False for what
    may end, such as a file; losing it is its end. dropped: good frames that arrived and were never handed out.

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
        self._name, self._opener, self._settings, self._clock = name, opener, settings, clock
        self._events = events or Events(stream=None)
        self._is_endless = is_endless
        self._news = threading.Condition()
        self._slot: Optional[Frame] = None
        self._number = 0
        self._lost_at: Optional[float] = None
        self._lost_text = ""
        self._refusal: Optional[UserError] = None
        self._is_ended = self._is_open = False
        self._hung: List["_Reader"] = []
        self.dropped = self.repeats = self.damaged = self.losses = 0
        self._reader = _Reader(self, Pause(settings.retry, settings.longest_retry))
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
        limit = _OPENING * self._settings.patience
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
        self._reader = _Reader(self, hung.pause, is_late=True)

    def on_open(self, capture: Capture) -> None:
        """The reader has opened the device."""
        with self._news:
            self.fps, self._is_open, self._refusal = capture.fps, True, None
            self._news.notify_all()

    def on_refused(self, error: UserError) -> None:
        """The reader could not open the device."""
        with self._news:
            self._refusal = error
            self._news.notify_all()
        if self._settings.wait or self._is_open:
            self.on_lost(str(error))

    def on_frame(self, reading: Reading) -> None:
        """The reader has read a good frame that is not the last one again."""
        with self._news:
            self.dropped += self._slot is not None
            frame = Frame(self._number, reading.captured, reading.source_time, reading.image, self._name)
            self._slot = frame
            self._number += 1
            lost_at, self._lost_at, self._lost_text = self._lost_at, None, ""
            self._news.notify_all()
        if lost_at is not None:
            text = "{}: gives frames again after {:.1f} s".format(self._name, self._clock() - lost_at)
            self._events.add("info", "camera.back", text)

    def on_lost(self, reason: str) -> None:
        """The camera gives no more frames. Told once, until it is back."""
        with self._news:
            is_known, self._lost_text = self._lost_at is not None or self._is_ended, reason
            if not is_known:
                self._lost_at = self._clock()
                self.losses += 1
        if not is_known:
            self._events.add("error", "camera.lost", "{}: {}".format(self._name, reason))

    def on_end(self) -> None:
        """What may end has ended."""
        with self._news:
            self._is_ended = True
            self._news.notify_all()

    def on_odd(self, is_repeat: bool) -> None:
        """A frame that nobody gets: the last one again, or a damaged one."""
        self.repeats += is_repeat
        self.damaged += not is_repeat

    def on_frozen(self, seconds: float) -> None:
        """The camera has given the same picture for too long."""
        text = "{}: the same picture, byte for byte, for {:.1f} s".format(self._name, seconds)
        self._events.add("warning", "camera.frozen", text)


class _Reader:
    """The thread that reads. is_late: it takes over from one that hangs, and begins with a pause.

    gives_up_at: monotonic seconds at which the call into the driver that goes on has taken too long.
    """

    def __init__(self, source: LiveSource, pause: Pause, is_late: bool = False) -> None:
        self.pause = pause
        self.gives_up_at = float("inf")
        self._source, self._is_late = source, is_late
        self._stopped = threading.Event()
        self._sight = Sight(source._settings.patience, source._clock)
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end once it is out of the driver."""
        self._stopped.set()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        source = self._source
        if self._is_late:
            self._rest()
        while not self._stopped.is_set():
            reason = "the reader failed"
            began = source._clock()
            try:
                reason = self._read_until_lost()
            except UserError as error:
                if not self._stopped.is_set():
                    source.on_refused(error)
                reason = ""
            except (cv2.error, OSError) as error:
                reason = "cannot be read ({})".format(" ".join(str(error).split())[:160])
            if self._stopped.is_set():
                return
            if not source._is_endless:
                source.on_end()
                return
            if reason:
                source.on_lost(reason)
            self.pause.worked(source._clock() - began)
            self._rest()

    def _rest(self) -> None:
        self.gives_up_at = float("inf")
        self._stopped.wait(self.pause.next())

    def _read_until_lost(self) -> str:
        """Open, read, close; returns why it ended."""
        source = self._source
        patience = source._settings.patience
        self.gives_up_at = source._clock() + _OPENING * patience
        capture = source._opener()
        try:
            if not self._stopped.is_set():
                source.on_open(capture)
            self._sight.opened()
            while not self._stopped.is_set():
                self.gives_up_at = source._clock() + patience
                reading = capture.read()
                if self._stopped.is_set():
                    break
                if reading is None:
                    return "gives no more frames"
                self._take(reading)
                reason = self._sight.why_lost() if source._is_endless else ""
                if reason:
                    return reason
            return ""
        finally:
            self.gives_up_at = source._clock() + patience
            capture.close()

    def _take(self, reading: Reading) -> None:
        source = self._source
        if not self._sight.is_good(reading.image):
            source.on_odd(is_repeat=False)
        elif source._is_endless and self._sight.is_repeat(reading.image):
            source.on_odd(is_repeat=True)
            if self._sight.begins_to_freeze():
                source.on_frozen(self._sight.same_for)
        else:
            source.on_frame(reading)
