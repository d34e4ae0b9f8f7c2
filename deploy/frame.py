"""What passes through the loop: a frame, and the detections found in it. Knows nothing of where either comes from."""

from typing import NamedTuple, Optional

import numpy as np


class Frame(NamedTuple):
    """One picture.

    number: from 0, counting every frame of the source, also those never run.
    captured: seconds on the monotonic clock of this machine when the frame arrived.
    source_time: seconds on the source's own clock (position in a video), or None.
    image: (height, width, 3) uint8, RGB.
    name: file name of a picture, or the name of the source.
    """

    number: int
    captured: float
    source_time: Optional[float]
    image: np.ndarray
    name: str


class Detections(NamedTuple):
    """What was found, best first.

    boxes: (N, 4) float32, xyxy, pixels of the source image. scores: (N,) float32, 0 to 1. classes: (N,) int64.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
