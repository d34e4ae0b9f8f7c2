"""Follows objects over frames: numbers that stay, smoothed boxes, and gaps bridged for a moment and said to be so.

A Kalman filter with constant velocity for each of centre x, centre y, width and height, and the best assignment by IoU,
class by class (SORT: Bewley et al., "Simple Online and Realtime Tracking", 2016). All times are those of the frames, in
seconds, so that dropped frames and another rate change nothing. Knows nothing of cameras, nor of what is followed.
"""

import math
from typing import List, NamedTuple, Tuple

import numpy as np

from deploy.assignment import best_pairs
from deploy.errors import refuse
from deploy.frame import Detections, Track
from deploy.nms import iou

_ROUNDING = 1e-9  # seconds
_LIMIT = 100  # objects followed at once, and detections looked at in a frame: a storm of them must not hold up the loop
_FARTHEST = 1e6  # pixels; a detection beyond is no detection
# What is left after plain IoU is tried with both boxes grown by this share of their size to each side, for small boxes
# that moved by their own width: Yang et al., "Hard to Track Objects with Irregular Motions and Similar Appearances?
# Make It Easier by Buffering the Matching Space", 2023.
_MARGINS = (0.0, 0.5)
# Standard deviation of a detection as a share of the box's size, to begin with and at least, pixels. SORT's followers
# begin with 1/20: Wojke et al., "Simple Online and Realtime Tracking with a Deep Association Metric", 2017.
_SCATTER, _LEAST_SCATTER = 0.05, 0.5
_AGILITY = np.array([1.0, 1.0, 0.3, 0.3])  # places change more abruptly than sizes
_LEARNING = 0.1  # share of a new residual in the scatter of a track
_FIRST_SPEED = 2.0  # standard deviation of the velocity of a new track, box sizes a second


class TrackSettings(NamedTuple):
    """How objects are followed.

    min_hits: detections in consecutive frames before an object gets a number and is told, 1 to 100
    max_gap: seconds without a detection that are bridged; then the track ends, 0 to 10
    iou: least overlap of a detection with where the track should be, above 0, below 1
    agility: how abruptly things move in the picture, box sizes per second^1.5, above 0 to 100; more smooths less
    """

    min_hits: int = 3
    max_gap: float = 0.5
    iou: float = 0.2
    agility: float = 1.0

    def check(self) -> None:
        """Raise UserError for what is out of range."""
        if not 1 <= self.min_hits <= 100:
            raise refuse("min_hits={}".format(self.min_hits), "out of range", "give a whole number from 1 to 100")
        if not 0 <= self.max_gap <= 10:
            raise refuse("max_gap={}".format(self.max_gap), "out of range", "give seconds from 0 to 10")
        if not 0 < self.iou < 1:
            raise refuse("iou={}".format(self.iou), "out of range", "give a number above 0 and below 1")
        if not 0 < self.agility <= 100:
            raise refuse("agility={}".format(self.agility), "out of range", "give a number above 0, at most 100")


class _Object(NamedTuple):
    """What is known of a track beside its motion. number: 0 before it is told. seen: time of its newest detection."""

    number: int
    score: float
    class_index: int
    hits: int
    seen: float


class Tracker:
    """The tracks of one camera. For one thread.

    Its state, a row per track: mean (N, 4, 2) and covariance (N, 4, 3) of (centre x, centre y, width, height), each as
    value and change per second, in pixels; covariance as (value, value with change, change). scatter (N, 4): variance
    of a detection.
    """

    def __init__(self, settings: TrackSettings) -> None:
        self._settings = settings
        self._last_number = 0
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; their numbers are not given again."""
        self._objects: List[_Object] = []
        self._mean, self._covariance = np.zeros((0, 4, 2)), np.zeros((0, 4, 3))
        self._scatter = np.zeros((0, 4))
        self._time = -math.inf

    def update(self, frame_time: float, detections: Detections) -> Tuple[Track, ...]:
        """Take what was found in a frame; returns the tracks of that moment by number, detected or bridged.

        frame_time: when the frame was taken, seconds on any one clock. A step back in it ends all tracks: a video
        began anew. The order of the detections does not matter.
        """
        if frame_time < self._time:
            self.reset()
        self._keep([frame_time - one.seen <= self._settings.max_gap + _ROUNDING for one in self._objects])
        if self._objects:
            self._predict(frame_time - self._time)
        self._time = frame_time
        boxes, scores, classes = _in_order(detections)
        pairs = self._assign(boxes, classes)
        self._correct(pairs, boxes, scores)
        taken = {column for _, column in pairs}
        self._keep([one.seen == frame_time or one.number > 0 for one in self._objects])
        free = [index for index in range(len(boxes)) if index not in taken]
        self._begin(boxes[free], scores[free], classes[free])
        return tuple(sorted(self._tracks(), key=lambda track: track.number))

    def _keep(self, is_kept: List[bool]) -> None:
        if all(is_kept):
            return
        self._objects = [one for one, stays in zip(self._objects, is_kept) if stays]
        self._mean, self._covariance = self._mean[is_kept], self._covariance[is_kept]
        self._scatter = self._scatter[is_kept]

    def _predict(self, seconds: float) -> None:
        """Move everything on by so many seconds; velocities change at random, as white noise in the acceleration."""
        value, mixed, change = np.moveaxis(self._covariance, 2, 0)
        noise = (self._settings.agility * _AGILITY * _two_by_two(self._mean[:, 2:, 0])) ** 2
        self._mean[:, :, 0] += self._mean[:, :, 1] * seconds
        value += 2 * mixed * seconds + change * seconds**2 + noise * seconds**3 / 3
        mixed += change * seconds + noise * seconds**2 / 2
        change += noise * seconds
        np.maximum(self._mean[:, 2:, 0], 1.0, out=self._mean[:, 2:, 0])

    def _assign(self, boxes: np.ndarray, classes: np.ndarray) -> List[Tuple[int, int]]:
        """Pairs of (track, detection): numbered tracks choose first, and nearer places before farther ones."""
        pairs: List[Tuple[int, int]] = []
        places = _xyxy(self._mean[:, :, 0])
        of_track = np.array([one.class_index for one in self._objects], np.int64)
        has_number = np.array([one.number > 0 for one in self._objects], bool)
        columns = np.arange(len(boxes))
        for rows in (np.flatnonzero(has_number), np.flatnonzero(~has_number)):
            for margin in _MARGINS:
                if not len(rows) or not len(columns):
                    break
                overlap = iou(_grown(places[rows], margin), _grown(boxes[columns], margin))
                overlap = overlap * (of_track[rows][:, None] == classes[columns][None])
                found = best_pairs(overlap, self._settings.iou)
                pairs += [(int(rows[row]), int(columns[column])) for row, column in found]
                rows = np.delete(rows, [row for row, _ in found])
                columns = np.delete(columns, [column for _, column in found])
        return pairs

    def _correct(self, pairs: List[Tuple[int, int]], boxes: np.ndarray, scores: np.ndarray) -> None:
        """Take the detections into the tracks that they belong to."""
        if not pairs:
            return
        rows, columns = (list(side) for side in zip(*pairs))
        found = _centred(boxes[columns])
        mean, covariance, scatter = self._mean[rows], self._covariance[rows], self._scatter[rows]
        value, mixed, change = np.moveaxis(covariance, 2, 0).copy()
        gain, gain_change = value / (value + scatter), mixed / (value + scatter)
        error = found - mean[:, :, 0]
        mean[:, :, 0] += gain * error
        mean[:, :, 1] += gain_change * error
        left = found - mean[:, :, 0]
        after = np.stack([(1 - gain) * value, (1 - gain) * mixed, change - gain_change * mixed], axis=2)
        # The variance of detections is that of what is left of them plus the filter's own: Mehra, "On the
        # identification of variances and adaptive Kalman filtering", 1970.
        scatter = (1 - _LEARNING) * scatter + _LEARNING * (left**2 + after[:, :, 0])
        self._mean[rows], self._covariance[rows] = mean, after
        self._scatter[rows] = np.maximum(scatter, _LEAST_SCATTER**2)
        for row, column in pairs:
            one = self._objects[row]
            self._objects[row] = self._numbered(
                one._replace(score=float(scores[column]), hits=one.hits + 1, seen=self._time)
            )

    def _begin(self, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> None:
        """New tracks of the detections that belong to none, the best ones first."""
        boxes = boxes[: max(_LIMIT - len(self._objects), 0)]
        if not len(boxes):
            return
        mean = np.stack([_centred(boxes), np.zeros((len(boxes), 4))], axis=2)
        size = _two_by_two(mean[:, 2:, 0])
        scatter = np.maximum((_SCATTER * size) ** 2, _LEAST_SCATTER**2)
        covariance = np.stack([scatter, np.zeros_like(scatter), (_FIRST_SPEED * _AGILITY * size) ** 2], axis=2)
        self._mean, self._covariance = (
            np.concatenate([self._mean, mean]),
            np.concatenate([self._covariance, covariance]),
        )
        self._scatter = np.concatenate([self._scatter, scatter])
        for score, class_index in zip(scores[: len(boxes)], classes):
            self._objects.append(self._numbered(_Object(0, float(score), int(class_index), 1, self._time)))

    def _numbered(self, one: _Object) -> _Object:
        if one.number or one.hits < self._settings.min_hits:
            return one
        self._last_number += 1
        return one._replace(number=self._last_number)

    def _tracks(self) -> List[Track]:
        boxes, velocities = _xyxy(self._mean[:, :, 0]).tolist(), self._mean[:, :2, 1].tolist()
        errors = np.sqrt(self._scatter[:, 2:]).tolist()  # lists: a value of an array is slow to reach
        return [
            Track(
                number=one.number,
                box=(box[0], box[1], box[2], box[3]),
                velocity=(velocity[0], velocity[1]),
                score=one.score,
                class_index=one.class_index,
                hits=one.hits,
                bridged=self._time - one.seen,
                size_error=(error[0], error[1]),
            )
            for one, box, velocity, error in zip(self._objects, boxes, velocities, errors)
            if one.number
        ]


def _in_order(detections: Detections) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best boxes (N, 4) float64, scores and classes, equal ones in an order of their own; only real boxes."""
    boxes = np.asarray(detections.boxes, np.float64).reshape(-1, 4)
    scores, classes = np.asarray(detections.scores, np.float64), np.asarray(detections.classes)
    with np.errstate(invalid="ignore"):
        is_real = (np.abs(boxes) < _FARTHEST).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        is_real &= np.isfinite(scores)
    boxes, scores, classes = boxes[is_real], scores[is_real], classes[is_real]
    order = np.lexsort((*boxes.T, classes, -scores))[:_LIMIT]
    return boxes[order], scores[order], classes[order]


def _centred(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) xyxy as (centre x, centre y, width, height)."""
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def _xyxy(centred: np.ndarray) -> np.ndarray:
    return np.concatenate([centred[:, :2] - centred[:, 2:] / 2, centred[:, :2] + centred[:, 2:] / 2], axis=1)


def _grown(boxes: np.ndarray, margin: float) -> np.ndarray:
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes + margin * np.concatenate([-size, size], axis=1)


def _two_by_two(size: np.ndarray) -> np.ndarray:
    """(N, 2) width and height as (width, height, width, height)."""
    return np.concatenate([size, size], axis=1)
