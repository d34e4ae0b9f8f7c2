"""The flight loop, from top to bottom: newest frame, resize, network, decode, track, publish.

Frame age is its contract: what it tells carries its age, and what is older than the limit is told as not current.
Knows nothing of cameras, of networks, nor of who is told.
"""

import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from deploy.backends import Networks
from deploy.budget import Budget
from deploy.errors import refuse
from deploy.events import Events
from deploy.frame import Frame, Observation, Track
from deploy.health.ladder import Orders
from deploy.part import Part
from deploy.percentiles import percentiles
from deploy.settings import require_ranges
from deploy.sources import EndOfSource, Source

STAGES = ("read", "resize", "network", "decode", "track", "publish")

# Milliseconds are kept for the newest frames only, so that a run of days needs no more memory than one of minutes.
_KEPT = 10000
_NEWEST = 300  # frames, for the status
_TURN = 0.1  # seconds that the loop waits for a frame before it looks at everything else


class LoopSettings(NamedTuple):
    """What the loop holds itself to.

    age_ms: milliseconds after its capture in which an observation is current; older ones are not told as what is there.
    frames: to run before it ends, or none for as long as there are any.
    rate: frames to run per second at most, or none for as many as there are.
    """

    age_ms: float = 250.0
    frames: Optional[int] = None
    rate: Optional[float] = None

    def check(self) -> None:
        """Refuse what is out of range."""
        require_ranges(self, age_ms=(1, 60000), frames=(1, 10**12), rate=(0.1, 1000))


class Summary(NamedTuple):
    """frames: run. dropped: arrived while busy. stale: older than the limit when they were published.

    corrupt: were no picture. detections: found in all. seconds: of the whole run.
    milliseconds, age_ms: (median, 99th percentile), by stage and in all.
    """

    frames: int
    dropped: int
    stale: int
    corrupt: int
    detections: int
    seconds: float
    milliseconds: Dict[str, List[float]]
    age_ms: List[float]


class Loop:
    """Takes the newest frame of a source again and again, and hands what it tells to every part.

    parts: in the order in which they are told. vision: that runs. tracker: has `update(seconds, detections)` and
    `reset()`, or None for no tracks. orders: what heat and power allow, asked at every turn. budget_ms: milliseconds
    that each of STAGES may take on this board; a stage over it is named in an event.

    A part that is not vital and fails is said and left out from then on; a vital one ends the loop, and so does the
    network.
    """

    def __init__(
        self,
        source: Source,
        networks: Networks,
        parts: Sequence[Part] = (),
        settings: Optional[LoopSettings] = None,
        tracker: Any = None,
        events: Optional[Events] = None,
        orders: Optional[Callable[[], Orders]] = None,
        budget_ms: Optional[Mapping[str, float]] = None,
    ) -> None:
        self._source, self._networks = source, networks
        self.parts = list(parts)
        self.vision = networks.own
        self._settings = settings or LoopSettings()
        self._tracker = tracker
        self._events = events or Events(None)
        self._orders = orders or Orders
        self._waiting: Deque[Networks] = deque()
        self._budget = Budget(budget_ms or {}, self._events)
        self._times: Dict[str, Deque[float]] = {stage: deque(maxlen=_KEPT) for stage in STAGES}
        self._ages: Deque[float] = deque(maxlen=_KEPT)
        self._ends: Deque[float] = deque(maxlen=_NEWEST)
        self._newest: Optional[Observation] = None
        self._due = 0.0
        self._stale_since: Optional[int] = None
        self.frames = self._found = self._stale = self._corrupt = 0

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> Summary:
        """Run until the source ends, so many frames were run as the settings say, or `should_stop` says so."""
        started = time.perf_counter()
        while self.frames != self._settings.frames and not should_stop():
            if not self._is_due():
                continue
            asked = time.monotonic()
            try:
                frame = self._source.newest(_TURN)
            except EndOfSource:
                break
            if frame is None:
                self._tell_nothing()
            elif self._is_picture(frame):
                # Waiting for a camera is not reading; a file is read while it is waited for.
                begin = max(asked, frame.captured) if self._source.kind == "live" else asked
                self._tell(frame, time.monotonic() - begin)
        return self._summary(time.perf_counter() - started)

    def change(self, networks: Networks) -> None:
        """Run another bundle from the next frame on; its golden frames must have been checked. Called from anywhere.

        From then on the loop closes the networks. Raises UserError where its classes are others: those who are told
        hold the names.
        """
        new, own = networks.own.bundle, self.vision.bundle
        if new.classes != own.classes:
            found = "has the classes {}, and {} flies".format(", ".join(new.classes), ", ".join(own.classes))
            raise refuse("{} {}".format(new.name, new.version), found, "restart with it")
        self._waiting.append(networks)

    def close(self) -> None:
        """Close the networks that run and those that were to run; what they were changed from is closed already."""
        self._networks.close()
        while self._waiting:
            self._waiting.popleft().close()

    def status(self) -> Dict[str, Any]:
        """What page, metrics and doctor show of the loop; called from any thread."""
        newest, ends = self._newest, list(self._ends)
        spent = {stage: percentiles(list(times)[-_NEWEST:]) for stage, times in self._times.items() if times}
        is_rate = len(ends) > 1 and ends[-1] > ends[0]
        total = self.frames + self._source.dropped
        return {
            "frames": self.frames,
            "frame": newest.frame.number if newest else None,
            "captured": newest.frame.captured if newest else None,
            "age_ms": (time.monotonic() - newest.frame.captured) * 1000 if newest else None,
            "age_limit_ms": self._settings.age_ms,
            "age_at_publish_ms": percentiles(list(self._ages)[-_NEWEST:]) or None,
            "rate": (len(ends) - 1) / (ends[-1] - ends[0]) if is_rate else 0.0,
            "dropped": self._source.dropped,
            "drop_ratio": self._source.dropped / total if total else 0.0,
            "stale": self._stale,
            "corrupt": self._corrupt,
            "detections": self._found,
            "size": list(self.vision.size),
            "milliseconds": spent,
            "budget_ms": self._budget.limits,
            "over_budget": sorted(self._budget.over),
        }

    def _is_due(self) -> bool:
        """Whether the next frame may be run; waits a little where orders want fewer of them."""
        rates = [rate for rate in (self._settings.rate, self._orders().max_rate) if rate is not None]
        wait = self._due - time.monotonic()
        if rates and wait > 0:
            time.sleep(min(wait, _TURN))
            if wait > _TURN:
                self._tell_nothing()
                return False
        self._due = time.monotonic() + (1 / min(rates) if rates else 0.0)
        return True

    def _tell(self, frame: Frame, read: float) -> None:
        """Look at a frame, and tell every part what it showed."""
        self._choose_vision()
        detections, spent = self.vision.look(frame.image)
        spent = dict({"read": read * 1000}, **spent)
        begin = time.perf_counter()
        tracks = self._follow(frame, detections)
        spent["track"] = (time.perf_counter() - begin) * 1000
        age, limit = time.monotonic() - frame.captured, self._settings.age_ms / 1000
        told = Observation(frame, detections, tracks, age, limit, self._source.dropped, self.vision.size, spent)
        begin = time.perf_counter()
        for part in list(self.parts):
            self._call(part, lambda one: one.publish(told))
        self._account(told, (time.perf_counter() - begin) * 1000)

    def _tell_nothing(self) -> None:
        now = time.monotonic()
        for part in list(self.parts):
            self._call(part, lambda one: one.idle(now))

    def _call(self, part: Part, what: Callable[[Part], None]) -> None:
        try:
            what(part)
        except Exception as error:
            if part.is_vital:
                raise
            self.parts.remove(part)
            self._events.add("error", "part." + part.name, "{} failed and is left out: {!r}".format(part.name, error))

    def _follow(self, frame: Frame, detections: Any) -> Tuple[Track, ...]:
        if self._tracker is None:
            return ()
        seconds = frame.captured if self._source.kind == "live" or frame.source_time is None else frame.source_time
        tracks: Tuple[Track, ...] = self._tracker.update(seconds, detections)
        return tracks

    def _choose_vision(self) -> None:
        """The network that orders want, and the bundle that was changed to."""
        is_changed = bool(self._waiting)
        while self._waiting:
            self._networks.close()
            self._networks = self._waiting.popleft()
        if is_changed:
            self.vision = self._networks.own
            if self._tracker is not None:
                self._tracker.reset()
            bundle, sizes = self.vision.bundle, self._networks.sizes
            self._events.add("info", "bundle.changed", "{0.name} {0.version} runs".format(bundle))
            for part in list(self.parts):
                self._call(part, lambda one: one.change(bundle, sizes))
        wanted = self._networks.at(self._orders().size)
        if wanted is not self.vision:
            self.vision = wanted
            self._events.add("info", "network.size", "{}x{} runs".format(*wanted.size))

    def _is_picture(self, frame: Frame) -> bool:
        image = frame.image
        is_array = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3
        if is_array and image.shape[2] == 3 and image.size:
            return True
        self._corrupt += 1
        self._events.add("warning", "frame.corrupt", "frame {} is no picture".format(frame.number))
        return False

    def _account(self, told: Observation, publish: float) -> None:
        self._newest = told
        spent = dict(told.milliseconds, publish=publish)
        for stage in STAGES:
            self._times[stage].append(spent[stage])
        self._budget.check(spent)
        self._ages.append(told.age * 1000)
        self._ends.append(time.monotonic())
        self.frames += 1
        self._found += len(told.detections.scores)
        self._note_staleness(told)

    def _note_staleness(self, told: Observation) -> None:
        """Say where it begins and where it ends; a loop that is always late would bury every other event."""
        if not told.is_current:
            self._stale += 1
            if self._stale_since is None:
                self._stale_since = self._stale
                text = "frame {} was {:.0f} ms old when it was told, the limit is {:g} ms"
                text = text.format(told.frame.number, told.age * 1000, self._settings.age_ms)
                self._events.add("warning", "loop.stale", text)
        elif self._stale_since is not None:
            count, self._stale_since = self._stale - self._stale_since + 1, None
            self._events.add("info", "loop.current", "frames are current again; {} were too old".format(count))

    def _summary(self, seconds: float) -> Summary:
        spent = {stage: percentiles(times) for stage, times in self._times.items() if times}
        ages, dropped = percentiles(self._ages), self._source.dropped
        return Summary(self.frames, dropped, self._stale, self._corrupt, self._found, seconds, spent, ages)
