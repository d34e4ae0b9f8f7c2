"""NMS, selection and IoU against plain loops over Darknet's rules."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.decode import detections_from_network, select
from deploy.nms import iou, nms
from deploy.resize import place


def _iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area - width * height)


def _random(seed, count=40):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 50, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 40, (count, 2))], axis=1).astype(np.float32)
    return boxes, rng.integers(0, 20, count).astype(np.float32) / 20, rng.integers(0, 3, count)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9))
def test_nms_is_greedy_per_class(seed, threshold):
    boxes, scores, classes = _random(seed)
    assert list(nms(boxes, scores, classes, threshold)) == _greedy(boxes, scores, classes, threshold)


def _greedy(boxes, scores, classes, threshold):
    expected: list[int] = []
    for index in sorted(
        range(len(boxes)), key=lambda i: (-scores[i], *np.rint(np.float64(boxes[i]) * 100), classes[i])
    ):
        better = [kept for kept in expected if classes[kept] == classes[index]]
        if all(_iou(boxes[kept], boxes[index]) <= threshold for kept in better):
            expected.append(index)
    return expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 20, 300]), st.integers(1, 3), st.floats(0.1, 0.9))
def test_whatever_the_network_gives_is_selected_and_suppressed_as_by_plain_loops(seed, count, classes, threshold):
    """Saturated and equal scores, equal boxes, boxes and scores that are no numbers, more boxes than a block holds."""
    rng = np.random.default_rng(seed)
    boxes = _random(seed, count)[0][rng.integers(0, max(count, 1), count)]
    scores = np.minimum(rng.random((count, classes)) * 2, 1).astype(np.float32)
    boxes[rng.random(boxes.shape) < 0.03] = rng.choice([np.nan, np.inf, -np.inf])
    scores[rng.random(scores.shape) < 0.03] = rng.choice([np.nan, np.inf])
    taken = [
        (row, index)
        for row in range(count)
        for index in range(classes)
        if scores[row, index] > 0.5 and np.isfinite(boxes[row]).all() and np.isfinite(scores[row, index])
    ]
    rows, indices = (np.array([pair[side] for pair in taken], int) for side in (0, 1))
    kept = _greedy(boxes[rows], scores[rows, indices], indices, threshold)
    found = detections_from_network(boxes, scores, 0.5, threshold, place(416, 416, 416, 416, "stretch"))
    assert np.array_equal(found.boxes, boxes[rows[kept]])
    assert np.array_equal(found.scores, scores[rows, indices][kept])
    assert found.classes.tolist() == indices[kept].tolist()


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_runtimes_that_differ_by_rounding_keep_the_same_boxes(seed):
    """Scores are saturated, all boxes over one another; the other runtime also gives them in another order."""
    rng = np.random.default_rng(seed)
    boxes = (rng.integers(0, 8, (30, 2)).repeat(2, 1)[:, [0, 2, 1, 3]] + [0, 0, 60, 60]).astype(np.float32)
    scores, classes = np.ones(30, np.float32), rng.integers(0, 2, 30)
    order = rng.permutation(30)
    noise = rng.uniform(-1e-5, 1e-5, (30, 4)).astype(np.float32)
    others = scores - rng.integers(0, 3, 30).astype(np.float32) * np.float32(6e-8)
    kept = nms(boxes, scores, classes, 0.45)
    found = order[nms(boxes[order] + noise, others[order], classes[order], 0.45)]
    assert len(kept) >= 2
    assert np.array_equal(boxes[kept], boxes[found])
    assert list(classes[kept]) == list(classes[found])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_iou_is_symmetric_and_that_of_each_pair(seed):
    boxes, _, _ = _random(seed, 8)
    found = iou(boxes, boxes)
    assert np.allclose(found, found.T)
    assert np.allclose(found, [[_iou(a, b) for b in boxes] for a in boxes], atol=1e-5)
    assert np.allclose(np.diag(found), 1, atol=1e-6)


def test_one_box_may_give_two_classes():
    boxes, scores, classes = select(np.zeros((2, 4), np.float32), np.array([[0.6, 0.7], [0.1, 0.25]]), 0.25)
    assert boxes.shape == (2, 4)
    assert list(scores) == [0.6, 0.7]
    assert list(classes) == [0, 1]


def test_nothing_above_the_threshold_gives_empty_arrays():
    placement = place(640, 480, 416, 416, "stretch")
    found = detections_from_network(np.zeros((5, 4), np.float32), np.zeros((5, 2), np.float32), 0.1, 0.45, placement)
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.classes.shape == (0,)


def test_boxes_come_back_in_pixels_of_the_source():
    placement = place(832, 416, 416, 416, "letterbox")
    boxes = np.array([[0, 104, 208, 312]], np.float32)
    found = detections_from_network(boxes, np.array([[0.9]], np.float32), 0.5, 0.45, placement)
    assert found.boxes.tolist() == [[0, 0, 416, 416]]
