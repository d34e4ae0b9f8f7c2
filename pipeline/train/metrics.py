"""How good a detector is: AP, precision, recall and F1 as Darknet's `detector map` defines them, and COCO's mAP.

Runs the detector on a split, and compares with the labels in pixels of the source pictures. Knows nothing of training.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deploy.decode import detections_from_network
from deploy.frame import Detections
from deploy.nms import iou
from pipeline.networks.detector import Detector
from pipeline.train.dataset import ImageTensors

if TYPE_CHECKING:
    from pipeline.curated import LabelledImage

__all__ = [
    "COUNTED",
    "NMS_THRESHOLD",
    "SCORE_THRESHOLD",
    "Coco",
    "Counts",
    "Scores",
    "average_precision",
    "coco_scores",
    "detect",
    "evaluate",
    "score",
]

# detector.c validate_detector_map
SCORE_THRESHOLD = 0.005
NMS_THRESHOLD = 0.45
# thresh_calc_avg_iou there: what is counted for precision and recall
COUNTED = 0.25


@dataclass(frozen=True)
class Coco:
    """COCO's figures, 0 to 1. ap: over IoU 0.5 to 0.95; small, medium, large: of objects below 32 x 32 pixels of the
    source picture, below 96 x 96, and others; NaN where there are none."""

    ap: float
    small: float
    medium: float
    large: float


@dataclass(frozen=True)
class Counts:
    """Of one class: labels, detections above 0.25, and how many of those are right at IoU 0.5."""

    labels: int
    found: int
    right: int


@dataclass(frozen=True)
class Scores:
    """How good one set of weights is on one split; all from 0 to 1, but the loss.

    Attributes:
        ap50: mean over the classes that have boxes, of Darknet's AP at IoU 0.5.
        ap50_per_class: NaN where the split has no box of the class.
        counts_per_class: what precision, recall and f1 are made of.
        precision, recall, f1: of detections above 0.25, all classes together, as `detector map` prints them.
        coco_map: COCO mAP over IoU 0.5 to 0.95. ap_small, ap_medium, ap_large: the same by size of the object.
        loss: what training minimises, on these pictures as they are; NaN where the detector says none.
    """

    ap50: float
    ap50_per_class: tuple[float, ...]
    counts_per_class: tuple[Counts, ...]
    precision: float
    recall: float
    f1: float
    coco_map: float
    ap_small: float
    ap_medium: float
    ap_large: float
    loss: float

    @property
    def darknet_map(self) -> float:
        """What `detector map` prints as mAP: the mean over all classes, where one without boxes counts as 0."""
        return float(np.nansum(self.ap50_per_class)) / len(self.ap50_per_class)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no NaN."""
        content = asdict(self)
        content["ap50_per_class"] = list(self.ap50_per_class)
        return {key: _or_none(value) for key, value in content.items()}


def evaluate(
    detector: Detector,
    data: ImageTensors,
    classes: Sequence[str],
    batch: int = 32,
) -> Scores:
    """Measure `detector` on `data`; its mode and gradients are left as found."""
    detections, loss = _run(detector, data, batch, SCORE_THRESHOLD, NMS_THRESHOLD)
    return score(detections, data.sources, len(classes), loss)


def score(
    detections: Sequence[Detections],
    truths: Sequence["LabelledImage"],
    class_count: int,
    loss: float = float("nan"),
) -> Scores:
    """Compare what was found on every picture with its labels. loss: to be noted beside the rest."""
    matched = [_matches(detections, truths, index, 0.5) for index in range(class_count)]
    per_class = [_class_ap(matches) for matches in matched]
    known = [ap for ap in per_class if not np.isnan(ap)]
    counts = tuple(_counts(matches, COUNTED) for matches in matched)
    precision, recall = _precision_and_recall(counts)
    coco = coco_scores(detections, truths, class_count)
    return Scores(
        ap50=float(np.mean(known)) if known else 0.0,
        ap50_per_class=tuple(per_class),
        counts_per_class=counts,
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        coco_map=coco.ap,
        ap_small=coco.small,
        ap_medium=coco.medium,
        ap_large=coco.large,
        loss=loss,
    )


def detect(
    detector: Detector,
    data: ImageTensors,
    batch: int = 32,
    threshold: float = SCORE_THRESHOLD,
    nms_threshold: float = NMS_THRESHOLD,
) -> list[Detections]:
    """Detections of every picture, through the same decode and NMS that fly."""
    return _run(detector, data, batch, threshold, nms_threshold, with_loss=False)[0]


@torch.no_grad()
def _run(
    detector: Detector,
    data: ImageTensors,
    batch: int,
    threshold: float,
    nms_threshold: float,
    with_loss: bool = True,
) -> tuple[list[Detections], float]:
    """Detections of every picture, and the mean loss per picture; NaN without it."""
    was_training = detector.training
    detector.eval()
    device = next(detector.parameters()).device
    found: list[Detections] = []
    loss = 0.0
    for start in range(0, len(data), batch):
        part = slice(start, start + batch)
        images = (data.images[part].to(device, torch.float32) / 255).contiguous(memory_format=torch.channels_last)
        losses: dict[str, torch.Tensor] = {}
        if with_loss:
            boxes, scores, losses = detector.predict_with_losses(images, data.truth[part].to(device))
        else:
            boxes, scores = detector.predict(images)
        loss += float(sum(losses.values(), torch.zeros(()))) * len(images) if losses else float("nan")
        rows = zip(boxes.float().cpu().numpy(), scores.float().cpu().numpy(), data.placements[part], strict=True)
        for one_boxes, one_scores, placement in rows:
            found.append(detections_from_network(one_boxes, one_scores, threshold, nms_threshold, placement))
    detector.train(was_training)
    return found, loss / len(data)


def average_precision(
    detections: Sequence[Detections], truths: Sequence["LabelledImage"], class_count: int, threshold: float = 0.5
) -> list[float]:
    """AP per class as detector.c validate_detector_map: area under the precision envelope.

    A detection is right if the label of its class that it overlaps most, by more than `threshold`, was not found by a
    better detection before.

    Returns:
        One number from 0 to 1 per class; NaN for a class without labels.
    """
    return [_class_ap(_matches(detections, truths, index, threshold)) for index in range(class_count)]


def _precision_and_recall(counts: Sequence[Counts]) -> tuple[float, float]:
    right, found, labels = (sum(getattr(count, key) for count in counts) for key in ("right", "found", "labels"))
    return right / found if found else 0.0, right / labels if labels else 0.0


@dataclass(frozen=True)
class _Matches:
    """Detections of one class, best first: scores, whether each is right; and how many labels there are."""

    scores: np.ndarray
    is_right: np.ndarray
    labels: int


def _counts(matched: _Matches, above: float) -> Counts:
    is_counted = matched.scores > above
    return Counts(matched.labels, int(is_counted.sum()), int(matched.is_right[is_counted].sum()))


def _class_ap(matched: _Matches) -> float:
    if not matched.labels:
        return float("nan")
    right = np.cumsum(matched.is_right)
    precision = right / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * np.diff(right, prepend=0)).sum() / matched.labels)


def _matches(
    detections: Sequence[Detections], truths: Sequence["LabelledImage"], index: int, threshold: float
) -> _Matches:
    scores: list[np.ndarray] = [np.zeros(0)]
    matches: list[np.ndarray] = [np.zeros(0, np.int64)]
    label_count = 0
    for found, truth in zip(detections, truths, strict=True):
        labels = truth.boxes[truth.classes == index]
        chosen = found.classes == index
        overlap = iou(found.boxes[chosen], labels)
        match = np.full(int(chosen.sum()), -1)
        if len(labels):
            best = overlap.argmax(axis=1)
            match = np.where(overlap[np.arange(len(best)), best] > threshold, best + label_count, -1)
        scores.append(found.scores[chosen])
        matches.append(match)
        label_count += len(labels)
    sorted_scores = np.concatenate(scores)
    order = np.argsort(-sorted_scores, kind="stable")
    match = np.concatenate(matches)[order]
    # The best detection of each label is right, further ones of the same label are wrong.
    is_right = np.zeros(len(match), bool)
    labels_found, first = np.unique(match, return_index=True)
    is_right[first[labels_found >= 0]] = True
    return _Matches(sorted_scores[order], is_right, label_count)


def coco_scores(detections: Sequence[Detections], truths: Sequence["LabelledImage"], class_count: int) -> Coco:
    """COCO's figures by faster-coco-eval; 0 without any label or detection."""
    from faster_coco_eval import COCO, COCOeval_faster

    nan = float("nan")
    images = [{"id": i, "width": truth.width, "height": truth.height} for i, truth in enumerate(truths)]
    labels = [
        _coco_row(image, box, cls) | {"iscrowd": 0}
        for image, truth in enumerate(truths)
        for box, cls in zip(truth.boxes, truth.classes, strict=True)
    ]
    results = [
        _coco_row(image, box, cls) | {"score": float(score)}
        for image, found in enumerate(detections)
        for box, score, cls in zip(*found, strict=True)
    ]
    if not labels or not results:
        return Coco(0.0, nan, nan, nan)
    numbered = [row | {"id": number} for number, row in enumerate(labels, 1)]
    categories = [{"id": index, "name": str(index)} for index in range(class_count)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth_set = COCO({"images": images, "annotations": numbered, "categories": categories})
        run = COCOeval_faster(truth_set, truth_set.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    ap, small, medium, large = (float(run.stats[place]) for place in (0, 3, 4, 5))
    return Coco(max(0.0, ap), *(value if value >= 0 else nan for value in (small, medium, large)))


def _coco_row(image: int, box: np.ndarray, cls: int) -> dict[str, object]:
    left, top, right, bottom = (float(value) for value in box)
    area = (right - left) * (bottom - top)
    box_xywh = [left, top, right - left, bottom - top]
    return {"image_id": image, "category_id": int(cls), "bbox": box_xywh, "area": area}


def _or_none(value: Any) -> Any:
    if isinstance(value, list):
        return [_or_none(entry) for entry in value]
    return None if isinstance(value, float) and np.isnan(value) else value
