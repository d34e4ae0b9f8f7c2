"""The part of the loop that tells the autopilot: one thread does all that waits, `publish` leaves the newest there.

Each observation is told once, while it is current, or never. No target, an old frame, a target foretold for too long:
silence, which is what an autopilot understands. Heartbeats and times go on.
"""

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from deploy.autopilot.link import Link, parse_address, wait_for
from deploy.autopilot.messages import Speaker, body_angles, read_signing_key
from deploy.autopilot.settings import MavlinkSettings
from deploy.autopilot.timesync import TimeSync
from deploy.errors import refuse
from deploy.events import Events
from deploy.frame import Observation, Track
from deploy.geometry import Aim, Sight
from deploy.part import Part

_HEARTBEAT = 1.0  # seconds between two, https://mavlink.io/en/services/heartbeat.html
_SYNC_SOON, _SYNC = 0.1, 1.0  # seconds between requests while the clock is not known, and when it is
_LONGEST_SLEEP = 0.2  # seconds
_STALE = 2.0  # seconds without a current observation after which the heartbeat says so
_PATIENCE = 3.0  # seconds in which the thread must end


class MavlinkPart(Part):
    """Tells the autopilot about the best target. Raises UserError where the settings cannot be met.

    sight: aims. classes: names, by index. on_sent: told of every message that went, for a log. health: a heartbeat says
    CRITICAL while it is False; set by who watches heat.
    """

    name = "mavlink"
    is_vital = True

    def __init__(
        self,
        settings: MavlinkSettings,
        sight: Sight,
        classes: Sequence[str],
        events: Events,
        clock: Callable[[], float] = time.monotonic,
        on_sent: Optional[Callable[[Dict[str, Any]], None]] = None,
    ) -> None:
        if settings.connection is None:
            raise refuse("connection=none", "there is no autopilot to tell", "leave this part out")
        self._settings, self._sight, self._events, self._clock = settings, sight, events, clock
        self._allowed = _allowed(settings.classes, classes)
        if settings.angles == "body" and float(sight.to_body[2, 2]) < 0.2:
            remedy = "write angles = image, or the pitch at which it is mounted"
            raise refuse("angles=body", "the camera does not look down", remedy)
        key = read_signing_key(Path(settings.signing_key)) if settings.signing_key is not None else None
        self._link = Link(parse_address(settings.connection), clock, self._line_changed)
        self._speaker = Speaker(settings.system, settings.component, self._link.write, key, on_sent)
        self._sync = TimeSync()
        self.health = True
        self._lock = threading.Lock()
        self._slot: Optional[Tuple[Observation, float]] = None
        self._begin_counts()
        self._wake_read, self._wake_write = os.pipe()
        for file in (self._wake_read, self._wake_write):
            os.set_blocking(file, False)
        self._events.add("info", "mavlink.camera", sight.text)
        self._thread = threading.Thread(target=self._run, name="mavlink", daemon=True)
        self._thread.start()

    def _begin_counts(self) -> None:
        self._is_closing = False
        self._failure: Optional[BaseException] = None
        self._target = 0  # number of the track that is told
        self._doubt = ""
        self._stale = self._silent = 0
        self._last_current = -1e9
        self._was_seen = False
        self._autopilot: Optional[Tuple[int, int]] = None
        self._heard_at = self._last_told = self._last_detections = -1e9
        self._next_heartbeat = self._next_sync = -1e9

    def publish(self, observation: Observation) -> None:
        """Leave the newest observation to the thread."""
        now = self._clock()
        self.idle(now)
        self._was_seen = True
        if observation.is_current:
            self._last_current = now
        with self._lock:
            self._slot = (observation, now)
        self._wake()

    def idle(self, now: float) -> None:
        """Notice where the thread ended: the loop must not go on as if the autopilot was told.

        Raises RuntimeError then.
        """
        if self._failure is not None:
            raise RuntimeError("the thread of the autopilot's line ended") from self._failure

    def status(self) -> Dict[str, Any]:
        """What the line does, for page, metrics and doctor."""
        offset, round_trip = self._sync.offset, self._sync.round_trip
        return {
            "connection": self._settings.connection,
            "open": self._link.is_open,
            "autopilot": None if self._autopilot is None else list(self._autopilot),
            "time_synchronised": self._sync.is_settled,
            "time_offset_ms": None if offset is None else offset / 1e6,
            "round_trip_ms": None if round_trip is None else round_trip / 1e6,
            "clock_jumps": self._sync.jumps,
            "sent": dict(self._speaker.sent),
            "not_sent": self._link.unsent,
            "heard": self._speaker.heard,
            "garbage": self._speaker.garbage,
            "stale": self._stale,
            "silent": self._silent,
            "target": self._target,
            "position_doubt": self._doubt,
            "camera": self._sight.text,
            "health": self._state(),
        }

    def close(self) -> None:
        """Say goodbye and give the line back."""
        if self._is_closing:
            return
        self._is_closing = True
        self._wake()
        self._thread.join(_PATIENCE)
        if not self._thread.is_alive():
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # then it is awake already
            os.write(self._wake_write, b"!")

    def _run(self) -> None:
        try:
            while not self._is_closing:
                self._link.open()
                is_readable, is_woken = wait_for(self._link, self._wake_read, self._sleep())
                if is_woken:
                    os.read(self._wake_read, 4096)
                if is_readable:
                    self._receive(self._link.read())
                self._send(self._clock())
            self._speaker.say(self._speaker.heartbeat("POWEROFF"))
        except BaseException as error:  # a mistake of ours: the loop must not go on as if it was told
            self._failure = error
            raise
        finally:
            self._link.close()

    def _sleep(self) -> float:
        """Seconds until something is due; with no line nothing is."""
        if not self._link.is_open:
            return _LONGEST_SLEEP
        due = [self._next_heartbeat, self._next_sync]
        if self._slot is not None:
            due.append(self._last_told + 1 / self._settings.rate)
        return min(max(min(due) - self._clock(), 0.001), _LONGEST_SLEEP)

    def _send(self, now: float) -> None:
        self._watch_link(now)
        if not self._link.is_open:
            self._take_if_due(now)  # too old once the line is back
            return
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + _HEARTBEAT
            self._speaker.keep_signing_time()
            self._speaker.say(self._speaker.heartbeat(self._state()))
        if now >= self._next_sync:
            is_known = self._sync.is_settled and not self._sync.is_doubted
            self._next_sync = now + (_SYNC if is_known or self._autopilot is None else _SYNC_SOON)
            ours = self._nanoseconds()
            self._sync.asked(ours)
            self._speaker.say(self._speaker.timesync(0, ours))
        newest = self._take_if_due(now)
        if newest is not None:
            self._tell(*newest)

    def _take_if_due(self, now: float) -> Optional[Tuple[Observation, float]]:
        if now < self._last_told + 1 / self._settings.rate:
            return None
        with self._lock:
            newest, self._slot = self._slot, None
        return newest

    def _tell(self, observation: Observation, published: float) -> None:
        """Tell of a frame, if it is still what is there now."""
        age = observation.age + self._clock() - published
        track = self._choose(observation.tracks)
        self._target = 0 if track is None else track.number
        self._tell_detections(observation, age)
        if age > observation.limit:
            self._stale += 1
            return
        height, width = observation.frame.image.shape[:2]
        aim = None if track is None else self._sight.aim(track, width, height)
        angles = None if aim is None else self._angles(aim)
        if track is None or aim is None or angles is None:
            self._silent += 1
            return
        self._say_doubt(aim.doubt)
        captured = int(observation.frame.captured * 1e9)
        theirs = self._sync.to_theirs(captured)
        stamp = (captured if theirs is None else theirs) // 1000
        if self._speaker.say(self._speaker.landing_target(track, aim, stamp, angles)):
            self._last_told = self._clock()

    def _tell_detections(self, observation: Observation, age: float) -> None:
        now = self._clock()
        if self._settings.detections == "none" or now < self._last_detections + 1 / self._settings.detections_rate:
            return
        self._last_detections = now
        if self._settings.detections == "named":
            stamp = self._nanoseconds() // 1000000
            for message in self._speaker.named_values(stamp, observation.detections, age, self._target):
                self._speaker.say(message)
            return
        system, component = self._autopilot or (0, 0)
        number = observation.frame.number
        self._speaker.say(self._speaker.tunnel(system, component, number, observation.detections, age))

    def _choose(self, tracks: Sequence[Track]) -> Optional[Track]:
        """The target that was told before for as long as it can be, else the best one that is seen."""
        usable = [
            track
            for track in tracks
            if track.class_index in self._allowed and track.bridged <= self._settings.max_bridge
        ]
        for track in usable:
            if track.number == self._target:
                return track
        return max(usable, key=lambda one: (not one.is_bridging, one.score, -one.number)) if usable else None

    def _angles(self, aim: Aim) -> Optional[Tuple[float, float]]:
        return (aim.angle_x, aim.angle_y) if self._settings.angles == "image" else body_angles(aim)

    def _say_doubt(self, doubt: str) -> None:
        if doubt.split(" to ")[0] != self._doubt.split(" to ")[0]:
            self._events.add("info", "mavlink.place", "no place told: " + doubt if doubt else "place told")
        self._doubt = doubt

    def _receive(self, data: bytes) -> None:
        received = self._nanoseconds()
        for message in self._speaker.hear(data):
            kind, sender = message.get_type(), (message.get_srcSystem(), message.get_srcComponent())
            if kind == "HEARTBEAT" and self._is_autopilot(message):
                self._heard(sender)
            elif kind == "TIMESYNC" and message.tc1 == 0:
                self._speaker.say(self._speaker.timesync(self._nanoseconds(), message.ts1))
            elif kind == "TIMESYNC" and sender == self._autopilot:
                if self._sync.answered(message.ts1, message.tc1, received):
                    self._events.add("warning", "mavlink.clock", "the autopilot's clock jumped")
                elif self._sync.is_doubted:
                    self._next_sync = min(self._next_sync, self._clock() + _SYNC_SOON)

    def _is_autopilot(self, message: Any) -> bool:
        mavlink = self._speaker.dialect
        return message.autopilot != mavlink.MAV_AUTOPILOT_INVALID and message.type != mavlink.MAV_TYPE_GCS

    def _heard(self, sender: Tuple[int, int]) -> None:
        self._heard_at = self._clock()
        if self._autopilot is None:
            self._events.add("info", "mavlink.link", "autopilot {}/{} is there".format(*sender))
        elif self._autopilot != sender:
            return
        self._autopilot = sender

    def _watch_link(self, now: float) -> None:
        if self._autopilot is not None and now - self._heard_at > self._settings.link_timeout:
            text = "no heartbeat of autopilot {}/{} for {:g} s".format(*self._autopilot, self._settings.link_timeout)
            self._events.add("warning", "mavlink.lost", text)
            self._autopilot = None
            self._sync.reset()

    def _line_changed(self, is_open: bool, why: str) -> None:
        self._events.add("info" if is_open else "warning", "mavlink.line", why)

    def _state(self) -> str:
        if not self._was_seen:
            return "BOOT"
        return "ACTIVE" if self.health and self._clock() - self._last_current < _STALE else "CRITICAL"

    def _nanoseconds(self) -> int:
        return int(self._clock() * 1e9)


def _allowed(names: Sequence[str], classes: Sequence[str]) -> Tuple[int, ...]:
    for name in names:
        if name not in classes:
            raise refuse("classes={}".format(name), "no such class", "allowed: " + ", ".join(classes))
    return tuple(index for index, name in enumerate(classes) if not names or name in names)
