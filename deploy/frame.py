"""What passes through the loop: a frame, the detections found in it, tracks, and how old all of that is.

Knows nothing of where any of it comes from, nor of who is told.
"""

from typing import Dict, NamedTuple, Optional, Tuple

import numpy as np

FRAME_ORDER = "bgr"  # of a frame's channels, as cameras, video files and OpenCV give them


class Frame(NamedTuple):
    """One picture.

    number: from 0, counting every frame of the source, also those never run.
    captured: seconds on the monotonic clock of this machine when the frame arrived.
    source_time: seconds on the source's own clock (position in a video), or None.
    image: (height, width, 3) uint8, BGR. Nobody writes into it: others hold it too.
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


class Track(NamedTuple):
    """One object, followed over frames.

    number: stays the same for as long as the object is followed, from 1, never given twice in a run.
    box: (x1, y1, x2, y2), pixels of the source image, smoothed. velocity: (x, y) of its centre, pixels per second.
    score: of the newest detection, 0 to 1. class_index: of that detection.
    hits: frames in which it was detected. bridged: seconds since the newest detection; 0 where this frame has one.
    size_error: standard deviation of the box's (width, height), pixels, as its detections scatter; 0 where not known.
    """

    number: int
    box: Tuple[float, float, float, float]
    velocity: Tuple[float, float]
    score: float
    class_index: int
    hits: int
    bridged: float
    size_error: Tuple[float, float] = (0.0, 0.0)

    @property
    def is_bridging(self) -> bool:
        """Whether its place is foretold and not seen in this frame."""
        return self.bridged > 0


class Observation(NamedTuple):
    """What one frame told, handed to everybody who is told.

    age: seconds from the frame's capture to now, when it is published. limit: seconds, older is not current.
    dropped: frames of the source that were never run, since the start. network: (width, height) that ran, pixels.
    milliseconds: that each stage took.
    """

    frame: Frame
    detections: Detections
    tracks: Tuple[Track, ...]
    age: float
    limit: float
    dropped: int
    network: Tuple[int, int]
    milliseconds: Dict[str, float]

    @property
    def is_current(self) -> bool:
        """Whether it may be told as what is there now."""
        return self.age <= self.limit
