"""Boxes move exactly with the pixels, colours change as in Darknet, and the same generator gives the same batch."""

import colorsys

import numpy as np
import pytest
import torch

from pipeline.experiment import Augment
from pipeline.train.augment import augment, distort_colours, draw_views, sources

PLAIN = Augment(jitter=0, flip=False, hue=0, saturation=1, exposure=1)


def _batch(count: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """White rectangles on black, 128 x 96, and their boxes."""
    rng = np.random.default_rng(0)
    images = torch.zeros((count, 3, 96, 128), dtype=torch.uint8)
    truth = torch.zeros((count, 3, 5))
    for index in range(count):
        x0, y0 = rng.integers(20, 60), rng.integers(15, 45)
        x1, y1 = x0 + rng.integers(15, 45), y0 + rng.integers(15, 35)
        images[index, :, y0:y1, x0:x1] = 255
        truth[index, 1] = torch.tensor([(x0 + x1) / 256, (y0 + y1) / 192, (x1 - x0) / 128, (y1 - y0) / 96, 0])
    return images, truth


def _augmented(
    images: torch.Tensor, truth: torch.Tensor, options: Augment, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A view of every picture of the batch."""
    views = draw_views(options, len(images), torch.Generator().manual_seed(seed))
    chosen = sources(torch.arange(len(images)), views, options)
    return augment(images[chosen], truth[chosen], views[chosen], options)


def _hull(image: torch.Tensor) -> np.ndarray:
    ys, xs = np.nonzero(image[0].numpy() > 0.75)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])


def test_boxes_move_with_the_pixels():
    images, truth = _batch()
    options = PLAIN.model_copy(update={"jitter": 0.3, "flip": True})
    moved, boxes = _augmented(images, truth, options, 1)
    for image, row in zip(moved, boxes[:, 1].numpy(), strict=True):
        size = np.array([128, 96, 128, 96])
        box = np.array([row[0] - row[2] / 2, row[1] - row[3] / 2, row[0] + row[2] / 2, row[1] + row[3] / 2]) * size
        assert np.abs(_hull(image) - box).max() < 1.6


def test_some_are_flipped_and_all_sizes_differ():
    images, truth = _batch()
    _, boxes = _augmented(images, truth, Augment(), 1)
    assert len({round(float(width), 5) for width in boxes[:, 1, 2]}) > 25
    options = PLAIN.model_copy(update={"flip": True})
    _, boxes = _augmented(images, truth, options, 1)
    is_flipped = torch.isclose(boxes[:, 1, 0], 1 - truth[:, 1, 0], atol=1e-6)
    is_same = torch.isclose(boxes[:, 1, 0], truth[:, 1, 0], atol=1e-6)
    assert bool((is_flipped | is_same).all())
    assert 8 < int(is_flipped.sum()) < 24


def test_padding_rows_stay_empty_and_lost_boxes_become_padding():
    images, truth = _batch(4)
    truth[:, 2] = torch.tensor([0.002, 0.5, 0.004, 0.5, 0])  # a sliver at the left edge
    _, boxes = _augmented(images, truth, Augment(jitter=0.4, flip=False), 3)
    assert bool((boxes[:, 0] == 0).all())
    gone = boxes[:, 2, 2] == 0
    assert 0 < int(gone.sum()) < 4 or bool(gone.any())
    assert bool((boxes[..., :4] >= 0).all())
    assert bool((boxes[..., :4] <= 1).all())


def test_no_options_change_nothing():
    images, truth = _batch(2)
    same, boxes = _augmented(images, truth, PLAIN, 0)
    assert torch.equal(same, images.float() / 255)
    assert torch.equal(boxes, truth)


def test_same_generator_gives_the_same_batch():
    images, truth = _batch(4)
    first, second = (_augmented(images, truth, Augment(), 7) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize(("hue", "saturation", "exposure"), [(0.1, 1.0, 1.0), (-0.07, 1.4, 0.8), (0.0, 0.6, 1.5)])
def test_colours_are_distorted_as_in_hsv(hue, saturation, exposure):
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 1, (50, 3))
    image = torch.tensor(pixels.T.reshape(1, 3, 5, 10), dtype=torch.float32)
    one = torch.ones(1)
    result = distort_colours(image, hue * one, saturation * one, exposure * one).numpy().reshape(3, 50).T
    for before, after in zip(pixels, result, strict=True):
        h, s, v = colorsys.rgb_to_hsv(*before)
        expected = colorsys.hsv_to_rgb((h + hue) % 1, min(1, s * saturation), min(1, v * exposure))
        assert np.abs(after - np.array(expected)).max() < 1e-5


@pytest.mark.parametrize("options", [PLAIN, PLAIN.model_copy(update={"jitter": 0.2, "flip": True})])
def test_boxes_of_a_mosaic_cover_what_is_seen_of_each_part(options):
    images, truth = _batch()
    pictures, boxes = _augmented(images, truth, options.model_copy(update={"mosaic": 1.0}), 2)
    assert boxes.shape == (32, 12, 5)
    parts = 0
    for picture, rows in zip(pictures, boxes.numpy(), strict=True):
        covered = np.zeros((96, 128), bool)
        for cx, cy, width, height, _ in rows[rows[:, 2] > 0]:
            corners = np.array(
                [(cx - width / 2) * 128, (cy - height / 2) * 96, (cx + width / 2) * 128, (cy + height / 2) * 96]
            )
            x0, y0, x1, y1 = corners.round().astype(int)
            covered[y0:y1, x0:x1] = True
            parts += 1
        seen = picture[0].numpy() > 0.75
        assert (covered & seen).sum() >= 0.85 * (covered | seen).sum()
    assert parts > 40


def test_share_of_mosaics_is_as_asked():
    images, truth = _batch(32)
    pictures, _ = _augmented(images, truth, PLAIN.model_copy(update={"mosaic": 0.5}), 4)
    unchanged = sum(torch.equal(picture, image.float() / 255) for picture, image in zip(pictures, images, strict=True))
    assert 8 <= unchanged <= 24
