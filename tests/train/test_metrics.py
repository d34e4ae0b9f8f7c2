"""AP as Darknet's detector map defines it, against a plain transcription and against COCO's own."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.frame import Detections
from deploy.nms import iou
from pipeline.curated import LabelledImage
from pipeline.train.metrics import average_precision, coco_scores


def _truth(boxes, classes=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return LabelledImage(Path("x.jpg"), "x", 100, 100, boxes, np.array(classes or [0] * len(boxes), np.int64))


def _found(boxes, scores, classes=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(boxes, np.array(scores, np.float32), np.array(classes or [0] * len(boxes), np.int64))


def _darknet_ap(detections, truths, index):
    """detector.c validate_detector_map, one detection after the other."""
    rows = []
    for image, (found, truth) in enumerate(zip(detections, truths, strict=True)):
        for box, score, cls in zip(*found, strict=True):
            if cls != index:
                continue
            best, match = 0.0, None
            for number, (label, label_class) in enumerate(zip(truth.boxes, truth.classes, strict=True)):
                overlap = iou(box[None], label[None])[0, 0]
                if overlap > 0.5 and overlap > best and label_class == index:
                    best, match = overlap, (image, number)
            rows.append((score, match))
    rows.sort(key=lambda row: -row[0])
    total = sum(int((truth.classes == index).sum()) for truth in truths)
    seen, right, curve = set(), 0, []
    for rank, (_, match) in enumerate(rows, 1):
        if match is not None and match not in seen:
            seen.add(match)
            right += 1
        curve.append((right / total, right / rank))
    if not curve:
        return 0.0
    area, (last_recall, last_precision) = 0.0, curve[-1]
    for recall, precision in reversed(curve[:-1]):
        area += (last_recall - recall) * last_precision
        last_recall, last_precision = recall, max(last_precision, precision)
    return area + last_recall * last_precision


def test_perfect_detections_have_ap_one():
    truths = [_truth([[0, 0, 10, 10], [20, 20, 40, 40]]), _truth([[5, 5, 30, 30]])]
    found = [_found(truth.boxes, [0.9, 0.8][: len(truth.boxes)]) for truth in truths]
    assert average_precision(found, truths, 1) == [1.0]
    assert coco_scores(found, truths, 1).ap == pytest.approx(1.0)


def test_second_detection_of_one_label_is_wrong():
    truths = [_truth([[0, 0, 10, 10]]), _truth([[0, 0, 10, 10]])]
    found = [_found([[0, 0, 10, 10], [0, 0, 10, 9]], [0.9, 0.8]), _found([[0, 0, 10, 10]], [0.7])]
    assert average_precision(found, truths, 1) == [pytest.approx(0.5 + 0.5 * 2 / 3)]


def test_class_without_labels_has_no_ap():
    assert np.isnan(average_precision([_found([], [])], [_truth([])], 1)[0])


def test_nothing_found_is_zero():
    truths = [_truth([[0, 0, 10, 10]])]
    assert average_precision([_found([], [])], truths, 1) == [0.0]
    assert coco_scores([_found([], [])], truths, 1).ap == 0.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_ap_is_that_of_darknets_own_loop(seed):
    rng = np.random.default_rng(seed)
    truths, detections = [], []
    for _ in range(4):
        corner = rng.uniform(0, 60, (rng.integers(0, 5), 2))
        boxes = np.concatenate([corner, corner + rng.uniform(5, 30, corner.shape)], axis=1)
        truths.append(_truth(boxes, list(rng.integers(0, 2, len(boxes)))))
        copies = boxes[rng.integers(0, len(boxes), 6)] if len(boxes) else np.zeros((0, 4))
        moved = copies + rng.normal(0, 2, copies.shape)
        detections.append(
            _found(moved, rng.permutation(1000)[: len(moved)] / 1000, list(rng.integers(0, 2, len(moved))))
        )
    for index in (0, 1):
        if any((truth.classes == index).any() for truth in truths):
            expected = _darknet_ap(detections, truths, index)
            assert average_precision(detections, truths, 2)[index] == pytest.approx(expected, abs=1e-6)
