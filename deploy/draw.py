"""Draws detections on a copy of a frame, for people to look at."""

from typing import Sequence, Tuple

import cv2
import numpy as np

from deploy.frame import Detections, Frame

# Okabe and Ito's colours, which colour-blind people can tell apart. BGR.
_COLOURS = ((0, 159, 230), (233, 180, 86), (115, 158, 0), (66, 228, 240), (178, 114, 0), (0, 94, 213), (167, 121, 204))


def draw(frame: Frame, detections: Detections, classes: Sequence[str], caption: str) -> np.ndarray:
    """Return (H, W, 3) uint8 BGR: the frame with boxes, class names and scores, and `caption` in a corner."""
    image = frame.image.copy()
    scale = max(0.35, min(image.shape[:2]) / 900.0)
    thick = max(1, round(scale * 2))
    for box, score, index in zip(detections.boxes, detections.scores, detections.classes):
        colour = _COLOURS[int(index) % len(_COLOURS)]
        left, top, right, bottom = (int(value + 0.5) for value in box)
        cv2.rectangle(image, (left, top), (right, bottom), colour, thick, cv2.LINE_AA)
        _write(image, "{} {:.2f}".format(classes[int(index)], score), (left, top - 2), scale, colour)
    _write(image, caption, (3, image.shape[0] - 3), scale, (255, 255, 255))
    return image


def _write(
    image: np.ndarray, text: str, corner: Tuple[int, int], scale: float, background: Tuple[int, int, int]
) -> None:
    """Write dark text on a filled box whose lower left corner is at `corner`, moved inside the picture."""
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    left = max(0, min(corner[0], image.shape[1] - width))
    base = max(height + 1, min(corner[1], image.shape[0] - below))
    cv2.rectangle(image, (left, base - height - 1), (left + width, base + below - 1), background, cv2.FILLED)
    cv2.putText(image, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 20), 1, cv2.LINE_AA)
