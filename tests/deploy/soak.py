"""Flies for many frames while everything goes wrong, and looks whether anything old is told or anything grows.

    python tests/deploy/soak.py FOLDER --frames 100000 --seed 1

FOLDER/log may be a small file system of its own; it is filled up now and then, and emptied again.
The loop with all its parts is the real one; autopilot, bad line and people who watch are processes and sockets. What is
not real: the camera (`FaultySource`), the board's sensors, and a wall clock that jumps. Prints one line of JSON.
"""

import argparse
import json
import random
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from autopilot_process import Autopilot, free_port, start
from faulty_source import Faults, FaultySource, number_in
from made_frames import is_of, picture
from signed_bundle import make_key, write_signed
from sysfs_stand_in import SysfsStandIn

from deploy.backends import Choice, Networks, open_networks
from deploy.bundle import Bundle
from deploy.drone_settings import SECTIONS
from deploy.events import Events
from deploy.flightlog.reading import FlightRecords, find_flight
from deploy.fly import Flight
from deploy.frame import Observation
from deploy.part import Part
from deploy.settings import read_settings

SETTINGS = """
[loop]
age_ms = 250
[mavlink]
connection = udpout:127.0.0.1:{line}
rate = 50
[geometry]
field_of_view = 60
[web]
port = {web}
rate = 20
clients = 8
[log]
folder = {folder}/log
disk = 8
frames_disk = 4
segment = 0.5
protect = 0
reserve = 0
keep = 60
[health]
disk = {folder}
interval = 0.2
worse_after = 1
better_after = 1
max_rate = 1000
tegrastats = none
low_disk = 0
"""
_FAULTS_EVERY = 400  # frames, on average, between two faults of what is around the loop
_STAYS = 8  # frames for which the square stays where it is
_LATE = 0.1  # seconds between the look at the clock and the judgement, on a busy machine


class Watcher(Part):
    """Looks at what is told: each frame once, with its own detections, and nothing old told as current."""

    name = "watcher"
    is_vital = True

    def __init__(self, act: Callable[[], None]) -> None:
        self.wrong: list[str] = []
        self.frames = self.stale = 0
        self._last = -1
        self._act = act

    def publish(self, observation: Observation) -> None:
        number = number_in(observation.frame)
        if number <= self._last:
            self.wrong.append(f"frame {number} after {self._last}")
        if not is_of(number // _STAYS, observation.detections):
            self.wrong.append(f"frame {number} has the detections of another: {observation.detections}")
        age = time.monotonic() - observation.frame.captured
        if observation.is_current and age > observation.limit + _LATE:
            self.wrong.append(f"frame {number} is {age:.3f} s old and was told as current")
        self.stale += not observation.is_current
        self.frames += 1
        self._last = number
        self._act()


class World:
    """What goes wrong around the loop, by a seed. counts: of each fault."""

    def __init__(self, folder: Path, seed: int, web: int, autopilot: Autopilot) -> None:
        self.counts: dict[str, int] = {}
        self.board = SysfsStandIn(folder / "board")
        self.board.trip("GPU-therm", 1, "passive", 80)
        self.flight: Flight | None = None
        self.bundles = [_bundle(folder, version) for version in ("1", "2")]
        self._random = random.Random(seed)
        self._log, self._web, self._autopilot = folder / "log", web, autopilot
        self._rude: list[socket.socket] = []
        self._time = time.time
        self._faults: dict[str, Callable[[], None]] = {
            "bundle": self._change_bundle,
            "disk full": self._fill,
            "disk freed": self._free,
            "autopilot's clock": lambda: self._autopilot.tell(f"jump {self._random.uniform(-1000, 1000)}"),
            "autopilot silent": lambda: self._autopilot.tell("mute"),
            "autopilot back": lambda: self._autopilot.tell("speak"),
            "garbage": lambda: self._autopilot.tell(f"garbage 500 {self._random.randrange(1000)}"),
            "wall clock": self._move_wall_clock,
            "rude client": self._connect,
            "client": self._ask,
            "heat": lambda: self.board.heat("GPU-therm", 95.0),
            "cool": lambda: self.board.heat("GPU-therm", 45.0),
        }

    def act(self) -> None:
        """Now and then do something."""
        if self._random.random() < 1 / _FAULTS_EVERY:
            name = self._random.choice(sorted(self._faults))
            self.counts[name] = self.counts.get(name, 0) + 1
            self._faults[name]()
            del self._autopilot.rows[:-100]  # the test's memory is not the loop's

    def close(self) -> None:
        time.time = self._time
        for client in self._rude:
            client.close()

    def _change_bundle(self) -> None:
        assert self.flight is not None
        self.flight.loop.change(networks_of(self._random.choice(self.bundles)))

    def _fill(self) -> None:
        """A file that takes all that is left, where the log has a file system of its own."""
        if not self._log.is_mount():
            return
        with suppress(OSError), (self._log / "filler").open("ab") as filler:
            while True:
                filler.write(bytes(1 << 16))
                filler.flush()

    def _free(self) -> None:
        (self._log / "filler").unlink(missing_ok=True)

    def _move_wall_clock(self) -> None:
        jump = self._random.uniform(-1e6, 1e6)
        time.time = lambda: time.clock_gettime(time.CLOCK_REALTIME) + jump

    def _connect(self) -> None:
        """One that says half a request and then nothing."""
        client = socket.create_connection(("127.0.0.1", self._web), timeout=1)
        client.sendall(b"GET /api/frame HTTP/1.1\r\nHo")
        self._rude = [*self._rude[-3:], client]

    def _ask(self) -> None:
        path = self._random.choice(["api/status", "metrics", "api/frame"])
        threading.Thread(target=_read, args=(f"http://127.0.0.1:{self._web}/{path}",), daemon=True).start()


def main() -> None:
    """Fly, and print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    line, heard, web = free_port(), free_port(), free_port()
    proxy = start("udp_proxy.py", line, heard, options.seed, 0.05, 0.02)
    autopilot = Autopilot("udp", heard)
    text = SETTINGS.format(line=line, web=web, folder=options.folder)
    (options.folder / "detect.ini").write_text(text)
    world = World(options.folder, options.seed, web, autopilot)
    try:
        result = _fly(world, read_settings(options.folder / "detect.ini", SECTIONS), options)
    finally:
        world.close()
        proxy.kill()
        autopilot.close()
    result["too_late"] = _told_too_late(options.folder / "log")
    print(json.dumps(result))


def _fly(world: World, settings: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    events = Events(None)
    sizes: list[tuple[int, int, int]] = []
    source = FaultySource(options.seed, options.frames, events, Faults(), picture=_as_a_camera_gives_it)
    process = psutil.Process()

    def act() -> None:
        world.act()
        if watcher.frames % (options.frames // 20) == 0:
            sizes.append((process.memory_info().rss >> 10, process.num_fds(), process.num_threads()))

    watcher = Watcher(act)
    networks = networks_of(world.bundles[0])
    world.flight = flight = Flight(settings, world.bundles[0], networks, events, [watcher], world.board.root, source)
    try:
        summary = flight.loop.run()
        status = flight.status()
    finally:
        flight.close()
    return {
        "seed": options.seed,
        "frames": watcher.frames,
        "made": source.made,
        "wrong": watcher.wrong[:10],
        "stale": watcher.stale,
        "corrupt": summary.corrupt,
        "camera": source.faults,
        "world": world.counts,
        "events": events.counts,
        "sent": status["mavlink"]["sent"],
        "age_ms": summary.age_ms,
        "kib_files_threads": sizes,
        "log_mib": sum(file.stat().st_size for file in (options.folder / "log").rglob("*") if file.is_file()) / 2**20,
    }


def _as_a_camera_gives_it(number: int) -> np.ndarray:
    """(64, 64, 3) uint8 BGR."""
    return picture(number // _STAYS)


def networks_of(bundle: Bundle) -> Networks:
    """The networks of a bundle, on one thread."""
    return open_networks(bundle, Choice("onnxruntime", threads=1))


def _bundle(folder: Path, version: str) -> Bundle:
    return write_signed(folder / f"colours-{version}", make_key(folder / f"keys-{version}", "maker"))


def _read(address: str) -> None:
    with suppress(OSError):
        urllib.request.urlopen(address, timeout=5).read()


def _told_too_late(log: Path) -> list[str]:
    """Targets that the autopilot was told later than the age limit and a bridged gap after any frame."""
    newest, late = -1e9, []
    for record in FlightRecords(find_flight(log)):
        if record["type"] == "frame":
            newest = max(newest, record["captured"])
        elif record["type"] == "sent" and record["message"]["mavpackettype"] == "LANDING_TARGET":
            gap = record["t"] - newest
            if newest > 0 and gap > 0.25 + 0.3 + _LATE:
                late.append(f"{gap:.3f} s")
    return late[:10]


if __name__ == "__main__":
    main()
