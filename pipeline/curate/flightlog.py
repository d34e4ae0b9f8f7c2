"""Reads the log that `skylight detect` writes: what was found in every frame. It judges nothing."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import refuse

__all__ = ["FlightFrame", "FlightLog", "read_flight_log"]

_LOG_NAME = "detections.jsonl"
_REMEDY = "give the folder or the detections.jsonl that skylight detect wrote"


@dataclass(frozen=True)
class FlightFrame:
    """What was found in one frame.

    number: of the frame in its source, from 0. name: of the picture, or of the video. source_time: s, or None.
    boxes: (N, 4) float64, xyxy, pixels of the frame. scores: (N,) float64, 0 to 1. labels: N class names.
    """

    number: int
    name: str
    source_time: float | None
    boxes: np.ndarray
    scores: np.ndarray
    labels: tuple[str, ...]


@dataclass(frozen=True)
class FlightLog:
    """One run of a detector: its frames in the order of their numbers.

    source: what it ran on, as it was given. threshold: score below which nothing was written down.
    sha256: of the log file.
    """

    sha256: str
    source: str
    threshold: float
    classes: tuple[str, ...]
    frames: tuple[FlightFrame, ...]

    @property
    def is_film(self) -> bool:
        """Whether neighbouring frames follow each other in time; the pictures of a folder need not."""
        return len({frame.name for frame in self.frames}) == 1

    @property
    def flight(self) -> str:
        """A name for the flight, made from its source: flight-3 for videos/flight 3.mp4."""
        return re.sub(r"[^A-Za-z0-9_.]+", "-", Path(self.source).stem).strip("-.") or "flight"


def read_flight_log(path: Path) -> FlightLog:
    """Read `detections.jsonl`, or the folder that holds it; what is no such log is refused with the line."""
    path = path / _LOG_NAME if path.is_dir() else path
    try:
        content = path.read_bytes()
        lines = content.decode().splitlines()
    except FileNotFoundError:
        raise refuse(path, "no such file", _REMEDY) from None
    except (OSError, UnicodeDecodeError) as error:
        raise refuse(path, getattr(error, "strerror", None) or "not text", _REMEDY) from None
    try:
        header = json.loads(lines[0])
        source, threshold = str(header["source"]), float(header["threshold"])
        classes = tuple(map(str, header["classes"]))
    except (IndexError, KeyError, TypeError, ValueError):
        raise refuse(f"{path} line 1", "not the header of a flight log", _REMEDY) from None
    frames: list[FlightFrame] = []
    for number, line in enumerate(lines[1:], start=2):
        frame = _read_frame(f"{path} line {number}", line, classes)
        if frames and frame.number <= frames[-1].number:
            found = f"frame {frame.number} after frame {frames[-1].number}"
            raise refuse(f"{path} line {number}", found, "frames are in the order they were seen; detect again")
        frames.append(frame)
    if not frames:
        raise refuse(path, "no frames", "give the log of a flight that has some")
    return FlightLog(hashlib.sha256(content).hexdigest(), source, threshold, classes, tuple(frames))


def _read_frame(where: str, line: str, classes: Sequence[str]) -> FlightFrame:
    try:
        row = json.loads(line)
        found = row["detections"]
        boxes = np.array([entry["box"] for entry in found], dtype=np.float64).reshape(-1, 4)
        scores = np.array([entry["score"] for entry in found], dtype=np.float64)
        labels = tuple(str(entry["name"]) for entry in found)
        time = None if row["source_time"] is None else float(row["source_time"])
        frame = FlightFrame(int(row["frame"]), str(row["name"]), time, boxes, scores, labels)
    except (KeyError, TypeError, ValueError):
        raise refuse(where, "not the line of a frame", "the log may be cut off: detect again") from None
    if not (np.isfinite(boxes).all() and ((scores >= 0) & (scores <= 1)).all() and set(labels) <= set(classes)):
        raise refuse(where, "a box, score or class that cannot be", "detect again")
    return frame
