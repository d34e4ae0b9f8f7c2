"""Frames whose detections are known from their numbers, for the colour bundle, and a source that gives them."""

import time
from collections.abc import Iterable

import numpy as np
from colour_model import CELL, SIZE, square

from deploy.frame import Detections, Frame
from deploy.sources import EndOfSource, Source


def picture(number: int, width: int = SIZE, height: int = SIZE) -> np.ndarray:
    """(height, width, 3) uint8 BGR: one of 16 cells, red or green, as the frame's number says."""
    colour = (255, 0, 0) if number // 16 % 2 == 0 else (0, 255, 0)
    return square(number % 4, number // 4 % 4, colour, width, height)


def is_of(number: int, detections: Detections) -> bool:
    """Whether that is what must be found in a 64 x 64 picture of that number."""
    left, top = number % 4 * CELL, number // 4 % 4 * CELL
    found = [box.tolist() for box in detections.boxes]
    return found == [[left, top, left + CELL, top + CELL]] and detections.classes.tolist() == [number // 16 % 2]


class MadeSource(Source):
    """Gives `steps`, one for each request: a picture's number, an age in seconds with it, None for no frame."""

    def __init__(self, steps: Iterable[int | tuple[int, float] | Frame | None], kind: str = "live") -> None:
        self.kind = kind
        self._steps = iter(steps)

    def newest(self, timeout: float) -> Frame | None:
        """The next step."""
        try:
            step = next(self._steps)
        except StopIteration:
            raise EndOfSource from None
        if step is None or isinstance(step, Frame):
            return step
        number, age = step if isinstance(step, tuple) else (step, 0.0)
        return Frame(number, time.monotonic() - age, None, picture(number), "made")
