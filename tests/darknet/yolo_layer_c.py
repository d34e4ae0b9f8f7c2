"""yolo_layer.c read line by line: the training part of forward_yolo_layer in plain loops, for both forks.

The names are the C file's where it has one. Only what `require_trainable` accepts: iou_loss mse, truth_thresh 1.
"""

import math

import numpy as np

from pipeline.darknet.yolo import YoloHead

Box = tuple[float, float, float, float]


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def layer_output(raw: np.ndarray, head: YoloHead) -> np.ndarray:
    """(masks * (5 + classes), height, width) to (masks, 5 + classes, height, width), as l.output."""
    output = raw.astype(np.float64).reshape(len(head.mask), 5 + head.classes, *raw.shape[1:])
    for place in np.ndindex(*output.shape):
        entry = place[1]
        if entry not in (2, 3):
            output[place] = logistic(float(output[place]))
        if entry < 2:
            output[place] = output[place] * head.scale_x_y - 0.5 * (head.scale_x_y - 1)
    return output


def get_yolo_box(output: np.ndarray, head: YoloHead, n: int, j: int, i: int) -> Box:
    height, width = output.shape[2:]
    x, y, w, h = (float(value) for value in output[n, :4, j, i])
    anchor = head.anchors[head.mask[n]]
    return (
        (i + x) / width,
        (j + y) / height,
        math.exp(w) * anchor[0] / head.network_width,
        math.exp(h) * anchor[1] / head.network_height,
    )


def box_iou(a: Box, b: Box) -> float:
    w, h = (
        min(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2) - max(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2) for k in (0, 1)
    )
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / (a[2] * a[3] + b[2] * b[3] - w * h)


def forward_yolo_layer(raw: np.ndarray, truth: np.ndarray, head: YoloHead, is_alexeyab: bool) -> np.ndarray:
    """l.delta of one image, (masks, 5 + classes, height, width)."""
    output = layer_output(raw, head)
    delta = np.zeros_like(output)
    rows = [row for row in truth.astype(np.float64) if row[0] != 0 and 0 <= row[4] < head.classes]
    _objectness_of_all_cells(output, delta, rows, head, is_alexeyab)
    for x, y, w, h, label in rows:
        _one_truth(output, delta, (x, y, w, h), int(label), head, is_alexeyab)
    return delta


def _objectness_of_all_cells(
    output: np.ndarray, delta: np.ndarray, rows: list[np.ndarray], head: YoloHead, is_alexeyab: bool
) -> None:
    masks, _, height, width = output.shape
    for n in range(masks):
        for j in range(height):
            for i in range(width):
                pred = get_yolo_box(output, head, n, j, i)
                best_iou = best_match_iou = 0.0
                for row in rows:
                    iou = box_iou(pred, (row[0], row[1], row[2], row[3]))
                    best_iou = max(best_iou, iou)
                    if compare_yolo_class(output[n, 5:, j, i]):
                        best_match_iou = max(best_match_iou, iou)
                delta[n, 4, j, i] = (head.obj_normalizer if is_alexeyab else 1) * (0 - output[n, 4, j, i])
                if (best_match_iou if is_alexeyab else best_iou) > head.ignore_thresh:
                    delta[n, 4, j, i] = 0


def compare_yolo_class(scores: np.ndarray) -> bool:
    return any(score > 0.25 for score in scores)


def _one_truth(
    output: np.ndarray, delta: np.ndarray, truth: Box, label: int, head: YoloHead, is_alexeyab: bool
) -> None:
    height, width = output.shape[2:]
    i, j = int(truth[0] * width), int(truth[1] * height)
    best_iou, best_n = 0.0, 0
    for n, anchor in enumerate(head.anchors):
        shape = (0.0, 0.0, anchor[0] / head.network_width, anchor[1] / head.network_height)
        iou = box_iou(shape, (0.0, 0.0, truth[2], truth[3]))
        if iou > best_iou:
            best_iou, best_n = iou, n
    if best_n not in head.mask:
        return
    mask_n = head.mask.index(best_n)
    delta_yolo_box(output[mask_n, :4, j, i], delta[mask_n, :4, j, i], truth, best_n, (i, j), head, is_alexeyab, output)
    delta[mask_n, 4, j, i] = (head.obj_normalizer if is_alexeyab else 1) * (1 - output[mask_n, 4, j, i])
    smooth = head.label_smooth_eps if is_alexeyab else 0.0
    delta_yolo_class(output[mask_n, 5:, j, i], delta[mask_n, 5:, j, i], label, smooth)


def delta_yolo_box(
    x: np.ndarray,
    delta: np.ndarray,
    truth: Box,
    n: int,
    cell: tuple[int, int],
    head: YoloHead,
    is_alexeyab: bool,
    output: np.ndarray,
) -> None:
    height, width = output.shape[2:]
    scale = 2 - truth[2] * truth[3]
    tx = truth[0] * width - cell[0]
    ty = truth[1] * height - cell[1]
    tw = math.log(truth[2] * head.network_width / head.anchors[n][0])
    th = math.log(truth[3] * head.network_height / head.anchors[n][1])
    for k, t in enumerate((tx, ty, tw, th)):
        if is_alexeyab:
            delta[k] += scale * (t - x[k]) * head.iou_normalizer
        else:
            delta[k] = scale * (t - x[k])


def delta_yolo_class(output: np.ndarray, delta: np.ndarray, class_id: int, label_smooth_eps: float) -> None:
    if delta[class_id] != 0:
        delta[class_id] = (1 - label_smooth_eps) + 0.5 * label_smooth_eps - output[class_id]
        return
    for n in range(len(output)):
        y_true = 1.0 if n == class_id else 0.0
        delta[n] = y_true * (1 - label_smooth_eps) + 0.5 * label_smooth_eps - output[n]
