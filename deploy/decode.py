"""From the network's two outputs to detections in the source image; the graph itself has decoded the boxes."""

from typing import Tuple

import numpy as np

from deploy.frame import Detections
from deploy.nms import nms
from deploy.resize import Placement, boxes_to_source


def select(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take every pair of box and class that scores above `threshold`; one box may give several classes, as in Darknet.

    boxes: (M, 4) float32 xyxy. scores: (M, classes) float32. A box or score that is not finite is never taken: the
    exponential of a box's size may overflow, the more so in half precision.
    Returns boxes (K, 4), scores (K,), classes (K,) int64, in the network's order.
    """
    places = np.flatnonzero(scores > threshold)
    rows, classes = np.divmod(places, scores.shape[1])
    found, values = boxes[rows], scores[rows, classes]
    is_finite = np.isfinite(found).all(axis=1) & np.isfinite(values)
    return found[is_finite], values[is_finite], classes[is_finite].astype(np.int64)


def detections_from_network(
    boxes: np.ndarray, scores: np.ndarray, threshold: float, nms_threshold: float, placement: Placement
) -> Detections:
    """Select, suppress and move to pixels of the source image.

    boxes: (M, 4) float32, xyxy, pixels of the network's input. scores: (M, classes) float32, 0 to 1.
    """
    boxes, values, classes = select(boxes, scores, threshold)
    kept = nms(boxes, values, classes, nms_threshold)
    return Detections(boxes_to_source(boxes[kept], placement), values[kept].astype(np.float32), classes[kept])
