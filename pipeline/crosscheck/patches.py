"""Cuts what surrounds a box out of a photo, at one size for all boxes. It knows no network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.photos import read_rgb

__all__ = ["CONTEXT", "SIDE", "background_boxes", "cut_all", "cut_patches"]

SIDE = 96  # pixels of a patch
CONTEXT = 2.6  # a patch shows this many times the box's width and height, so that a moved window still lies inside


def cut_patches(path: Path, boxes: np.ndarray) -> np.ndarray:
    """Patches of the photo at `path` around `boxes`, (N, 4) xyxy as fractions: (N, 3, SIDE, SIDE) uint8 RGB.

    What lies outside the photo is grey.
    """
    import cv2

    photo = read_rgb(path)
    height, width = photo.shape[:2]
    found = np.empty((len(boxes), 3, SIDE, SIDE), dtype=np.uint8)
    blurred: dict[int, np.ndarray] = {}
    for row, (x1, y1, x2, y2) in enumerate(boxes * [width, height, width, height]):
        step_x, step_y = (x2 - x1) * CONTEXT / SIDE, (y2 - y1) * CONTEXT / SIDE
        left, top = (x1 + x2) / 2 - step_x * SIDE / 2, (y1 + y2) / 2 - step_y * SIDE / 2
        matrix = np.array([[step_x, 0, left], [0, step_y, top]], dtype=np.float32)
        octave = max(0, int(np.log2(max(step_x, step_y, 1e-6)) + 0.5))  # reducing without blur would alias
        if octave not in blurred:
            blurred[octave] = cv2.GaussianBlur(photo, (0, 0), 0.5 * 2**octave) if octave else photo
        patch = cv2.warpAffine(
            blurred[octave],
            matrix,
            (SIDE, SIDE),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(127, 127, 127),
        )
        found[row] = patch.transpose(2, 0, 1)
    return found


def background_boxes(boxes: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Up to `count` boxes of the sizes of `boxes`, (N, 4), that hold next to nothing of any of them: (n, 4) float64."""
    found: list[np.ndarray] = []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    for _ in range(40 * count):
        if len(found) == count:
            break
        like = boxes[random.integers(len(boxes))]
        side = np.minimum((like[2:] - like[:2]) * np.exp(random.uniform(-0.4, 0.4)), 0.95)
        corner = random.uniform(0, 1 - side)
        box = np.concatenate([corner, corner + side])
        shared = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None).prod(axis=1)
        if (shared / np.minimum(areas, side.prod())).max() < 0.15:
            found.append(box)
    return np.array(found).reshape(-1, 4)


def cut_all(paths: Sequence[Path], boxes: Sequence[np.ndarray]) -> np.ndarray:
    """Patches of many photos in order: (sum of N, 3, SIDE, SIDE) uint8 RGB."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        parts = list(pool.map(cut_patches, paths, boxes))
    return np.concatenate(parts) if parts else np.empty((0, 3, SIDE, SIDE), dtype=np.uint8)
