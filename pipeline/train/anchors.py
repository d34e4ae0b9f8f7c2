"""Anchors that fit the boxes of a set: k-means whose distance is 1 - IoU, as YOLOv2's paper and Darknet's calc_anchors.

Only the size of a box counts; it is compared with an anchor as if both had the same centre. Knows nothing of networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deploy.resize import boxes_to_network, place
from pipeline.curated import LabelledImage
from pipeline.errors import refuse

__all__ = ["Anchors", "anchors_of", "average_iou", "box_sizes", "possible_recall"]

# Runs: the fewer boxes, the more a single start decides, and the less a run costs.
_FEWEST_RUNS, _MOST_RUNS, _BOXES_IN_ALL_RUNS = 16, 128, 100_000
# A run ends when so many rounds have not bettered the average IoU by more than this.
_PATIENCE = 5
_HELPS = 1e-5


@dataclass(frozen=True)
class Anchors:
    """values: (count, 2) float64, width and height in the unit of the boxes, by area. average_iou: over the boxes, with
    the best anchor of each."""

    values: np.ndarray
    average_iou: float


def box_sizes(images: Sequence[LabelledImage], width: int, height: int, resize: str) -> np.ndarray:
    """Width and height of every box in pixels of a network's input: (N, 2) float64."""
    sizes = [np.empty((0, 2))]
    for image in images:
        boxes = boxes_to_network(image.boxes, place(image.width, image.height, width, height, resize))
        sizes.append((boxes[:, 2:] - boxes[:, :2]).astype(np.float64))
    return np.concatenate(sizes)


def anchors_of(sizes: np.ndarray, count: int, seed: int) -> Anchors:
    """Find `count` anchors for boxes of these sizes, (N, 2), all above 0; their order does not matter.

    Each of several runs starts as k-means++ and moves every anchor to the mean of the boxes that it fits best. That
    mean is not where the average IoU is highest, so the best anchors on the way are kept, not the last ones.

    Raises:
        UserError: no anchor wanted, or fewer different sizes than anchors.

    >>> anchors_of(np.array([[10, 20], [10, 20], [50, 40]]), count=2, seed=0).values.tolist()
    [[10.0, 20.0], [50.0, 40.0]]
    """
    if count < 1:
        raise refuse(f"{count} anchors", "too few", "give a count of at least 1")
    kinds, weights = np.unique(np.asarray(sizes, np.float64).reshape(-1, 2), axis=0, return_counts=True)
    if len(kinds) < count:
        raise refuse(f"{count} anchors", f"only {len(kinds)} different box sizes", "add photos or give a lower count")
    shares = weights / weights.sum()
    rng = np.random.default_rng(seed)
    runs = min(max(_BOXES_IN_ALL_RUNS // len(kinds), _FEWEST_RUNS), _MOST_RUNS)
    results = [_lloyd(kinds, shares, _first_anchors(kinds, shares, count, rng)) for _ in range(runs)]
    best = max(results, key=lambda result: result.average_iou)
    return Anchors(best.values[np.argsort(best.values.prod(axis=1), kind="stable")], best.average_iou)


def average_iou(sizes: np.ndarray, anchors: np.ndarray) -> float:
    """Mean over the boxes, (N, 2), of the IoU with the best anchor, (K, 2): 0 to 1."""
    return float(_iou(sizes, anchors).max(axis=1).mean())


def possible_recall(sizes: np.ndarray, anchors: np.ndarray, iou: float = 0.5) -> float:
    """Share of the boxes, (N, 2), that some anchor, (K, 2), fits with more than `iou`: 0 to 1."""
    return float((_iou(sizes, anchors).max(axis=1) > iou).mean())


def _iou(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """(N, 2) and (K, 2) to (N, K), 0 to 1."""
    overlap = np.minimum(sizes[:, None, 0], anchors[None, :, 0]) * np.minimum(sizes[:, None, 1], anchors[None, :, 1])
    union = sizes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None, :] - overlap
    result: np.ndarray = overlap / union
    return result


def _first_anchors(kinds: np.ndarray, shares: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++: each next one is drawn with the squared distance from those there are."""
    anchors = kinds[rng.choice(len(kinds), 1, p=shares)]
    while len(anchors) < count:
        odds = shares * (1 - _iou(kinds, anchors).max(axis=1)).clip(0) ** 2
        if not odds.any():  # what is left differs in the last digit
            odds = shares
        anchors = np.concatenate([anchors, kinds[rng.choice(len(kinds), 1, p=odds / odds.sum())]])
    return anchors


def _lloyd(kinds: np.ndarray, shares: np.ndarray, anchors: np.ndarray) -> Anchors:
    """Move the anchors while that helps; the best on the way, with their average IoU.

    An anchor that fits no box best stays where it is.
    """
    best, idle = Anchors(anchors, -1.0), 0
    while idle < _PATIENCE:
        iou = _iou(kinds, anchors)
        nearest = iou.argmax(axis=1)
        reached = float(shares @ iou[np.arange(len(kinds)), nearest])
        idle = 0 if reached > best.average_iou + _HELPS else idle + 1
        if reached > best.average_iou:
            best = Anchors(anchors, reached)
        weight = np.bincount(nearest, shares, len(anchors))
        sums = np.stack([np.bincount(nearest, shares * side, len(anchors)) for side in kinds.T], axis=1)
        anchors = np.where(weight[:, None] > 0, sums / np.where(weight > 0, weight, 1)[:, None], anchors)
    return best
