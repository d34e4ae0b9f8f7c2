from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.curate.pixels import edge_support, photo_scores
from pipeline.photos import read_rgb

BOX = np.array([[0.25, 0.25, 0.75, 0.75]])


@pytest.fixture
def photo() -> np.ndarray:
    """A grey wall with some noise and one dark window, 100 to 300 of 400 pixels each way."""
    random = np.random.default_rng(3)
    wall = random.normal(150, 6, (400, 400, 1)).repeat(3, axis=2)
    wall[100:300, 100:300] -= 90
    return wall.clip(0, 255).astype(np.uint8)


def test_sides_on_an_edge_are_supported_and_a_shifted_side_is_not(photo: np.ndarray) -> None:
    assert edge_support(photo, BOX).min() > 0.95
    shifted = BOX + np.array([0.1, 0, 0.1, 0])  # a fifth of the box to the right
    left, top, right, bottom = edge_support(photo, shifted)[0]
    assert max(left, right) < 0.3
    assert min(top, bottom) > 0.9


def test_an_edge_in_colour_alone_counts() -> None:
    photo = np.full((400, 400, 3), (130, 130, 130), dtype=np.uint8)
    photo[100:300, 100:300] = (150, 120, 130)  # its luma is that of the wall
    assert abs(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(int) - 130).max() <= 1
    assert edge_support(photo, BOX).min() > 0.95


def test_sides_on_the_border_of_the_photo_are_not_judged(photo: np.ndarray) -> None:
    support = edge_support(photo, np.array([[0.0, 0.25, 1.0, 0.75]]))[0]
    assert np.isnan(support).tolist() == [True, False, True, False]


def test_boxes_of_no_size_and_outside_are_survived(photo: np.ndarray) -> None:
    boxes = np.array([[0.5, 0.5, 0.5, 0.5], [0.999, 0.999, 1, 1], [0.5, 0.2, 0.5001, 0.9]])
    assert edge_support(photo, boxes).shape == (3, 4)
    assert photo_scores(photo, np.empty((0, 4))).edge_support.shape == (0, 4)


def _blurred(photo: np.ndarray) -> Iterator[np.ndarray]:
    yield photo
    for sigma in (1, 2, 4):
        yield cv2.GaussianBlur(photo, (0, 0), sigma)


def test_blur_grows_with_blurring(photo: np.ndarray) -> None:
    values = [photo_scores(image, BOX).blur for image in _blurred(photo)]
    assert values == sorted(values)
    assert values[-1] - values[0] > 0.2
    assert photo_scores(np.zeros((300, 300, 3), np.uint8), BOX).blur == 1


def test_exposure_is_mean_luma_and_the_share_of_black_and_white() -> None:
    photo = np.full((100, 100, 3), 128, dtype=np.uint8)
    photo[:10], photo[10:30] = 0, 255
    scores = photo_scores(photo, BOX)
    assert scores.clipped_share == pytest.approx(0.3)
    assert scores.brightness == pytest.approx((0.2 * 255 + 0.7 * 128) / 255, abs=0.01)


def test_facades_that_were_blurred_are_told_from_all_others(facades: Path) -> None:
    """The sharpest of the blurred photos is more blurred than the softest of forty others."""
    lines = (facades / "truth" / "defects.csv").read_text().split()[1:]
    defects = dict(line.split(",") for line in lines)
    ids = sorted(path.stem for path in (facades / "data").iterdir())

    def blur(image_id: str) -> float:
        return photo_scores(read_rgb(facades / "data" / f"{image_id}.jpg"), BOX).blur

    blurred = [blur(name) for name in ids if defects.get(name) == "blurred"][:20]
    others = [blur(name) for name in [name for name in ids if name not in defects][:40]]
    assert min(blurred) > max(others)
