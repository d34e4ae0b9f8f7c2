"""Watches heat and power in a thread of its own, about once a second, and says what the loop is to keep to.

The loop asks `orders`, which never waits. What a sensor does wrong is an event and part of the status. Where the thread
itself gets stuck the last orders hold, and it is told.
"""

import os
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Set, Tuple

from deploy.events import Events
from deploy.frame import Observation
from deploy.health.ladder import Dwell, Orders, State, rungs, step
from deploy.health.limits import Limits, Verdict, with_tegrastats
from deploy.health.sensors import Readings, Sensors
from deploy.health.settings import HealthSettings
from deploy.health.tegrastats import TegrastatsReader
from deploy.part import Part

_TRIES = 3  # looks without a value, before it is told: one that is asleep for a moment is no news
_STALE = 5.0  # seconds after which what tegrastats said is not of now


class Health(Part):
    """A part that gives `orders` and `level`.

    board: `Bundle.board`. sizes: (width, height) of the bundle's models, that of the one that runs first. root: the
    folder that holds sys, proc and var; tests choose another. With is_watching False nothing runs by itself, and
    `look` does one round.
    """

    name = "heat"

    def __init__(
        self,
        settings: HealthSettings,
        board: Dict[str, Any],
        sizes: Sequence[Tuple[int, int]],
        events: Events,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
        is_watching: bool = True,
    ) -> None:
        self._settings, self._events, self._clock = settings, events, clock
        self._rungs = rungs(settings.max_rate, sizes)
        self._dwell = Dwell(settings.worse_after, settings.better_after)
        self._limits = Limits(board.get("thermal") or {}, settings)
        self._modes = {mode["id"]: mode["name"] for mode in board.get("power_modes") or ()}
        self._sensors = Sensors(root, settings.patience, self._limits.ignored)
        self._state = State()
        self._verdict: Optional[Verdict] = None
        self._readings: Optional[Readings] = None
        self._disk: Optional[float] = None
        self._missing: Dict[str, int] = {}
        self._told: Set[str] = set()
        self._seen_zones: Set[str] = set()
        self._seen = clock()
        self._is_stuck = False
        self._over = threading.Event()
        self._tegrastats: Optional[TegrastatsReader] = None
        self._thread: Optional[threading.Thread] = None
        if is_watching:
            if settings.tegrastats not in ("", "none"):
                self._tegrastats = TegrastatsReader(settings.tegrastats, settings.interval, clock)
            self._thread = threading.Thread(target=self._watch, daemon=True, name="heat")
            self._thread.start()

    @property
    def level(self) -> int:
        """The rung: 0 is normal."""
        return self._state.level

    @property
    def orders(self) -> Orders:
        """What the loop is to keep to; from any thread, at once."""
        return self._rungs[self._state.level].orders

    def look(self) -> None:
        """Read every sensor once and move on the ladder."""
        readings = self._sensors.read()
        stats = self._tegrastats.newest if self._tegrastats is not None else None
        if stats is not None and self._clock() - stats[0] <= _STALE:
            readings = with_tegrastats(readings, stats[1].temperatures)
        verdict = self._limits.judge(readings)
        before = self._state
        self._state = step(before, self._clock(), verdict.pressure, len(self._rungs) - 1, self._dwell)
        self._readings, self._verdict, self._disk = readings, verdict, _free(Path(self._settings.disk))
        self._seen = self._clock()
        self._tell_level(before.level, verdict)
        self._tell_problems(readings)
        self._tell_scarce("memory.low", "memory", readings.memory, self._settings.low_memory)
        self._tell_scarce("disk.low", self._settings.disk, self._disk, self._settings.low_disk)

    def publish(self, observation: Observation) -> None:
        """Notice in the loop's thread where the one that watches does not get on."""
        self.idle(observation.frame.captured)

    def idle(self, now: float) -> None:
        """As `publish`."""
        is_stuck = self._thread is not None and self._clock() - self._seen > 10 * max(self._settings.interval, 1.0)
        if is_stuck != self._is_stuck:
            self._is_stuck = is_stuck
            if is_stuck:
                self._events.add("error", "heat.stuck", "no sensor answers; the orders of before hold")
            else:
                self._events.add("info", "heat.stuck", "sensors answer again")

    def status(self) -> Dict[str, Any]:
        """JSON values: level, what was read, what could not be, and how old that is."""
        readings, verdict, state = self._readings, self._verdict, self._state
        about: Dict[str, Any] = {
            "level": state.level,
            "rung": self._rungs[state.level].name,
            "is_stuck": self._is_stuck,
        }
        if readings is None or verdict is None:
            return about
        about.update(readings._asdict())
        del about["trips"]
        about.update(
            age_s=round(self._clock() - self._seen, 1),
            reason=verdict.reason,
            headroom=verdict.headroom,
            throttled=list(readings.throttled),
            power_mode=self._modes.get(readings.power_mode, readings.power_mode),
            disk=self._disk,
            limits={zone: self._limits.hot_at(zone, readings.trips.get(zone)) for zone in readings.temperatures},
            tegrastats=self._tegrastats_status(),
        )
        return about

    def close(self) -> None:
        """End the thread and tegrastats."""
        self._over.set()
        if self._tegrastats is not None:
            self._tegrastats.close()
        if self._thread is not None:
            self._thread.join(5.0)

    def _watch(self) -> None:
        while not self._over.is_set():
            try:
                self.look()
            except Exception as error:  # without this thread nobody would see the next heat
                self._events.add("error", "heat.failed", "a look at the sensors failed: {!r}".format(error))
            self._over.wait(self._settings.interval)

    def _tegrastats_status(self) -> Optional[Dict[str, Any]]:
        if self._tegrastats is None or self._tegrastats.newest is None:
            return None
        read, stats = self._tegrastats.newest
        loads = [core.load if core else None for core in stats.cores]
        return {"age_s": round(self._clock() - read, 1), "cpu": loads, "gpu": stats.gpu[0], "emc": stats.emc[0]}

    def _tell_level(self, before: int, verdict: Verdict) -> None:
        level = self._state.level
        if level != before:
            text = "{} -> {}: {}".format(self._rungs[before].name, self._rungs[level].name, verdict.reason)
            self._events.add("warning" if level > before else "info", "heat.level", text)

    def _tell_problems(self, readings: Readings) -> None:
        """A zone or file that fails several times in a row is told once, and again when it is back."""
        self._missing = {name: self._missing.get(name, 0) + 1 for name in readings.problems}
        for name, times in self._missing.items():
            if times == _TRIES and name not in self._told:
                self._told.add(name)
                self._events.add("warning", "heat.sensor", "{} {}".format(name, readings.problems[name]))
        for name in sorted(self._told & set(readings.temperatures)):
            self._told.discard(name)
            self._events.add("info", "heat.sensor", "{} answers again".format(name))
        # A folder that vanished leaves no problem behind, only fewer zones.
        gone = self._seen_zones - set(readings.temperatures) - set(readings.problems)
        for name in sorted(gone - self._told):
            self._told.add(name)
            self._events.add("warning", "heat.sensor", "{} is gone".format(name))
        self._seen_zones |= set(readings.temperatures)

    def _tell_scarce(self, kind: str, what: str, free: Optional[float], least: float) -> None:
        if free is None:
            return
        if free < least and kind not in self._told:
            self._told.add(kind)
            self._events.add("warning", kind, "{:.0f} MiB left of {}".format(free, what))
        elif free > least * 1.2 and kind in self._told:
            self._told.discard(kind)
            self._events.add("info", kind, "{:.0f} MiB left of {} again".format(free, what))


def _free(folder: Path) -> Optional[float]:
    """MiB free for users on the disk of a folder, or of the nearest folder above that is there."""
    for path in (folder, *folder.parents):
        try:
            about = os.statvfs(str(path))
        except OSError:
            continue
        return about.f_bavail * about.f_frsize / float(1 << 20)
    return None
