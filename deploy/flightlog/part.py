"""The flight log as a part of the loop: takes what is told, at once, and writes it in a thread of its own.

Records reach the files about four times a second and the disk every `sync` seconds. What does not fit into the queue,
or finds no room on the disk, is dropped and counted: the flight never waits for its log. When the disk takes no more
the log stops, says so, and goes on in a new segment as soon as there is room again.
"""

import json
import threading
import time
import uuid
from collections import Counter, deque
from pathlib import Path
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from deploy.bundle import Bundle
from deploy.events import Event, Events
from deploy.files import new_file
from deploy.flightlog.budget import free_bytes, trim_frames, trim_records
from deploy.flightlog.lines import encode
from deploy.flightlog.records import SCHEMA, about_bundle, event_record, frame_record, kept_record, versions
from deploy.flightlog.segments import FRAMES, SegmentWriter, new_flight
from deploy.flightlog.settings import LogSettings
from deploy.flightlog.worth import Chooser, Reason
from deploy.frame import Observation
from deploy.part import Part

_BATCH = 0.25  # seconds between two writes
_AGAIN = 5.0  # seconds before a disk that took nothing is tried again
_TRIM = 10.0  # seconds between two looks at what the log takes, where no segment was finished
_ROOM = 0.95  # of their share is left to the frames worth labelling where there are more, so that the next look is far
_PICTURES = 4  # frames worth labelling that may wait, since each holds its image
_EVENTS = 100  # that wait for a disk that takes nothing
_MIB = 1 << 20
_NO_IMAGE = np.empty((0, 0, 3), np.uint8)

_Item = Tuple[float, Dict[str, Any], Optional[Observation]]


class FlightLog(Part):
    """A part that leaves a folder `flight-NNNNNN` below `settings.folder`.

    about: what the header says beside the bundle: settings, camera, versions of what infers. watch: what to write every
    `settings.heat` seconds, `Health.status`. Events are taken from `events` from the start. seed: of the frames kept by
    chance.
    """

    name = "log"

    def __init__(
        self,
        settings: LogSettings,
        bundle: Bundle,
        events: Events,
        about: Optional[Dict[str, Any]] = None,
        watch: Optional[Callable[[], Dict[str, Any]]] = None,
        clock: Callable[[], float] = time.monotonic,
        seed: Optional[int] = None,
    ) -> None:
        self._settings, self._events, self._clock, self._watch = settings, events, clock, watch
        self._classes: Sequence[str] = bundle.classes
        self._chooser = Chooser(settings, bundle.score_threshold, seed)
        self._queue: Deque[_Item] = deque()
        self._pictures: Deque[Tuple[Observation, Tuple[Reason, ...]]] = deque()
        self._lock = threading.Lock()
        self._dropped: "Counter[str]" = Counter()
        self._untold: "Counter[str]" = Counter()
        self._kept: "Counter[str]" = Counter()
        self._kept_at: Dict[Path, float] = {}
        self._numbers = 0
        self._problem = ""
        self._try_at = self._sync_at = self._watch_at = self._trim_at = float("-inf")
        self._used = self._frames_used = self._closed = 0
        self._has_looked = False  # at the frames of all flights
        self._header = self._make_header(bundle, about or {})
        self._writer: Optional[SegmentWriter] = None
        self._over = threading.Event()
        self.flight: Optional[Path] = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="flight log")
        if settings.is_on:
            events.listen(self._event)
            self._thread.start()

    @property
    def synced(self) -> int:
        """Records that a power cut leaves."""
        return self._writer.synced if self._writer is not None else 0

    def publish(self, observation: Observation) -> None:
        """Take a frame, and its picture where it is worth labelling: until written, the image must not change."""
        if not self._settings.is_on:
            return
        reasons = self._chooser.choose(observation)
        small = observation._replace(frame=observation.frame._replace(image=_NO_IMAGE))
        self._take(self._clock(), {"type": "frame"}, small)
        if reasons:
            with self._lock:
                is_full = len(self._pictures) >= _PICTURES or bool(self._problem)
                if is_full:
                    self._count("picture")
                else:
                    self._pictures.append((observation, reasons))

    def change(self, bundle: Bundle, sizes: Sequence[Tuple[int, int]]) -> None:
        """See Part: what is worth labelling lies near the threshold that holds now."""
        self._chooser.threshold = bundle.score_threshold

    def sent(self, message: Dict[str, Any]) -> None:
        """Note a message as it was handed to the autopilot; JSON values. From any thread."""
        if self._settings.is_on:
            self._take(self._clock(), {"type": "sent", "message": dict(message)}, None)

    def status(self) -> Dict[str, Any]:
        """JSON values: where, how much, and what was not written."""
        writer = self._writer
        with self._lock:
            waiting, dropped, kept = len(self._queue), dict(self._dropped), dict(self._kept)
        return {
            "is_on": self._settings.is_on,
            "flight": self.flight.name if self.flight is not None else None,
            "written": writer.written if writer is not None else 0,
            "synced": self.synced,
            "waiting": waiting,
            "dropped": dropped,
            "kept": kept,
            "used_mib": round(self._used / _MIB, 2),
            "frames_mib": round(self._frames_used / _MIB, 2),
            "problem": self._problem,
        }

    def close(self) -> None:
        """Write and sync what waits, and end the thread."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(10.0)

    def _event(self, event: Event) -> None:
        self._take(event.monotonic, event_record(event), None)

    def _take(self, now: float, record: Dict[str, Any], observation: Optional[Observation]) -> None:
        with self._lock:
            if len(self._queue) < self._settings.queue:
                self._queue.append((now, record, observation))
            else:
                self._count(record["type"])

    def _count(self, kind: str) -> None:
        """Note that one of a kind is not written; the lock is held."""
        self._dropped[kind] += 1
        self._untold[kind] += 1

    def _make_header(self, bundle: Bundle, about: Dict[str, Any]) -> Dict[str, Any]:
        began = {"monotonic": self._clock(), "wall": time.time()}
        header = {"type": "header", "schema": SCHEMA, "id": uuid.uuid4().hex, "began": began, "versions": versions()}
        header.update(bundle=about_bundle(bundle), log=self._settings._asdict(), about=about)
        return json.loads(json.dumps(header, default=str))

    def _run(self) -> None:
        while not self._over.wait(_BATCH):
            self._round()
        for _ in range(2):  # the second writes of which frames the first kept the picture
            self._round()
        if self._writer is not None:
            try:
                self._writer.finish(self._clock())
                self._make_room(self._clock())
            except OSError as error:
                self._stop(error.strerror or str(error))

    def _round(self) -> None:
        """Write what came in since the last one; whatever the disk does, this returns."""
        now = self._clock()
        if self._problem and now < self._try_at:
            self._discard()
            return
        try:
            self._make_room(now)
            self._write(now)
            self._write_pictures(now)
        except OSError as error:
            self._stop(error.strerror or str(error))
        except Exception as error:  # a part's status, a frame that nobody thought of; without this thread no log
            self._stop("it failed: {!r}".format(error))

    def _write(self, now: float) -> None:
        """Append the queue to the segment, sync where it is time, and say so where the disk takes records again."""
        assert self._writer is not None
        if self._watch is not None and now >= self._watch_at:
            self._watch_at = now + self._settings.heat
            self._take(now, {"type": "heat", "status": self._watch()}, None)
        with self._lock:
            items, untold = list(self._queue), self._untold
            self._queue.clear()
            self._untold = Counter()
        if untold:
            items.append((now, {"type": "dropped", "records": dict(untold)}, None))
        before = self._writer.written
        try:
            self._append(items, now)
        except Exception:
            with self._lock:
                self._untold.update(untold)
                for item in items[self._writer.written - before :]:
                    self._refuse(item)
            raise
        finally:
            self._numbers += self._writer.written - before
        if now >= self._sync_at:
            self._sync_at = now + self._settings.sync
            self._writer.sync()
        if self._problem and items:
            self._problem = ""
            self._events.add("info", "log.resumed", "records are written again; dropped were {}".format(_said(untold)))

    def _append(self, items: List[_Item], now: float) -> None:
        assert self._writer is not None
        lines: List[bytes] = []
        for taken, record, observation in items:
            if observation is not None:
                record = frame_record(observation, self._classes)
            lines.append(encode(dict(record, n=self._numbers + len(lines), t=round(taken, 6))))
        if lines or self._writer.path is None:  # a flight of which nothing is told has its header
            self._writer.append(lines, now)

    def _write_pictures(self, now: float) -> None:
        while self._pictures:
            with self._lock:
                observation, reasons = self._pictures.popleft()
            try:
                self._keep(observation, reasons, now)
            except OSError:
                with self._lock:
                    self._count("picture")
                raise

    def _keep(self, observation: Observation, reasons: Tuple[Reason, ...], now: float) -> None:
        """A JPEG and, beside it, why and what was seen; the picture appears last, so that none is without its why."""
        assert self.flight is not None
        frame = observation.frame
        path = self.flight / FRAMES / "{:06d}.jpg".format(frame.number)
        quality = [cv2.IMWRITE_JPEG_QUALITY, self._settings.quality]
        try:
            data = cv2.imencode(".jpg", frame.image, quality)[1]
        except cv2.error as error:  # more pixels a side than a JPEG has
            raise OSError(0, "a frame cannot be a JPEG: {}".format(error)) from None
        record = kept_record(frame, "{}/{}".format(FRAMES, path.name), reasons)
        seen = frame_record(observation._replace(frame=frame._replace(image=_NO_IMAGE)), self._classes)
        about = json.dumps(dict(record, seen=seen)) + "\n"
        with new_file(path.with_suffix(".json")) as part:
            part.write_text(about, encoding="ascii")
        with new_file(path) as part:
            part.write_bytes(data.tobytes())
        self._kept_at[path] = now
        self._frames_used += len(about) + data.size
        with self._lock:
            self._kept.update(reason.rule for reason in reasons)
        self._take(now, record, None)

    def _make_room(self, now: float) -> None:
        """Start the flight, keep it within its share of the disk, and leave the reserve alone.

        Raises OSError where there is no room.
        """
        folder, settings = Path(self._settings.folder).expanduser(), self._settings
        if self._writer is None:
            number, self.flight = new_flight(folder)
            self._header["number"] = number
            limit = int(min(settings.segment, settings.disk / 4) * _MIB)
            self._writer = SegmentWriter(self.flight, self._header, limit)
        count = len(self._writer.closed_at)
        if now < self._trim_at and count == self._closed and not self._problem:
            return
        self._trim_at = now + _TRIM
        assert self.flight is not None
        since, closed = now - 60.0 * settings.protect, self._writer.closed_at
        # A segment's worth below the limit, so that the one being written does not pass it.
        spare = int((settings.disk - min(settings.segment, settings.disk / 4)) * _MIB)
        self._used = trim_records(folder, spare, self.flight, closed, since)
        self._closed = len(closed)
        self._trim_frames(folder, since)
        if self._used > settings.disk * _MIB:
            raise OSError(0, "its share of the disk is full with what must stay", str(folder))
        if free_bytes(folder) < settings.reserve * _MIB:
            raise OSError(0, "less than {:g} MiB are free".format(settings.reserve), str(folder))

    def _trim_frames(self, folder: Path, since: float) -> None:
        """Look through the frames of all flights, of which there may be thousands: at first, and when they are many."""
        limit = int(self._settings.frames_disk * _MIB)
        if self._has_looked and self._frames_used <= limit:
            return
        assert self.flight is not None
        to = int(_ROOM * limit) if self._frames_used > limit else limit
        self._frames_used = trim_frames(folder, to, self.flight, self._kept_at, since)
        self._has_looked = True

    def _stop(self, problem: str) -> None:
        """The disk takes nothing: wait before the next try; it is told once."""
        is_news = not self._problem
        self._problem, self._try_at = problem, self._clock() + _AGAIN
        if self._writer is not None:
            self._writer.abandon(self._clock())
        self._discard()
        if is_news:
            self._events.add(
                "error", "log.stopped", "{}: {}; the flight goes on".format(self._settings.folder, problem)
            )

    def _discard(self) -> None:
        """Nothing is kept for later while nothing can be written, but for the newest events."""
        with self._lock:
            items = list(self._queue)
            self._queue.clear()
            for item in items:
                self._refuse(item)
            for _ in self._pictures:
                self._count("picture")
            self._pictures.clear()

    def _refuse(self, item: _Item) -> None:
        """Keep an event for later, where there are few; drop anything else. The lock is held."""
        kind = item[1]["type"]
        if kind == "event" and len(self._queue) < _EVENTS:
            self._queue.append(item)
        elif kind != "dropped":
            self._count(kind)


def _said(counts: "Counter[str]") -> str:
    return ", ".join("{} {}".format(count, kind) for kind, count in sorted(counts.items()) if count) or "none"
