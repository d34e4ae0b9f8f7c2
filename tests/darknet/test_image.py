"""Darknet's resize against a loop over pixels as image.c resize_image has it."""

import numpy as np
import pytest

from pipeline.darknet.image import resize_like_darknet


def _random_photo(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def _resize_loop(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The two passes of resize_image: first along the rows, then down the columns."""
    rows, columns = image.shape[:2]
    pixels = image.astype(np.float64) / 255
    part = np.empty((rows, width, 3))
    for c in range(width):
        place = c * (columns - 1) / (width - 1)
        left = int(place)
        last = c == width - 1 or columns == 1
        part[:, c] = (
            pixels[:, -1] if last else (1 - place + left) * pixels[:, left] + (place - left) * pixels[:, left + 1]
        )
    result = np.empty((height, width, 3))
    for r in range(height):
        place = r * (rows - 1) / (height - 1)
        top = int(place)
        result[r] = (1 - place + top) * part[top]
        if r < height - 1 and rows > 1:
            result[r] += (place - top) * part[top + 1]
    return result


@pytest.mark.parametrize(("width", "height"), [(7, 5), (13, 17), (40, 3), (1, 1), (2, 1)])
def test_resize_is_darknets(width: int, height: int) -> None:
    image = _random_photo(width, height)
    found = resize_like_darknet(image, 12, 9)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, _resize_loop(image, 12, 9), rtol=0, atol=1e-6)


def test_same_size_changes_nothing() -> None:
    image = _random_photo(6, 4)
    np.testing.assert_allclose(resize_like_darknet(image, 6, 4), image / 255, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("width", "height", "inner"),
    [(20, 10, (slice(3, 9), slice(0, 12))), (7, 15, (slice(0, 12), slice(3, 8))), (9, 9, (slice(0, 12), slice(0, 12)))],
)
def test_letterbox_keeps_the_aspect_ratio_on_grey(width: int, height: int, inner: tuple[slice, slice]) -> None:
    image = _random_photo(width, height)
    found = resize_like_darknet(image, 12, 12, letterbox=True)
    size = inner[1].stop - inner[1].start, inner[0].stop - inner[0].start
    np.testing.assert_array_equal(found[inner], resize_like_darknet(image, *size))
    found[inner] = 0.5
    assert (found == 0.5).all()
