"""Darknet's own resize, for comparing with numbers that Darknet prints; nothing is trained or flown with it."""

import numpy as np

__all__ = ["resize_like_darknet"]


def resize_like_darknet(image: np.ndarray, width: int, height: int, letterbox: bool = False) -> np.ndarray:
    """Resize an image as image.c resize_image does: bilinear, corner pixel on corner pixel.

    A target pixel reads the source at target * (source size - 1) / (target size - 1). deploy/resize.py (cv2.resize,
    which aligns the images' edges instead) is what is trained and flown; on yolo-fastest the two differ by up to 0.03
    in score.

    Args:
        image: (H, W, 3) uint8 RGB.
        width, height: of the result, in pixels.
        letterbox: keep the aspect ratio and fill the rest with 0.5, as letterbox_image does.

    Returns:
        (height, width, 3) float32 RGB, 0 to 1.

    >>> resize_like_darknet(np.array([[[0] * 3, [255] * 3]], np.uint8), 3, 1)[0, :, 0].tolist()
    [0.0, 0.5, 1.0]
    """
    if letterbox:
        return _letterbox(image, width, height)
    pixels = image.astype(np.float64) / 255
    return _interpolate(_interpolate(pixels, width, axis=1), height, axis=0).astype(np.float32)


def _letterbox(image: np.ndarray, width: int, height: int) -> np.ndarray:
    rows, columns = image.shape[:2]
    is_wide = width * rows < height * columns
    inner_width = width if is_wide else columns * height // rows
    inner_height = rows * width // columns if is_wide else height
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    result = np.full((height, width, 3), 0.5, np.float32)
    result[top : top + inner_height, left : left + inner_width] = resize_like_darknet(image, inner_width, inner_height)
    return result


def _interpolate(pixels: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Resample one axis to `size` places from the first pixel to the last."""
    last = pixels.shape[axis] - 1
    places = np.linspace(0, last, size)
    before = np.minimum(places.astype(np.int64), max(last - 1, 0))
    shape = [1] * pixels.ndim
    shape[axis] = size
    part = (places - before).reshape(shape)
    after = np.minimum(before + 1, last)
    return pixels.take(before, axis) * (1 - part) + pixels.take(after, axis) * part
