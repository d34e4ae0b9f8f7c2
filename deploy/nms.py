"""Non-maximum suppression as Darknet does it: greedy, class by class (box.c do_nms_sort).

Which of two equal scores comes first is chance in Darknet, whose sort is C's qsort. Here it follows from the boxes, so
that runtimes which differ in the last digit keep the same box of an object that two are sure of.
"""

import numpy as np

_BLOCK = 128  # boxes
_AFTER = np.triu(np.ones((_BLOCK, _BLOCK), bool), 1)  # whether a column comes after a row


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair: (N, 4) and (M, 4) xyxy to (N, M) float32; empty overlaps give 0."""
    boxes, others = np.asarray(boxes, np.float32), np.asarray(others, np.float32)
    (left, top, right, bottom), (lefts, tops, rights, bottoms) = boxes.T[:, :, None], others.T[:, None]
    overlap = np.maximum(np.minimum(right, rights) - np.maximum(left, lefts), 0)
    overlap *= np.maximum(np.minimum(bottom, bottoms) - np.maximum(top, tops), 0)
    union = _area(boxes)[:, None] + _area(others) - overlap
    result = np.zeros_like(overlap)
    np.divide(overlap, union, out=result, where=overlap > 0)
    return result


def nms(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, threshold: float) -> np.ndarray:
    """Keep, per class, every box that overlaps no better kept one by more than `threshold`.

    boxes: (N, 4) float32 xyxy. scores: (N,). classes: (N,) integers.
    Returns indices into the input, best score first; scores that are equal to six digits in the order of left, top,
    right and bottom, to a hundredth, then of classes.
    """
    if not len(classes):
        return np.zeros(0, np.int64)
    order = _best_first(boxes, scores, classes)
    if (classes == classes[0]).all():
        return _nms_one_class(boxes, order, threshold)
    kept = [_nms_one_class(boxes, order[classes[order] == index], threshold) for index in np.unique(classes)]
    found = np.concatenate(kept)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return found[np.argsort(rank[found], kind="stable")]


def _best_first(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Sort by what is left of scores and boxes after rounding: a saturated score is 1 here and 0.9999999 there."""
    places = np.rint(np.asarray(boxes, np.float64).reshape(-1, 4) * 100)
    keys = (classes, *places.T[::-1], -np.rint(np.asarray(scores, np.float64) * 1e6))
    return np.lexsort(keys)


def _nms_one_class(boxes: np.ndarray, order: np.ndarray, threshold: float) -> np.ndarray:
    """Block by block, since one call for the overlaps of many boxes takes hardly longer than one for a single box."""
    if len(order) == 1:
        return order
    kept = [order[:0]]
    while len(order):
        block, order = order[:_BLOCK], order[_BLOCK:]
        worse = (iou(boxes[block], boxes[block]) > threshold) & _AFTER[: len(block), : len(block)]
        is_free = np.ones(len(block), bool)
        for place in np.flatnonzero(worse.any(axis=1)):
            if is_free[place]:
                is_free &= ~worse[place]
        kept.append(block[is_free])
        if len(order):
            order = order[~(iou(boxes[kept[-1]], boxes[order]) > threshold).any(axis=0)]
    return np.concatenate(kept)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
