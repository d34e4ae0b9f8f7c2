"""Right, wrong and missed by the rule that AP is measured with; the curve's area is AP."""

from pathlib import Path

import numpy as np
import pytest

from deploy.frame import Detections
from pipeline.curated import LabelledImage
from pipeline.report.judge import judge, precision_over_recall
from pipeline.train.metrics import average_precision


def picture(boxes: list[list[float]], classes: list[int]) -> LabelledImage:
    table = np.array(boxes, np.float32).reshape(-1, 4)
    return LabelledImage(Path("one.png"), "one", 100, 100, table, np.array(classes, np.int64))


def found(boxes: list[list[float]], scores: list[float], classes: list[int]) -> Detections:
    table = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(table, np.array(scores, np.float32), np.array(classes, np.int64))


def test_the_best_detection_of_a_label_is_right_and_a_second_one_is_wrong() -> None:
    label = [10.0, 10.0, 50.0, 50.0]
    judged = judge(found([label, label], [0.5, 0.9], [0, 0]), picture([label], [0]))
    assert judged.is_right.tolist() == [False, True]
    assert judged.is_found.tolist() == [True]


def test_another_class_finds_nothing_and_neither_does_what_does_not_count() -> None:
    label = [10.0, 10.0, 50.0, 50.0]
    judged = judge(found([label, label], [0.9, 0.2], [1, 0]), picture([label], [0]), above=0.25)
    assert not judged.is_right.any()
    assert not judged.is_found.any()


def test_pictures_without_labels_or_detections_are_judged() -> None:
    assert judge(found([[0, 0, 9, 9]], [0.9], [0]), picture([], [])).is_right.tolist() == [False]
    assert judge(found([], [], []), picture([[0, 0, 9, 9]], [0])).is_found.tolist() == [False]


@pytest.mark.parametrize("seed", range(5))
def test_area_under_the_curve_is_ap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truths, detections = [], []
    for _ in range(20):
        corners = rng.uniform(0, 60, (4, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(15, 35, (4, 2))], axis=1)
        labels = rng.integers(0, 2, 4)
        shaken = (boxes + rng.normal(0, 4, boxes.shape)).repeat(2, axis=0)
        truths.append(picture(boxes.tolist(), labels.tolist()))
        detections.append(found(shaken.tolist(), rng.uniform(0.01, 1, 8).tolist(), labels.repeat(2).tolist()))
    expected = average_precision(detections, truths, 2)
    for index in range(2):
        recall, precision, score = np.array(precision_over_recall(detections, truths, index)).T
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        assert (envelope * np.diff(recall, prepend=0)).sum() == pytest.approx(expected[index], abs=1e-9)
        assert (np.diff(score) <= 0).all()
