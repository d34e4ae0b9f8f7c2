"""Which detections of a picture are right and which labels were missed, by the rule that AP is measured with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deploy.frame import Detections
from deploy.nms import iou

if TYPE_CHECKING:
    from pipeline.curated import LabelledImage

__all__ = ["Judged", "judge", "precision_over_recall"]

_IOU = 0.5


class Judged(NamedTuple):
    """Of one picture. is_right: (N,) bool, for each detection. is_found: (M,) bool, for each label."""

    is_right: np.ndarray
    is_found: np.ndarray


def judge(found: Detections, truth: "LabelledImage", above: float = 0.0) -> Judged:
    """Match as `pipeline.train.metrics.average_precision`: the best detection of a label is right, others are wrong.

    above: score from which a detection counts; the others are neither right nor find anything.
    """
    is_right, is_found = np.zeros(len(found.scores), bool), np.zeros(len(truth.boxes), bool)
    overlap = iou(found.boxes, truth.boxes)
    overlap[found.classes[:, None] != truth.classes[None, :]] = -1
    for place in np.argsort(-found.scores, kind="stable") if len(truth.boxes) else ():
        label = int(overlap[place].argmax())
        if found.scores[place] > above and overlap[place, label] > _IOU and not is_found[label]:
            is_right[place] = is_found[label] = True
    return Judged(is_right, is_found)


def precision_over_recall(
    found: Sequence[Detections], truths: Sequence["LabelledImage"], index: int
) -> list[tuple[float, float, float]]:
    """Recall, precision and score of one class, a row per detection, best first; none without labels."""
    scores, rights, labels = [np.zeros(0)], [np.zeros(0, bool)], 0
    for one, truth in zip(found, truths, strict=True):
        chosen = one.classes == index
        scores.append(one.scores[chosen])
        rights.append(judge(one, truth).is_right[chosen])
        labels += int((truth.classes == index).sum())
    if not labels:
        return []
    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    right = np.cumsum(np.concatenate(rights)[order])
    precision = right / np.arange(1, len(right) + 1)
    rows = zip(right / labels, precision, all_scores[order], strict=True)
    return [(float(recall), float(precise), float(score)) for recall, precise, score in rows]
