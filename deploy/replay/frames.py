"""Runs a bundle on the frames of a flight and says what it finds otherwise than the flight did.

The frames are those kept in the log, as JPEG, or all of them from the video that was flown on. What the flight found
stands in its records. Knows nothing of terminals.
"""

from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from deploy.backends import Choice, open_networks
from deploy.bundle import read_bundle
from deploy.errors import UserError, refuse
from deploy.flightlog.reading import FlightRecords
from deploy.frame import Detections
from deploy.nms import iou
from deploy.pictures import read_picture
from deploy.signature import PublicKey
from deploy.sources import open_source
from deploy.vision import Vision

SAME = 0.5  # IoU from which two boxes of one class are of one object
MOVED = 0.85  # IoU below which it has moved

Detect = Callable[[np.ndarray], "Named"]


class Named(NamedTuple):
    """Detections whose classes are names, since two bundles may number them otherwise; as `Detections` else."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: Tuple[str, ...]


class Change(NamedTuple):
    """An object found otherwise. kind: appears, vanishes, moves or stays. iou: of the two boxes, 0 without both.

    before, after: score, None where it is not found. box: (x1, y1, x2, y2), pixels of the frame, the newer one.
    """

    kind: str
    name: str
    before: Optional[float]
    after: Optional[float]
    iou: float
    box: Tuple[float, ...]


class FrameReplay(NamedTuple):
    """One frame: its number, its picture's name, what was found before and now, and how that differs."""

    number: int
    name: str
    before: Named
    after: Named
    changes: Tuple[Change, ...]

    @property
    def size(self) -> float:
        """How much differs: scores that came, went or changed, and boxes that moved."""
        return float(sum(abs((one.after or 0.0) - (one.before or 0.0)) + (one.kind == "moves") for one in self.changes))


def bundle_detector(vision: Vision) -> Detect:
    """What finds with a bundle, exactly as in flight."""

    def detect(image: np.ndarray) -> Named:
        return _named(vision.look(image)[0], vision.bundle.classes)

    return detect


def open_detector(folder: Path, trusted: Optional[Sequence[PublicKey]] = None) -> Detect:
    """What finds with the bundle in `folder`, in the best library of this machine.

    Raises UserError where the bundle is none to rely on, or no library runs it.
    """
    bundle = read_bundle(folder, trusted)
    choice = Choice(model=bundle.models[0].file)
    return bundle_detector(open_networks(bundle, choice).own)


def replay(
    records: FlightRecords, after: Detect, video: Optional[Path] = None, before: Optional[Detect] = None
) -> Iterator[Tuple[FrameReplay, np.ndarray]]:
    """Compare frame by frame, in the order of the flight, each as it is done, with its (H, W, 3) uint8 BGR.

    video: what was flown on, for all frames; without it, those kept in the log. before: what found before; without it
    what the log says, found on frames that no JPEG had touched.
    Raises UserError where there is no frame, or the video is another one.
    """
    count = 0
    for number, name, image, logged in _video_frames(records, video) if video else _kept_frames(records):
        old, new = (before(image) if before is not None else logged), after(image)
        count += 1
        yield FrameReplay(number, name, old, new, compare(old, new)), image
    if not count:
        what = "keeps no frame" if video is None else "has no frame of {}".format(records.folder)
        raise refuse(video or records.folder, what, "give --video FILE with what was flown on")


def compare(before: Named, after: Named) -> Tuple[Change, ...]:
    """Match what was found before with what is found now, class by class, the best overlap first."""
    overlap = iou(before.boxes, after.boxes)
    for row, name in enumerate(before.classes):
        overlap[row, [column for column, other in enumerate(after.classes) if other != name]] = 0
    pairs: Dict[int, Tuple[int, float]] = {}
    left = overlap.copy()
    while left.size and left.max() >= SAME:
        row, column = (int(index) for index in np.unravel_index(int(left.argmax()), left.shape))
        pairs[row] = (column, float(overlap[row, column]))
        left[row, :] = left[:, column] = 0
    changes = []
    for row, name in enumerate(before.classes):
        score = float(before.scores[row])
        if row in pairs:
            column, shared = pairs[row]
            kind = "moves" if shared < MOVED else "stays"
            changes.append(Change(kind, name, score, float(after.scores[column]), shared, _box(after.boxes[column])))
        else:
            changes.append(Change("vanishes", name, score, None, 0.0, _box(before.boxes[row])))
    taken = {column for column, _ in pairs.values()}
    for column, name in enumerate(after.classes):
        if column not in taken:
            changes.append(Change("appears", name, None, float(after.scores[column]), 0.0, _box(after.boxes[column])))
    return tuple(changes)


def _kept_frames(records: FlightRecords) -> Iterator[Tuple[int, str, np.ndarray, Named]]:
    """Number, name, (H, W, 3) uint8 BGR and what the flight found, of every kept frame that is still there."""
    kept: Dict[int, str] = {}
    for record in records:
        if record.get("type") == "kept":
            kept[int(record["frame"])] = str(record["file"])
    logged = _logged(records, set(kept))
    for number, file in sorted(kept.items()):
        path = records.folder / file
        if number in logged and path.is_file():
            yield number, path.name, read_picture(path), logged[number]


def _video_frames(records: FlightRecords, video: Path) -> Iterator[Tuple[int, str, np.ndarray, Named]]:
    times = {int(one["frame"]): one.get("source_time") for one in records if one.get("type") == "frame"}
    logged = _logged(records, set(times))
    with open_source(str(video)) as frames:
        for frame in frames:
            if frame.number not in times:
                continue
            expected = times[frame.number]
            if expected is not None and frame.source_time is not None and abs(expected - frame.source_time) > 1e-3:
                found = "frame {} is at {:.3f} s, in the log at {:.3f} s".format(
                    frame.number, frame.source_time, expected
                )
                raise refuse(video, found, "give the video that was flown on")
            yield frame.number, frame.name, frame.image, logged[frame.number]


def _logged(records: FlightRecords, wanted: set) -> Dict[int, Named]:
    """What the flight found in the frames `wanted`."""
    found = {}
    for record in records:
        if record.get("type") == "frame" and record.get("frame") in wanted:
            found[int(record["frame"])] = named_rows(record.get("detections") or [])
    return found


def named_rows(rows: Sequence[Dict[str, Any]]) -> Named:
    """The detections of a record. Raises UserError where they are none."""
    try:
        boxes = np.array([row["box"] for row in rows], np.float32).reshape(-1, 4)
        scores = np.array([row["score"] for row in rows], np.float32)
        return Named(boxes, scores, tuple(str(row["name"]) for row in rows))
    except (KeyError, TypeError, ValueError):
        raise UserError("a record holds no detections; the log was written by another version") from None


def _named(found: Detections, classes: Sequence[str]) -> Named:
    return Named(found.boxes, found.scores, tuple(classes[int(index)] for index in found.classes))


def _box(row: np.ndarray) -> Tuple[float, ...]:
    return tuple(round(float(value), 2) for value in row)


class Summary(NamedTuple):
    """Over all frames. score_change: mean of the absolute change of what stays or moves; largest: the most of these."""

    frames: int
    changed_frames: int
    before: int
    after: int
    appears: int
    vanishes: int
    moves: int
    stays: int
    score_change: float
    largest_score_change: float


def summarise(frames: Sequence[FrameReplay]) -> Summary:
    """Counts and means over frames; a frame has changed where an object came, went or moved."""
    changes: List[Change] = [change for frame in frames for change in frame.changes]
    count = {kind: sum(change.kind == kind for change in changes) for kind in ("appears", "vanishes", "moves", "stays")}
    scores = [abs(one.after - one.before) for one in changes if one.after is not None and one.before is not None]
    return Summary(
        len(frames),
        sum(any(change.kind != "stays" for change in frame.changes) for frame in frames),
        sum(len(frame.before.scores) for frame in frames),
        sum(len(frame.after.scores) for frame in frames),
        count["appears"],
        count["vanishes"],
        count["moves"],
        count["stays"],
        float(np.mean(scores)) if scores else 0.0,
        max(scores, default=0.0),
    )
