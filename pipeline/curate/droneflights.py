"""The log that a drone brings home, as curation reads flights: its frames, and those it kept as worth labelling.

The frames are copied as they are, without another JPEG; the boxes are what the detector said: drafts, never labels.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy.flightlog.reading import FlightRecords, flight_name
from deploy.flightlog.segments import segments
from deploy.replay.frames import named_rows
from pipeline.curate.flightlog import FlightFrame, FlightLog
from pipeline.curate.flights import PickedFrame
from pipeline.curate.flightsource import draft_candidate, lay_down
from pipeline.curate.review import Candidate
from pipeline.errors import refuse
from pipeline.files import write_bytes

__all__ = ["read_drone_log", "write_kept_frames"]


def read_drone_log(records: FlightRecords) -> FlightLog:
    """Every frame of a drone's flight; `sha256` is over its segments.

    Raises UserError where the header or the frames are missing.
    """
    bundle = records.header.get("bundle") or {}
    classes, threshold = bundle.get("classes"), bundle.get("score_threshold")
    if not isinstance(classes, list) or not isinstance(threshold, float):
        raise refuse(records.folder, "its header is not whole", "give a flight whose log has one")
    frames: list[FlightFrame] = []
    for record in records:
        if record["type"] == "frame" and (not frames or record["frame"] > frames[-1].number):
            frames.append(_frame(record))
    if not frames:
        raise refuse(records.folder, "no frames", "give the log of a flight that has some")
    digest = hashlib.sha256()
    for segment in segments(records.folder):
        digest.update(segment.path.read_bytes())
    source = flight_name(records.header, records.folder)
    return FlightLog(digest.hexdigest(), source, threshold, tuple(map(str, classes)), tuple(frames))


def _kept_frames(records: FlightRecords, rules: Sequence[str] = ()) -> dict[int, tuple[Path, str, float]]:
    """Of every frame that the drone kept and that is still there: picture, rule, and how much so, 0 to 1.

    rules: only frames kept by one of them. Of several rules the first that counts is named.
    """
    found = {}
    for record in records:
        if record.get("type") == "kept":
            path = records.folder / str(record["file"])
            reasons = [one for one in record["rules"] if not rules or one["rule"] in rules]
            if reasons and path.is_file():
                found[int(record["frame"])] = (path, str(reasons[0]["rule"]), float(reasons[0]["score"]))
    return found


def write_kept_frames(folder: Path, records: FlightRecords, rules: Sequence[str] = ()) -> list[Candidate]:
    """Lay down what the drone kept in `folder`, which must be new, as `write_flight_source` does.

    Raises:
        UserError: no such rule, the drone kept no frame for it, or the folder is there already.
    """
    from deploy.flightlog.worth import RULES

    for rule in rules:
        if rule not in RULES:
            raise refuse(f"--rule {rule}", "unknown", f"allowed: {', '.join(RULES)}")
    log = read_drone_log(records)
    kept = _kept_frames(records, rules)
    frames = {frame.number: frame for frame in log.frames}
    picked = [_picked(frames[number], *kept[number][1:]) for number in sorted(kept) if number in frames]
    if not picked:
        raise refuse(records.folder, "it kept no such frame", "give another --rule, or raise keep in its settings")
    return lay_down(folder, log, picked, lambda images: _copy(picked, kept, images, log.source))


def _copy(
    picked: Sequence[PickedFrame], kept: dict[int, tuple[Path, str, float]], images: Path, flight: str
) -> list[Candidate]:
    from deploy.pictures import read_picture

    candidates = []
    for frame in picked:
        path = kept[frame.frame][0]
        image_id = f"{flight}-{frame.frame:06d}"
        write_bytes(images / f"{image_id}.jpg", path.read_bytes())
        candidates.append(draft_candidate(frame, image_id, images / f"{image_id}.jpg", read_picture(path).shape))
    return candidates


def _frame(record: dict[str, Any]) -> FlightFrame:
    found = named_rows(record["detections"])
    return FlightFrame(
        int(record["frame"]),
        str(record["name"]),
        record["source_time"],
        found.boxes.astype(np.float64),
        found.scores.astype(np.float64),
        found.classes,
    )


def _picked(frame: FlightFrame, rule: str, score: float) -> PickedFrame:
    return PickedFrame(
        frame.number, rule, score, frame.name, frame.source_time, frame.boxes, frame.scores, frame.labels
    )
