"""The thread that reads a camera or stream: it opens the device, reads it, gives it back, and opens it again.

It alone calls into the driver, which may hang: then the thread is left behind, and closes what it holds if it ever
returns. Knows nothing of who takes the frames, nor of what is done with them.
"""

import threading
from typing import Callable, NamedTuple

from deploy.errors import UserError
from deploy.sources.capture import Capture, Opener, Reading
from deploy.sources.pause import Pause
from deploy.sources.sight import Sight

OPENING = 4  # opening a camera may take so many times its patience


class Device(NamedTuple):
    """What is read. opener: opens it, called in the reader's thread.

    patience: seconds without a good frame after which it is lost. is_endless: False for what may end, such as a file.
    clock: monotonic seconds.
    """

    opener: Opener
    patience: float
    is_endless: bool
    clock: Callable[[], float]


class Listener:
    """Who is told what the reader finds, in the reader's thread."""

    def on_open(self, capture: Capture) -> None:
        """The device is open."""
        raise NotImplementedError

    def on_refused(self, error: UserError) -> None:
        """The device could not be opened."""
        raise NotImplementedError

    def on_frame(self, reading: Reading) -> None:
        """A good frame came, and not the last one again."""
        raise NotImplementedError

    def on_odd(self, is_repeat: bool) -> None:
        """A frame came that nobody gets: the last one again, or a damaged one."""
        raise NotImplementedError

    def on_frozen(self, seconds: float) -> None:
        """The same picture has come for too long."""
        raise NotImplementedError

    def on_lost(self, reason: str) -> None:
        """No more frames come."""
        raise NotImplementedError

    def on_end(self) -> None:
        """What may end has ended."""
        raise NotImplementedError


class Reader:
    """is_late: it takes over from one that hangs, and begins with a pause. pause: before it opens the device again.

    gives_up_at: monotonic seconds at which the call into the driver that goes on has taken too long.
    """

    def __init__(self, device: Device, listener: Listener, pause: Pause, is_late: bool = False) -> None:
        self.pause = pause
        self.gives_up_at = float("inf")
        self._device, self._listener, self._is_late = device, listener, is_late
        self._stopped = threading.Event()
        self._sight = Sight(device.patience, device.clock)
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    @property
    def is_stopped(self) -> bool:
        """Whether it was asked to end."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Ask it to end once it is out of the driver."""
        self._stopped.set()

    def join(self, timeout: float) -> None:
        """Wait so many seconds for its end, at most."""
        self._thread.join(timeout)

    def is_alive(self) -> bool:
        """Whether its thread has not ended."""
        return self._thread.is_alive()

    def _run(self) -> None:
        device, listener = self._device, self._listener
        if self._is_late:
            self._rest()
        while not self._stopped.is_set():
            began = device.clock()
            try:
                reason = self._read_until_lost()
            except UserError as error:
                if not self._stopped.is_set():
                    listener.on_refused(error)
                reason = ""
            except Exception as error:  # of a driver's library: cv2.error, OSError, no memory for a frame
                reason = "cannot be read ({})".format(" ".join(str(error).split())[:160] or type(error).__name__)
            if self._stopped.is_set():
                return
            if not device.is_endless:
                listener.on_end()
                return
            if reason:
                listener.on_lost(reason)
            self.pause.worked(device.clock() - began)
            self._rest()

    def _rest(self) -> None:
        self.gives_up_at = float("inf")
        self._stopped.wait(self.pause.next())

    def _read_until_lost(self) -> str:
        """Open, read, close; returns why it ended."""
        device = self._device
        self.gives_up_at = device.clock() + OPENING * device.patience
        capture = device.opener()
        try:
            if not self._stopped.is_set():
                self._listener.on_open(capture)
            self._sight.opened()
            while not self._stopped.is_set():
                self.gives_up_at = device.clock() + device.patience
                reading = capture.read()
                if self._stopped.is_set():
                    break
                if reading is None:
                    return "gives no more frames"
                self._take(reading)
                reason = self._sight.why_lost() if device.is_endless else ""
                if reason:
                    return reason
            return ""
        finally:
            self.gives_up_at = device.clock() + device.patience
            capture.close()

    def _take(self, reading: Reading) -> None:
        if not self._sight.is_good(reading.image):
            self._listener.on_odd(is_repeat=False)
        elif self._device.is_endless and self._sight.is_repeat(reading.image):
            self._listener.on_odd(is_repeat=True)
            if self._sight.begins_to_freeze():
                self._listener.on_frozen(self._sight.same_for)
        else:
            self._listener.on_frame(reading)
