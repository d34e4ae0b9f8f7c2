"""Watches heat and power in a thread of its own, about once a second, and says what the loop is to keep to.

The loop asks `orders`, which never waits. What a sensor does wrong is an event and part of the status. Where the thread
itself gets stuck the last orders hold, and it is told.
"""

import os
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Set, Tuple

from deploy.bundle import Bundle
from deploy.events import Events
from deploy.frame import Observation
from deploy.health.ladder import Dwell, Orders, State, rungs, same_level, step
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
        self._sizes = self._rungs_of = tuple(sizes)
        self._rungs = rungs(settings.max_rate, sizes)
        self._rung = self._rungs[0]
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
        self._is_stuck = self._has_failed = False
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
        return self._rung.orders

    def change(self, bundle: Bundle, sizes: Sequence[Tuple[int, int]]) -> None:
        """See Part: from the next look on the ladder has the rungs of this bundle."""
        self._sizes = tuple(sizes)

    def look(self) -> None:
        """Read every sensor once and move on the ladder."""
        readings = self._with_tegrastats(self._sensors.read())
        verdict = self._limits.judge(readings)
        self._follow_bundle()
        before = self._state
        self._state = step(before, self._clock(), verdict.pressure, len(self._rungs) - 1, self._dwell)
        self._rung = self._rungs[self._state.level]
        self._readings, self._verdict, self._disk = readings, verdict, _free(Path(self._settings.disk))
        self._seen = self._clock()
        self._tell_level(self._rungs[before.level].name, self._state.level > before.level, verdict.reason)
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
            "rung": self._rung.name,
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
                if not self._has_failed:
                    self._events.add("error", "heat.failed", "a look at the sensors failed: {!r}".format(error))
                self._has_failed = True
            else:
                if self._has_failed:
                    self._events.add("info", "heat.failed", "the sensors are looked at again")
                self._has_failed = False
            self._over.wait(self._settings.interval)

    def _with_tegrastats(self, readings: Readings) -> Readings:
        """With what tegrastats says, or with the problem that it has fallen silent."""
        reader = self._tegrastats
        newest = reader.newest if reader is not None else None
        if reader is None or newest is None:
            return readings
        if self._clock() - newest[0] <= _STALE:
            return with_tegrastats(readings, newest[1].temperatures)
        problems = dict(readings.problems, tegrastats=reader.problem or "says nothing")
        return readings._replace(problems=problems)

    def _tegrastats_status(self) -> Optional[Dict[str, Any]]:
        if self._tegrastats is None or self._tegrastats.newest is None:
            return None
        read, stats = self._tegrastats.newest
        loads = [core.load if core else None for core in stats.cores]
        return {"age_s": round(self._clock() - read, 1), "cpu": loads, "gpu": stats.gpu[0], "emc": stats.emc[0]}

    def _follow_bundle(self) -> None:
        """Stand on the same rung of another bundle's ladder."""
        sizes = self._sizes
        if sizes == self._rungs_of:
            return
        before = self._rungs[self._state.level]
        self._rungs_of, self._rungs = sizes, rungs(self._settings.max_rate, sizes)
        self._state = self._state._replace(level=same_level(before.orders, self._rungs))
        self._rung = self._rungs[self._state.level]
        self._tell_level(before.name, False, "another bundle flies")

    def _tell_level(self, before: str, is_worse: bool, reason: str) -> None:
        if self._rung.name != before:
            text = "{} -> {}: {}".format(before, self._rung.name, reason)
            self._events.add("warning" if is_worse else "info", "heat.level", text)

    def _tell_problems(self, readings: Readings) -> None:
        """A zone or file that fails several times in a row is told once, and again when it is back.

        Everything that has a value answers; tegrastats is a problem only where it has spoken before.
        """
        answering = set(readings.temperatures) | set(readings.rails) | set(readings.overcurrent) | {"tegrastats"}
        self._missing = {name: self._missing.get(name, 0) + 1 for name in readings.problems}
        for name, times in self._missing.items():
            if times == _TRIES and name not in self._told:
                self._told.add(name)
                self._events.add("warning", "heat.sensor", "{} {}".format(name, readings.problems[name]))
        for name in sorted((self._told & answering) - set(readings.problems)):
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
