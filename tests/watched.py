"""A drone's page without a drone: drawn observations, and a status as the parts of the loop tell it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from drawn import draw_picture

from deploy.events import Events
from deploy.frame import Detections, Frame, Observation, Track
from deploy.web import WebSettings
from deploy.web.server import Web

CLASSES = ("square", "door")
SETTINGS = WebSettings(port=0, rate=30, width=320)


def observe(number: int, age: float = 0.02, limit: float = 0.3, size: tuple[int, int] = (320, 240)) -> Observation:
    """One frame with red squares, a detection on each, and two tracks, of which the second is bridging."""
    image, boxes = draw_picture(np.random.default_rng(number), *size)
    count = len(boxes)
    found = Detections(boxes, np.full(count, 0.875, np.float32), np.zeros(count, np.int64))
    left, top, right, bottom = (float(side) for side in boxes[0])
    tracks = (
        Track(1, (left, top, right, bottom), (3.0, 0.0), 0.875, 0, number, 0.0),
        Track(2, (5.0, 5.0, 60.0, 70.0), (0.0, 0.0), 0.5, 1, 4, 0.4),
    )
    frame = Frame(number, time.monotonic() - age, None, image, "camera")
    stages = {"read": 1.0, "resize": 2.0, "network": 20.0, "decode": 1.0}
    return Observation(frame, found, tracks, age, limit, number // 4, (416, 416), stages)


def told() -> dict[str, Any]:
    """A status: what the lead's loop and parts say of themselves."""
    return {
        "loop": {
            "frames": 9000,
            "rate": 24.8,
            "dropped": 412,
            "drop_ratio": 0.0438,
            "stale": 3,
            "age_limit_ms": 300,
            "size": [416, 416],
            "milliseconds": {"read": [2.1, 3.0], "resize": [1.9, 2.4], "network": [20.4, 26.9], "decode": [0.8, 1.2]},
            "budget_ms": {"read": 4, "resize": 3, "network": 22, "decode": 2},
        },
        "bundle": {
            "name": "arch",
            "version": "7",
            "trust": "signed by team (3f9a…)",
            "backend": "TensorRT 8.2.1, fp16",
            "board": "jetson-tx2",
            "model": "model.fp16.onnx",
        },
        "source": {"kind": "csi", "state": "open", "reopened": 1},
        "heat": {
            "level": 1,
            "rung": "slower",
            "reason": "GPU-therm 84 °C",
            "temperatures": {"BCPU-therm": 71.5, "MCPU-therm": 70.0, "GPU-therm": 84.5, "Tboard_tegra": 55.0},
            "limits": {"BCPU-therm": 90, "MCPU-therm": 90, "GPU-therm": 80},
            "power_mode": "MAXP_CORE_ARM",
        },
        "mavlink": {
            "connection": "/dev/ttyTHS2",
            "open": True,
            "autopilot": [1, 1],
            "round_trip_ms": 4.1,
            "sent": {"HEARTBEAT": 123, "LANDING_TARGET": 8000},
            "health": "ACTIVE",
        },
        "log": {"is_on": True, "used_mib": 50.2, "problem": None},
    }


@contextmanager
def served(
    settings: WebSettings = SETTINGS, status: Callable[[], dict[str, Any]] = told, events: Events | None = None
) -> Iterator[Web]:
    """A page on a free port, closed at the end."""
    web = Web(settings, CLASSES, status, events or Events(stream=None))
    try:
        yield web
    finally:
        web.close()
