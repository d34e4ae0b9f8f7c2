"""A stand-in for a camera that follows a script, and how tests wait for what a `LiveSource` makes of it."""

import time
from collections.abc import Callable

import numpy as np

from deploy.frame import Frame
from deploy.sources import LiveSource, Source, SourceSettings
from deploy.sources.capture import Capture, Reading

QUICK = SourceSettings(patience=0.3, retry=0.02, longest_retry=0.1)


class Scripted(Capture):
    """Gives what a function makes of the number of the read; None is the end."""

    fps = 50.0

    def __init__(self, make: Callable[[int], object]) -> None:
        self._make = make
        self.reads, self.is_closed = 0, False

    def read(self) -> Reading | None:
        self.reads += 1
        time.sleep(0.005)
        image = self._make(self.reads - 1)
        return None if image is None else Reading(image, time.monotonic(), None)  # type: ignore[arg-type]

    def close(self) -> None:
        self.is_closed = True


def picture(value: int) -> np.ndarray:
    return np.full((24, 32, 3), value % 256, np.uint8)


def wait_for(what: Callable[[], bool]) -> None:
    """Wait until something is so."""
    limit = time.monotonic() + 20
    while not what():
        assert time.monotonic() < limit
        time.sleep(0.005)


def take(source: Source, timeout: float = 5) -> Frame:
    """The newest frame, which must come."""
    frame = source.newest(timeout)
    assert frame is not None
    return frame


def take_until(what: Callable[[], bool], source: LiveSource) -> list[Frame]:
    """The frames that come until something is so."""
    frames: list[Frame | None] = []
    limit = time.monotonic() + 20
    while not what():
        assert time.monotonic() < limit
        frames.append(source.newest(0.02))
    return [frame for frame in frames if frame is not None]
