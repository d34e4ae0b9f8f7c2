"""Picks from a flight the frames worth labelling: where the detector hesitated, or lost what it had seen.

Reads the log that `skylight detect` writes, and no picture.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deploy.nms import iou
from pipeline.curate.flightlog import FlightFrame, FlightLog
from pipeline.errors import refuse

__all__ = ["REASONS", "PickedFrame", "pick_frames"]

REASONS = ("lost", "flicker", "low_confidence")

_SAME_OBJECT = 0.3  # IoU between neighbouring frames; a window moves by a fraction of its size in 1/25 s
_GAP = 3  # frames an object may be missed and still be the same when it comes back
_BORDER = 0.02  # of the picture's sides: what ends as near to the border has left the picture


@dataclass(frozen=True)
class PickedFrame:
    """A frame worth labelling. reason: one of REASONS. score: how much so, 0 to 1; the rest as in FlightFrame."""

    frame: int
    reason: str
    score: float
    name: str
    source_time: float | None
    boxes: np.ndarray
    scores: np.ndarray
    labels: tuple[str, ...]


def pick_frames(
    log: FlightLog,
    count: int,
    min_gap: int = 10,
    size: tuple[int, int] | None = None,
    threshold: float | None = None,
    band: float = 0.15,
    jump: float = 0.25,
    seen: int = 5,
) -> list[PickedFrame]:
    """At most `count` frames worth labelling, at least `min_gap` frames apart, in the order of the flight.

    lost: an object seen in `seen` frames or more vanishes inside the picture; the score is its mean score while seen,
    the frame the first without it. flicker: an object's score changes by `jump` or more between neighbouring frames,
    counting 0 where it is missed for a moment; the score is the change, the frame the weaker one. low_confidence: the
    best score lies within `band` of `threshold` (the log's own, unless given: a log made with a lower one also shows
    what nearly was detected); the score is 1 at the threshold and 0 at the end of the band.

    size: width and height of the frames, pixels; without it the border is where boxes have been. The flight is cut
    into `count` stretches of equal length which give one frame each; what is missing then is taken from anywhere. The
    reasons take turns, and within a reason the highest score comes first.

    Raises:
        UserError: a count below 1 or a gap below 0.
    """
    if count < 1 or min_gap < 0:
        raise refuse("picking frames", f"count {count}, min_gap {min_gap}", "count is 1 or more, min_gap 0 or more")
    moments = _low_confidence(log, log.threshold if threshold is None else threshold, band)
    if log.is_film:
        tracks = _tracks(log.frames)
        moments += _flicker(log, tracks, jump) + _lost(log, tracks, seen, size or _extent(log))
    first, last = log.frames[0].number, log.frames[-1].number
    stretch = (last - first + 1) / count
    chosen: dict[int, _Moment] = {}
    filled: set[int] = set()
    for is_spread in (True, False):
        for moment in _in_turn(moments):
            number = log.frames[moment.index].number
            place = int((number - first) / stretch)
            if len(chosen) == count or any(abs(number - other) < max(min_gap, 1) for other in chosen):
                continue
            if not (is_spread and place in filled):
                chosen[number] = moment
                filled.add(place)
    return [_picked(log.frames[moment.index], moment) for _, moment in sorted(chosen.items(), key=lambda pair: pair[0])]


@dataclass(frozen=True)
class _Moment:
    """index: into the log's frames. reason and score as in PickedFrame."""

    index: int
    reason: str
    score: float


@dataclass(eq=False)
class _Track:
    """One object over time: the frames that show it, as indices into the log's, and where and how surely they do."""

    indices: list[int]
    boxes: list[np.ndarray]
    scores: list[float]
    label: str


def _picked(frame: FlightFrame, moment: _Moment) -> PickedFrame:
    return PickedFrame(
        frame.number,
        moment.reason,
        moment.score,
        frame.name,
        frame.source_time,
        frame.boxes,
        frame.scores,
        frame.labels,
    )


def _in_turn(moments: Sequence[_Moment]) -> Iterator[_Moment]:
    """The best of every reason, then the second best of every reason, and so on; ties go to the earlier frame."""
    ranked = [
        sorted((moment for moment in moments if moment.reason == reason), key=lambda one: (-one.score, one.index))
        for reason in REASONS
    ]
    for place in range(max(map(len, ranked))):
        for queue in ranked:
            yield from queue[place : place + 1]


def _low_confidence(log: FlightLog, threshold: float, band: float) -> list[_Moment]:
    found = []
    for index, frame in enumerate(log.frames):
        distance = abs(frame.scores.max(initial=-math.inf) - threshold)
        if distance <= band:
            found.append(_Moment(index, "low_confidence", 1 - float(distance / band) if band else 1.0))
    return found


def _flicker(log: FlightLog, tracks: Sequence[_Track], jump: float) -> list[_Moment]:
    found = []
    for track in tracks:
        for place, (one, other) in enumerate(zip(track.indices, track.indices[1:], strict=False)):
            before, after = track.scores[place], track.scores[place + 1]
            if other - one > 1:  # missed in between: as sure as the less sure of its neighbours, then nothing
                change, index = min(before, after), one + 1
            else:
                change, index = abs(after - before), one if before < after else other
            if change >= jump:
                found.append(_Moment(index, "flicker", change))
    return found


def _lost(log: FlightLog, tracks: Sequence[_Track], seen: int, size: tuple[float, float]) -> list[_Moment]:
    found = []
    for track in tracks:
        index = track.indices[-1] + 1
        is_over = len(log.frames) - index >= _GAP  # else it might have come back
        if len(track.indices) >= seen and is_over and not _has_left(track, size):
            found.append(_Moment(index, "lost", float(np.mean(track.scores))))
    return found


def _has_left(track: _Track, size: tuple[float, float]) -> bool:
    """Whether the object's next box, if it goes on as it went, touches the border."""
    last = track.boxes[-1]
    back = min(len(track.boxes), _GAP + 1)
    steps = track.indices[-1] - track.indices[-back]
    box = last + (last - track.boxes[-back]) / max(steps, 1)
    margin = np.array(size) * _BORDER
    return bool((box[:2] <= margin).any() or (box[2:] >= np.array(size) - margin).any())


def _extent(log: FlightLog) -> tuple[float, float]:
    """How far to the right and down boxes have been."""
    boxes = np.concatenate([frame.boxes for frame in log.frames])
    return float(boxes[:, 2].max(initial=0)), float(boxes[:, 3].max(initial=0))


def _tracks(frames: Sequence[FlightFrame]) -> list[_Track]:
    """Join detections of the same class in frames close to each other, the best overlap first."""
    done: list[_Track] = []
    live: list[_Track] = []
    for index, frame in enumerate(frames):
        fresh = [track for track in live if frame.number - frames[track.indices[-1]].number <= _GAP]
        done += [track for track in live if track not in fresh]
        taken = _joined(fresh, frame)
        live = fresh
        for place in range(len(frame.scores)):
            track = taken.get(place)
            if track is None:
                track = _Track([], [], [], frame.labels[place])
                live.append(track)
            track.indices.append(index)
            track.boxes.append(frame.boxes[place])
            track.scores.append(float(frame.scores[place]))
    return done + live


def _joined(tracks: Sequence[_Track], frame: FlightFrame) -> dict[int, _Track]:
    """Which detection of the frame goes on with which track, each at most once."""
    if not tracks or not len(frame.scores):
        return {}
    overlap = iou(np.array([track.boxes[-1] for track in tracks]), frame.boxes)
    overlap[np.array([[track.label != label for label in frame.labels] for track in tracks])] = 0
    taken: dict[int, _Track] = {}
    while overlap.max() >= _SAME_OBJECT:
        row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
        taken[int(column)] = tracks[int(row)]
        overlap[row, :] = overlap[:, column] = 0
    return taken
