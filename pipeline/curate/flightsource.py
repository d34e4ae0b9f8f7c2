"""Lays picked frames of a flight down as a YOLO source, and says which of its labels nobody has looked at.

The boxes it writes are what the detector said: drafts for a person, never labels. Knows nothing about recipes, of how
frames are picked, or of how a person corrects a draft.
"""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.curate.flightlog import FlightLog
from pipeline.curate.flights import REASONS, PickedFrame
from pipeline.curate.review import Candidate
from pipeline.errors import refuse
from pipeline.files import new_folder, write_bytes, write_text
from pipeline.yolo_folder import yolo_rows

__all__ = ["UNREVIEWED", "draft_candidate", "extract_frames", "lay_down", "unreviewed_ids", "write_flight_source"]

UNREVIEWED = "flight_unreviewed"  # the rule that holds back a frame whose draft no person has looked at

_JPEG_QUALITY = 95
_PICKED_NAME = "picked.csv"
_COLUMNS = ["image_id", "log_sha256", "frame", "reason", "score"]


def extract_frames(
    picked: Sequence[PickedFrame],
    source: Path,
    out: Path,
    flight: str,
    progress: Callable[[int], None] | None = None,
) -> list[Candidate]:
    """Write the picked frames of the video or folder `source` to `out` as `<flight>-<frame number>.jpg`.

    Returns them as candidates with what the detector said as boxes. `progress` is called with the number written.
    Raises UserError where the source is not the one that the log is about.
    """
    from deploy.sources import open_source

    wanted = {frame.frame: frame for frame in picked}
    candidates: list[Candidate] = []
    with open_source(str(source)) as frames:
        for seen in frames:
            frame = wanted.pop(seen.number, None)
            if frame is not None:
                _refuse_other_source(source, frame, seen, frames.kind)
                image_id = f"{flight}-{frame.frame:06d}"
                _write_jpeg(out / f"{image_id}.jpg", seen.image)
                candidates.append(draft_candidate(frame, image_id, out / f"{image_id}.jpg", seen.image.shape))
                if progress:
                    progress(len(candidates))
            if not wanted:
                break
    if wanted:
        raise refuse(source, f"it ends before frame {min(wanted)}", "give the video or folder that the log is about")
    return candidates


def _refuse_other_source(source: Path, frame: PickedFrame, seen: Any, kind: str) -> None:
    """A picture must have the name that the log says, a frame of a video the time."""
    expected, found = (frame.source_time, seen.source_time) if kind == "video" else (frame.name, seen.name)
    is_same = expected == found
    if kind == "video" and frame.source_time is not None:
        is_same = abs(frame.source_time - seen.source_time) < 1e-3
    if not is_same:
        what = f"frame {frame.frame} is {found}, in the log {expected}"
        raise refuse(source, what, "give the video or folder that the log is about")


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    """image: (H, W, 3) uint8 BGR."""
    import cv2

    is_written, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not is_written:
        raise refuse(path, "cannot be encoded as JPEG", "give pictures of at most 65535 pixels a side")
    write_bytes(path, data.tobytes())


def draft_candidate(frame: PickedFrame, image_id: str, path: Path, shape: tuple[int, ...]) -> Candidate:
    """A picked frame with what the detector said as drafts. shape: height and width of the picture first."""
    height, width = shape[:2]
    return Candidate(
        image_id=image_id,
        path=path,
        boxes=(frame.boxes / [width, height, width, height]).clip(0, 1),
        labels=frame.labels,
        box_scores={"detector_score": frame.scores},
        box_rules=(UNREVIEWED,) * len(frame.labels),
        rule=UNREVIEWED,
        split=None,
        scores={reason: frame.score if reason == frame.reason else math.nan for reason in REASONS},
        borderline=False,
        verdict=None,
        predictions=np.empty((0, 4)),
        prediction_scores=np.empty(0),
        prediction_labels=(),
    )


def write_flight_source(
    folder: Path,
    log: FlightLog,
    picked: Sequence[PickedFrame],
    source: Path,
    flight: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Candidate]:
    """Lay the picked frames down in `folder`, which must be new: images/, labels/, data.yaml and picked.csv.

    The labels are drafts; `unreviewed_ids` says of which photos. Returns the candidates as `extract_frames` does.

    Raises:
        UserError: nothing was picked, the folder is there already, or `source` is not what the log is about.
    """
    if not picked:
        raise refuse(log.source, "no frame of it is worth labelling", "fly longer, or widen the band")
    name = flight or log.flight
    return lay_down(folder, log, picked, lambda images: extract_frames(picked, source, images, name, progress))


def lay_down(
    folder: Path,
    log: FlightLog,
    picked: Sequence[PickedFrame],
    extract: Callable[[Path], list[Candidate]],
) -> list[Candidate]:
    """Make `folder`, which must be new, a YOLO source of the picked frames; returns them as they lie there.

    extract: writes the pictures into the folder it is given, and returns them in the order of their frames.

    Raises:
        UserError: the folder is there already.
    """
    if folder.exists():
        raise refuse(folder, "is there already", "give another folder, so that no corrected label is lost")
    with new_folder(folder) as part:
        (part / "labels").mkdir()
        candidates = extract(part / "images")
        for candidate in candidates:
            write_text(part / "labels" / f"{candidate.image_id}.txt", _label_rows(candidate, log.classes))
        about = {"train": "images", "names": dict(enumerate(log.classes))}
        write_text(part / "data.yaml", yaml.safe_dump(about, sort_keys=False, allow_unicode=True))
        _write_picked(part / _PICKED_NAME, log, picked, candidates)
    return [replace(candidate, path=folder / "images" / candidate.path.name) for candidate in candidates]


def _label_rows(candidate: Candidate, classes: Sequence[str]) -> str:
    has_area = (candidate.boxes[:, 2:] > candidate.boxes[:, :2]).all(axis=1)
    labels = np.array([classes.index(label) for label in candidate.labels], dtype=np.int64)
    return yolo_rows(candidate.boxes[has_area], labels[has_area])


def _write_picked(path: Path, log: FlightLog, picked: Sequence[PickedFrame], candidates: Sequence[Candidate]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for frame, candidate in zip(sorted(picked, key=lambda one: one.frame), candidates, strict=True):
        writer.writerow([candidate.image_id, log.sha256, frame.frame, frame.reason, f"{frame.score:.4f}"])
    write_text(path, text.getvalue())


def unreviewed_ids(folder: Path) -> frozenset[str]:
    """Ids of the photos of a source whose labels are a detector's drafts; none where no flight was laid down there.

    Raises:
        UserError: its picked.csv is not what `lay_down` writes.
    """
    path = folder / _PICKED_NAME
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return frozenset()
    rows = list(csv.reader(lines))
    if rows[:1] != [_COLUMNS] or any(len(row) != len(_COLUMNS) for row in rows):
        raise refuse(path, "not what picking frames writes", f"its columns are {','.join(_COLUMNS)}")
    return frozenset(row[0] for row in rows[1:])
