"""A stand-in for a camera that fails in every way we know, by a seed, behind the real `LiveSource`.

Frames are gradients that carry their number in their first pixels. Faults: the device is lost and refuses to open a few
times, a read takes long or hangs, frames are None, cut off, of another shape or type, or the last one again.
"""

import random
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from deploy.errors import UserError
from deploy.events import Events
from deploy.frame import Frame
from deploy.sources import LiveSource, SourceSettings
from deploy.sources.capture import Capture, Reading

QUICK = SourceSettings(patience=0.2, retry=0.002, longest_retry=0.02)


class Faults(NamedTuple):
    """Chance of each fault per frame. hang: seconds that a hanging read takes; stall: that a slow one does."""

    lost: float = 0.002
    stalled: float = 0.002
    hung: float = 0.0
    damaged: float = 0.01
    repeated: float = 0.01
    stall: float = 0.05
    hang: float = 1.0


class FaultySource(LiveSource):
    """Hands every good frame to whoever asks: the camera waits until the last one was taken. faults: counted by kind.

    frames: after so many good ones the source ends. picture: draws a frame of that number, into which the number itself
    is written still.
    """

    def __init__(
        self,
        seed: int,
        frames: int,
        events: Events | None = None,
        faults: Faults | None = None,
        settings: SourceSettings = QUICK,
        size: tuple[int, int] = (64, 48),
        picture: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        self.left, self.made = frames, 0
        self.faults: dict[str, int] = {}
        self._taken = threading.Semaphore(1)
        self._random = random.Random(seed)
        self._chances = faults or Faults()
        self._size, self._draws = size, picture
        self._refusals = 0
        super().__init__(f"camera of seed {seed}", lambda: _open(self), settings, events)

    def newest(self, timeout: float) -> Frame | None:
        if self._slot is None:
            self._taken.release()
        return super().newest(timeout)


def _open(source: FaultySource) -> Capture:
    if source._refusals:
        source._refusals -= 1
        raise UserError("camera: cannot be opened; check the cable")
    return _FaultyCapture(source)


class _FaultyCapture(Capture):
    fps = 100.0

    def __init__(self, source: FaultySource) -> None:
        self._source = source
        self._is_closed = False

    def read(self) -> Reading | None:
        source = self._source
        assert not self._is_closed
        while not source._taken.acquire(timeout=0.05):
            if source._is_ended or source._reader.is_stopped:
                return None
        if source.left == 0:
            source.on_end()
            return None
        fault = self._draw()
        if fault:
            source._taken.release()
            source.faults[fault] = source.faults.get(fault, 0) + 1
        if fault == "lost":
            source._refusals = source._random.randrange(4)
            return None
        if fault in ("stalled", "hung"):
            time.sleep(source._chances.stall if fault == "stalled" else source._chances.hang)
            return self._reading(self._picture(source.made - 1))
        if fault == "damaged":
            return self._reading(self._damaged())
        if fault == "repeated":
            return self._reading(self._picture(source.made - 1))
        source.left -= 1
        source.made += 1
        return self._reading(self._picture(source.made - 1))

    def close(self) -> None:
        self._is_closed = True

    def _draw(self) -> str:
        value = self._source._random.random()
        for name in ("lost", "stalled", "hung", "damaged", "repeated"):
            value -= getattr(self._source._chances, name)
            if value < 0:
                return name if self._source.made else ""
        return ""

    def _picture(self, number: int) -> np.ndarray:
        if self._source._draws is not None:
            image = self._source._draws(number)
        else:
            width, height = self._source._size
            image = np.empty((height, width, 3), np.uint8)
            image[:] = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]
        image[0, 0] = number & 255, number >> 8 & 255, number >> 16 & 255
        return image

    def _damaged(self) -> Any:
        image = self._picture(self._source.made)
        choices: list[Any] = [None, image[:-7], image[:, :, 0], image.astype(np.uint16), image[:0], image.tobytes()]
        return self._source._random.choice(choices)

    @staticmethod
    def _reading(image: Any) -> Reading:
        return Reading(image, time.monotonic(), None)


def number_in(frame: Frame) -> int:
    """The number that a frame carries in its picture."""
    low, middle, high = (int(value) for value in frame.image[0, 0])
    return low | middle << 8 | high << 16
