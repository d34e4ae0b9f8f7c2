"""Scores of a photo and of its boxes from pixels alone: blur, exposure, and how well boxes sit on edges.

It needs no trained network, and knows nothing about thresholds or rules.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["SIDES", "PhotoScores", "edge_support", "photo_scores"]

SIDES = ("left", "top", "right", "bottom")
_LONGEST = 1024  # pixels: a larger photo is reduced first, since no box limit is finer than a network's input
_BLACK, _WHITE = 4, 251  # of 255, with room for what JPEG adds
_TOLERANCE = 0.06  # of the box: how far off an annotator's side may be, which is IoU 0.8 when all sides are
_REACH = 0.45  # of the box: where an edge that belongs to this side may be looked for; less than to the opposite side
_INNER = 0.8  # of a side: corners hold the edges of the neighbouring sides


@dataclass(frozen=True)
class PhotoScores:
    """What the pixels say.

    blur: 0 sharp to 1, as in Crété-Roffet and others, The Blur Effect, 2007. brightness: mean luma, 0 to 1.
    clipped_share: of the pixels, those that are black or white. edge_support: (N, 4) float64, columns as in SIDES, 0
    to 1; NaN for a side on the border of the photo, where no edge can be.
    """

    blur: float
    brightness: float
    clipped_share: float
    edge_support: np.ndarray


def photo_scores(photo: np.ndarray, boxes: np.ndarray) -> PhotoScores:
    """Score a photo, (H, W, 3) uint8 RGB, and boxes, (N, 4) float64 xyxy as fractions of it."""
    import cv2
    from skimage.measure import blur_effect

    scale = _LONGEST / max(photo.shape[:2])
    if scale < 1:
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    luma = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    return PhotoScores(
        blur=_blur(luma, blur_effect),
        brightness=float(luma.mean()) / 255,
        clipped_share=float(((luma <= _BLACK) | (luma >= _WHITE)).mean()),
        edge_support=edge_support(photo, boxes),
    )


def _blur(luma: np.ndarray, blur_effect) -> float:  # type: ignore[no-untyped-def]
    """1 for a photo of a single colour or of a few pixels, where there is nothing to be sharp."""
    if min(luma.shape) < 16 or luma.min() == luma.max():
        return 1.0
    return float(blur_effect(luma))


def edge_support(photo: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """How much of the strongest edge near each side of each box lies at the side: (N, 4) float64, 0 to 1.

    photo: (H, W, 3) uint8. boxes: (N, 4) xyxy as fractions of it.

    The gradient across a side is averaged along it, which a straight edge survives and clutter does not. Its largest
    value within 6 % of the box's extent from the side is compared with that within 45 %: 1 says that the box ends at
    the strongest edge around, a small value that a stronger edge lies elsewhere, as when a box is shifted. The largest
    over the colour channels is taken, since some frames differ from their walls in colour alone.
    """
    across, down = _gradients(photo)
    height, width = across.shape
    found = np.full((len(boxes), 4), np.nan)
    for row, (left, top, right, bottom) in enumerate(boxes * [width, height, width, height]):
        found[row, 0] = _support(across, left, top, bottom, right - left)
        found[row, 1] = _support(down, top, left, right, bottom - top)
        found[row, 2] = _support(across, right, top, bottom, right - left)
        found[row, 3] = _support(down, bottom, left, right, bottom - top)
    return found


def _gradients(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Size of the gradient along x, and that along y transposed, so that both have their side as a column."""
    import cv2

    smooth = cv2.GaussianBlur(photo, (0, 0), 1.0).astype(np.float32)
    across = np.abs(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3)).max(axis=2)
    down = np.abs(cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3)).max(axis=2)
    return across, np.ascontiguousarray(down.T)


def _support(gradient: np.ndarray, place: float, start: float, stop: float, extent: float) -> float:
    """Support of the side at column `place` between rows `start` and `stop` of a box `extent` wide; pixels."""
    limit = gradient.shape[1]
    if place < 3 or place > limit - 3:
        return np.nan
    tolerance, reach = max(2.0, _TOLERANCE * extent), max(4.0, _REACH * extent)
    margin = (1 - _INNER) / 2 * (stop - start)
    first, last = max(int(start + margin), 0), int(np.ceil(stop - margin)) + 1
    low, high = int(max(0, place - reach)), int(min(limit, place + reach + 1))
    profile = gradient[first:last, low:high]
    if not profile.size:
        return np.nan
    profile = profile.mean(axis=0)
    near = np.abs(np.arange(low, high) + 0.5 - place) <= tolerance
    strongest = profile.max()
    return float(profile[near].max(initial=0) / strongest) if strongest > 0 else 0.0
