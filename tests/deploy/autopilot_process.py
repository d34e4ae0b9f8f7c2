"""The test's end of the fake autopilot, and observations to publish."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from deploy.frame import Detections, Frame, Observation, Track

HERE = Path(__file__).parent
PATIENCE = 20.0  # seconds


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


class Autopilot:
    """Everything that the other process decoded, in `rows`."""

    def __init__(self, *arguments: object) -> None:
        self.rows: list[dict[str, Any]] = []
        self._process = start("fake_autopilot.py", *arguments)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.wait(lambda: self.of("READY"))

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.rows.append(json.loads(line))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [row for row in list(self.rows) if row["kind"] == kind]

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def wait(self, condition: Callable[[], Any]) -> Any:
        return until(condition)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)


def until(condition: Callable[[], Any]) -> Any:
    """What the condition gives, as soon as that is true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("it did not come about")


IMAGE = np.zeros((480, 640, 3), np.uint8)


def track(number: int = 1, box: tuple[float, ...] = (300, 200, 400, 300), **changes: Any) -> Track:
    made = Track(number, box, (0.0, 0.0), 0.9, 0, 5, 0.0, (0.5, 0.5))  # type: ignore[arg-type]
    return made._replace(**changes)


def observation(*tracks: Track, number: int = 0, age: float = 0.01, limit: float = 0.5) -> Observation:
    boxes = np.array([one.box for one in tracks], np.float32).reshape(-1, 4)
    found = Detections(boxes, np.array([one.score for one in tracks], np.float32), np.zeros(len(tracks), np.int64))
    frame = Frame(number, time.monotonic() - age, None, IMAGE, "test")
    return Observation(frame, found, tuple(tracks), age, limit, 0, (416, 416), {})
