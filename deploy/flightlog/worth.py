"""Which frames are worth labelling: where the detector hesitated, lost something, or saw what it had not seen before.

    margin   a score lies within `band` above the threshold
    lost     a track that had been detected often enough is bridged from this frame on
    flicker  the score of an object changes by `jump` or more from one frame to the next, counting 0 where it is missed
    scene    the picture, small and grey, is unlike every scene kept before
    random   by chance, so that what the rules do not see is looked at too

Each rule may take half of the frames that may be kept a minute, so that none takes them all. Writes nothing.
"""

import random
from collections import deque
from typing import Deque, List, NamedTuple, Optional, Set, Tuple

import cv2
import numpy as np

from deploy.flightlog.settings import LogSettings
from deploy.frame import Detections, Observation
from deploy.nms import iou

RULES = ("margin", "lost", "flicker", "scene", "random")

_MOST = 100  # detections of a frame that are looked at, the best ones: a damaged picture may give thousands
_SAME = 0.3  # IoU between neighbouring frames of what is the same object
_SCENES = 64  # kept to compare with
_LOOK = 2.0  # seconds between two looks at the picture itself
_NEIGHBOUR = 0.5  # seconds; frames further apart are no neighbours


class Reason(NamedTuple):
    """Why a frame is kept. rule: one of RULES. score: how much so, 0 to 1."""

    rule: str
    score: float


class Chooser:
    """Asked about every frame, in order.

    threshold: score from which detections are told, that of the bundle that flies. seed: of chance.
    """

    def __init__(self, settings: LogSettings, threshold: float, seed: Optional[int] = None) -> None:
        self._settings, self.threshold = settings, threshold
        self._chance = random.Random(seed)
        self._all = _Allowance(settings.keep)
        self._each = {rule: _Allowance(max(settings.keep / 2.0, 1.0)) for rule in RULES}
        self._before: Optional[Tuple[float, Detections]] = None
        self._bridged: Set[int] = set()
        self._scenes: Deque[np.ndarray] = deque(maxlen=_SCENES)
        self._looked = float("-inf")
        self._random_at: Optional[float] = None

    def choose(self, observation: Observation) -> Tuple[Reason, ...]:
        """The reasons to keep this frame; none where there is no reason, or no room this minute."""
        if self._settings.keep == 0:
            return ()
        now = observation.frame.captured
        reasons = [self._margin(observation.detections), self._lost(observation), self._flicker(observation)]
        reasons += [self._scene(observation.frame.image, now), self._random(now)]
        self._before = (now, observation.detections)
        allowed = [one for one in reasons if one is not None and self._each[one.rule].has(now)]
        if not allowed or not self._all.has(now):
            return ()
        self._all.take()
        for reason in allowed:
            self._each[reason.rule].take()
            if reason.rule == "scene":
                self._scenes.append(signature(observation.frame.image))
        return tuple(allowed)

    def _margin(self, detections: Detections) -> Optional[Reason]:
        above = detections.scores - self.threshold
        if not self._settings.band or not len(above) or float(above.min()) > self._settings.band:
            return None
        return Reason("margin", float(np.clip(1 - above.min() / self._settings.band, 0, 1)))

    def _lost(self, observation: Observation) -> Optional[Reason]:
        bridged = {track.number for track in observation.tracks if track.is_bridging}
        new = bridged - self._bridged
        self._bridged = bridged
        lost = [t.score for t in observation.tracks if t.number in new and t.hits >= self._settings.lost_after]
        return Reason("lost", float(max(lost))) if lost else None

    def _flicker(self, observation: Observation) -> Optional[Reason]:
        if self._before is None or not 0 <= observation.frame.captured - self._before[0] <= _NEIGHBOUR:
            return None
        change = _largest_change(_best(self._before[1]), _best(observation.detections))
        return Reason("flicker", min(change, 1.0)) if change >= self._settings.jump else None

    def _scene(self, image: np.ndarray, now: float) -> Optional[Reason]:
        if now - self._looked < _LOOK:
            return None
        self._looked = now
        mine = signature(image)
        nearest = min((float(np.abs(mine - scene).mean()) for scene in self._scenes), default=255.0)
        return Reason("scene", min(nearest / 128.0, 1.0)) if nearest >= self._settings.scene else None

    def _random(self, now: float) -> Optional[Reason]:
        if not self._settings.random_every:
            return None
        if self._random_at is not None and now < self._random_at:
            return None
        is_first = self._random_at is None
        self._random_at = now + self._chance.expovariate(1 / (60.0 * self._settings.random_every))
        return None if is_first else Reason("random", 0.0)


class _Allowance:
    """So many a minute: they grow back steadily, and no more than a minute's are saved up."""

    def __init__(self, per_minute: float) -> None:
        self._most = float(per_minute)
        self._left = self._most
        self._at: Optional[float] = None

    def has(self, now: float) -> bool:
        if self._at is not None:
            self._left = min(self._most, self._left + max(now - self._at, 0.0) / 60.0 * self._most)
        self._at = now
        return self._left >= 1.0

    def take(self) -> None:
        self._left -= 1.0


def signature(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 BGR to (12, 16) float32 of grey around 0: the same for the same scene in other light."""
    step = max(1, min(image.shape[:2]) // 96)  # a glance is enough, and costs a fiftieth
    small = cv2.resize(np.ascontiguousarray(image[::step, ::step]), (16, 12), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
    return grey - grey.mean()


def _best(found: Detections) -> Detections:
    return Detections(found.boxes[:_MOST], found.scores[:_MOST], found.classes[:_MOST])


def _largest_change(before: Detections, after: Detections) -> float:
    """Of the score of an object from one frame to the next; one that appears or is missed changes by its score."""
    overlap = iou(before.boxes, after.boxes)
    overlap[before.classes[:, None] != after.classes[None, :]] = 0
    free: List[float] = [float(score) for score in before.scores]
    changes = []
    matched = np.zeros(len(after.scores), bool)
    while overlap.size and overlap.max() >= _SAME:
        row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
        changes.append(abs(float(before.scores[row]) - float(after.scores[column])))
        free[int(row)] = 0.0
        matched[column] = True
        overlap[row, :] = overlap[:, column] = 0
    return max(changes + free + [float(score) for score in after.scores[~matched]], default=0.0)
