"""How good a detector is: AP as Darknet's `detector map` defines it, and COCO's mAP.

Runs the network on a split, and compares with the labels in pixels of the source pictures. Knows nothing of training.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from deploy.decode import detections_from_network
from deploy.frame import Detections
from deploy.nms import iou
from pipeline.curated import LabelledImage
from pipeline.darknet import DarknetNetwork
from pipeline.train.dataset import ImageTensors

__all__ = ["Scores", "average_precision", "coco_map", "detect", "evaluate"]

# detector.c validate_detector_map
SCORE_THRESHOLD = 0.005
NMS_THRESHOLD = 0.45


@dataclass(frozen=True)
class Scores:
    """AP of one set of weights on one split, all from 0 to 1.

    Attributes:
        ap50: mean over the classes that have boxes, of Darknet's AP at IoU 0.5.
        ap50_per_class: NaN where the split has no box of the class.
        coco_map: COCO mAP over IoU 0.5 to 0.95.
    """

    ap50: float
    ap50_per_class: tuple[float, ...]
    coco_map: float

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self) | {"ap50_per_class": [None if np.isnan(ap) else ap for ap in self.ap50_per_class]}


def evaluate(network: DarknetNetwork, data: ImageTensors, classes: Sequence[str], batch: int = 32) -> Scores:
    """Measure AP of `network` on `data`; the network's mode and gradients are left as found."""
    detections = detect(network, data, batch)
    per_class = average_precision(detections, data.sources, len(classes))
    known = [ap for ap in per_class if not np.isnan(ap)]
    return Scores(
        float(np.mean(known)) if known else 0.0, tuple(per_class), coco_map(detections, data.sources, len(classes))
    )


@torch.no_grad()
def detect(
    network: DarknetNetwork,
    data: ImageTensors,
    batch: int = 32,
    threshold: float = SCORE_THRESHOLD,
    nms_threshold: float = NMS_THRESHOLD,
) -> list[Detections]:
    """Detections of every picture, through the same decode and NMS that fly."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    found: list[Detections] = []
    for start in range(0, len(data), batch):
        images = data.images[start : start + batch].to(device, torch.float32) / 255
        boxes, scores = (part.float().cpu().numpy() for part in network.decode(network(images)))
        placements = data.placements[start : start + batch]
        for one_boxes, one_scores, placement in zip(boxes, scores, placements, strict=True):
            found.append(detections_from_network(one_boxes, one_scores, threshold, nms_threshold, placement))
    network.train(was_training)
    return found


def average_precision(
    detections: Sequence[Detections], truths: Sequence[LabelledImage], class_count: int, threshold: float = 0.5
) -> list[float]:
    """AP per class as detector.c validate_detector_map: area under the precision envelope.

    A detection is right if the label of its class that it overlaps most, by more than `threshold`, was not found by a
    better detection before.

    Returns:
        One number from 0 to 1 per class; NaN for a class without labels.
    """
    return [_class_ap(detections, truths, index, threshold) for index in range(class_count)]


def _class_ap(detections: Sequence[Detections], truths: Sequence[LabelledImage], index: int, threshold: float) -> float:
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
    if not label_count:
        return float("nan")
    order = np.argsort(-np.concatenate(scores), kind="stable")
    match = np.concatenate(matches)[order]
    # The best detection of each label is right, further ones of the same label are wrong.
    is_right = np.zeros(len(match), bool)
    labels_found, first = np.unique(match, return_index=True)
    is_right[first[labels_found >= 0]] = True
    right = np.cumsum(is_right)
    precision = right / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * np.diff(right, prepend=0)).sum() / label_count)


def coco_map(detections: Sequence[Detections], truths: Sequence[LabelledImage], class_count: int) -> float:
    """COCO mAP at IoU 0.5:0.95 (faster-coco-eval), 0 to 1; 0 without any label or detection."""
    from faster_coco_eval import COCO, COCOeval_faster

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
        return 0.0
    numbered = [row | {"id": number} for number, row in enumerate(labels, 1)]
    categories = [{"id": index, "name": str(index)} for index in range(class_count)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth_set = COCO({"images": images, "annotations": numbered, "categories": categories})
        run = COCOeval_faster(truth_set, truth_set.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return max(0.0, float(run.stats[0]))


def _coco_row(image: int, box: np.ndarray, cls: int) -> dict[str, object]:
    left, top, right, bottom = (float(value) for value in box)
    area = (right - left) * (bottom - top)
    box_xywh = [left, top, right - left, bottom - top]
    return {"image_id": image, "category_id": int(cls), "bbox": box_xywh, "area": area}
