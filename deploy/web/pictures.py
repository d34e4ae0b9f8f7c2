"""What is shown: the newest observation, and a small JPEG of it for those who ask. Knows nothing of HTTP.

A message is the length of its JSON (4 bytes, big endian), the JSON, and the JPEG of the same frame, empty where
pictures are off.
"""

import json
import struct
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from deploy.frame import Observation, Track

_BOXES = 200  # shown at most, the best ones
_SPAN = 5  # seconds over which the rate is counted


class Seen(NamedTuple):
    """number: counts what was published, from 1. published: seconds on the monotonic clock."""

    number: int
    published: float
    observation: Observation


class _Made(NamedTuple):
    """What was encoded last: of which observation, when (monotonic seconds), with picture or without."""

    seen: Seen
    at: float
    has_picture: bool
    jpeg: bytes


class Pictures:
    """The slot that the loop fills, and what the server's thread makes of it.

    encoded: pictures so far. may_stream: whether pictures may be made at all; boxes are told in any case.
    """

    def __init__(
        self, classes: Sequence[str], rate: float, width: int, quality: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.newest: Optional[Seen] = None
        self.may_stream = True
        self.encoded = 0
        self._classes = list(classes)
        self._interval, self._width, self._quality = 1 / rate, width, quality
        self._clock = clock
        self._made: Optional[_Made] = None
        self._counts: Deque[Tuple[float, int]] = deque(maxlen=_SPAN + 1)

    def put(self, observation: Observation) -> None:
        """Take the newest observation; the frame is not copied, so nobody may write into it afterwards."""
        number = self.newest.number + 1 if self.newest is not None else 1
        self.newest = Seen(number, self._clock(), observation)

    def message(self, after: int) -> Optional[bytes]:
        """What came after observation `after`, once the rate allows; None while there is nothing.

        A number that was not given yet is one of an earlier run of the drone: it gets what is there.
        """
        seen, now = self.newest, self._clock()
        if seen is None or seen.number == after:
            return None
        made, may_stream = self._made, self.may_stream
        if made is None or made.has_picture != may_stream or now - made.at >= self._interval:
            jpeg = self._encode(seen.observation.frame.image) if may_stream else b""
            made = self._made = _Made(seen, now, may_stream, jpeg)
        if made.seen.number == after:
            return None
        head = json.dumps(self._about(made.seen, made.has_picture), allow_nan=False).encode("ascii")
        return struct.pack(">I", len(head)) + head + made.jpeg

    def count(self) -> None:
        """Note how many were published; called about once a second, for the rate."""
        self._counts.append((self._clock(), self.newest.number if self.newest else 0))

    def rate(self) -> float:
        """Observations a second, over the last seconds."""
        if not self._counts:
            return 0.0
        begin, first = self._counts[0]
        seconds = self._clock() - begin
        return ((self.newest.number if self.newest else 0) - first) / seconds if seconds > 0.5 else 0.0

    def summary(self) -> Optional[Dict[str, Any]]:
        """JSON values on the newest observation; None before the first. All times are in seconds."""
        seen = self.newest
        if seen is None:
            return None
        one, now = seen.observation, self._clock()
        return {
            "number": seen.number,
            "frame": one.frame.number,
            "age": round(now - one.frame.captured, 4),
            "published_ago": round(now - seen.published, 4),
            "published_age": round(one.age, 4),
            "limit": one.limit,
            "is_current": one.is_current,
            "dropped": one.dropped,
            "network": list(one.network),
            "milliseconds": {stage: round(value, 3) for stage, value in one.milliseconds.items()},
            "detections": len(one.detections.scores),
            "tracks": len(one.tracks),
            "rate": round(self.rate(), 2),
        }

    def _encode(self, image: np.ndarray) -> bytes:
        height, width = image.shape[:2]
        if width > self._width:
            size = (self._width, max(1, round(height * self._width / width)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        is_done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        self.encoded += 1
        return bytes(data) if is_done else b""

    def _about(self, seen: Seen, has_picture: bool) -> Dict[str, Any]:
        """Number, age at this moment and boxes; boxes are in pixels of the source frame, whose size is told."""
        one = seen.observation
        height, width = one.frame.image.shape[:2]
        return {
            "number": seen.number,
            "frame": one.frame.number,
            "age": round(self._clock() - one.frame.captured, 4),
            "published_age": round(one.age, 4),
            "limit": one.limit,
            "is_current": one.is_current,
            "has_picture": has_picture,
            "size": [width, height],
            "boxes": self._boxes(one),
            "tracks": [self._track(track) for track in one.tracks[:_BOXES]],
        }

    def _boxes(self, one: Observation) -> List[List[Any]]:
        found = one.detections
        rows = zip(found.boxes[:_BOXES].tolist(), found.scores[:_BOXES].tolist(), found.classes[:_BOXES].tolist())
        return [[round(side, 1) for side in box] + [round(score, 3), self._name(index)] for box, score, index in rows]

    def _track(self, track: Track) -> List[Any]:
        sides = [round(float(side), 1) for side in track.box]
        about = [round(float(track.score), 3), self._name(track.class_index)]
        return sides + about + [track.number, round(float(track.bridged), 2)]

    def _name(self, index: int) -> str:
        return self._classes[index] if 0 <= index < len(self._classes) else str(index)
