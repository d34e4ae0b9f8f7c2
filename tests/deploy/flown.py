"""Observations as the loop gives them, and a log written from them."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from deploy.bundle import Bundle
from deploy.events import Events
from deploy.flightlog.part import FlightLog
from deploy.flightlog.settings import LogSettings
from deploy.frame import Detections, Frame, Observation, Track

SETTINGS = LogSettings(sync=0.1, reserve=0.0, random_every=0.0, keep=0)
Found = tuple[tuple[float, float, float, float], float, int]  # box, score, class


def detections(*found: Found) -> Detections:
    boxes = np.array([box for box, _, _ in found], np.float32).reshape(-1, 4)
    return Detections(
        boxes, np.array([one[1] for one in found], np.float32), np.array([one[2] for one in found], np.int64)
    )


def observation(
    number: int, found: Detections | None = None, image: np.ndarray | None = None, tracks: tuple[Track, ...] = ()
) -> Observation:
    """Frame `number` of a camera that gives 25 a second."""
    picture = np.full((48, 64, 3), 90, np.uint8) if image is None else image
    frame = Frame(number, 100 + number / 25, number / 25, picture, "camera")
    return Observation(frame, found or detections(), tracks, 0.02, 0.1, 3, (64, 64), {"network": 12.3456})


def new_log(folder: Path, bundle: Bundle, events: Events | None = None, **changes: Any) -> FlightLog:
    settings = SETTINGS._replace(folder=str(folder), **changes)
    return FlightLog(settings, bundle, events or Events(None), {"camera": "csi"}, seed=1)


def wait_for(condition: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
