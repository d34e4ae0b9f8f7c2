"""The resize: where a picture lies in the network's input, in both modes, and the way back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.errors import UserError
from deploy.resize import RESIZE_MODES, boxes_to_network, boxes_to_source, network_input, place, resize_image, to_tensor

SIZES = st.integers(16, 900)


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, st.sampled_from(RESIZE_MODES))
def test_boxes_survive_the_way_there_and_back(width, height, mode):
    placement = place(width, height, 416, 320, mode)
    boxes = np.array([[0, 0, width, height], [width / 4, height / 3, width / 2, height / 2]], np.float32)
    moved = boxes_to_network(boxes, placement)
    assert moved.min() >= -1e-3
    assert moved[:, 2].max() <= 416 + 1e-3
    assert moved[:, 3].max() <= 320 + 1e-3
    assert np.allclose(boxes_to_source(moved, placement), boxes, atol=1e-2)


@pytest.mark.parametrize(("width", "height"), [(640, 320), (320, 640), (100, 100)])
def test_letterbox_keeps_the_aspect_and_is_centred(width, height):
    image = np.full((height, width, 3), 255, np.uint8)
    resized, placement = resize_image(image, 64, 64, "letterbox")
    is_picture = resized[:, :, 0] == 255
    ys, xs = np.nonzero(is_picture)
    assert abs((xs.max() + 1 - xs.min()) / (ys.max() + 1 - ys.min()) - width / height) < 0.05
    assert (xs.min(), ys.min()) == (placement.left, placement.top) == (63 - xs.max(), 63 - ys.max())
    assert (resized[~is_picture] == 127).all()


def test_stretch_fills_the_input():
    resized, _ = resize_image(np.full((30, 70, 3), 9, np.uint8), 64, 32, "stretch")
    assert resized.shape == (32, 64, 3)
    assert (resized == 9).all()


def test_tensor_is_planar_rgb_from_zero_to_one():
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 1] = (255, 51, 0)
    tensor = to_tensor(image)
    assert tensor.shape == (1, 3, 2, 3)
    assert tensor.dtype == np.float32
    assert tensor[0, :, 0, 1] == pytest.approx([1, 0.2, 0])
    assert tensor.flags.c_contiguous


@pytest.mark.parametrize(("image_order", "tensor_order"), [("bgr", "rgb"), ("rgb", "bgr"), ("bgr", "bgr")])
def test_colours_are_turned_when_the_planes_are_filled(image_order, tensor_order):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    turned = image if image_order == tensor_order else np.ascontiguousarray(image[:, :, ::-1])
    out = np.empty((1, 3, 5, 7), np.float32)
    assert to_tensor(image, out, image_order, tensor_order) is out
    assert np.array_equal(out, to_tensor(turned))


def test_every_value_is_divided_as_in_training():
    """To the last bit; a product with 1 / 255 would be rounded otherwise."""
    import torch

    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    expected = (torch.arange(256, dtype=torch.uint8).float() / 255).numpy()
    assert np.array_equal(to_tensor(image)[0, 1].ravel(), expected)


def test_a_frame_becomes_the_input_that_its_picture_would_be():
    frame = np.random.default_rng(1).integers(0, 256, (40, 90, 3), np.uint8)
    for mode in RESIZE_MODES:
        picture, placement = resize_image(np.ascontiguousarray(frame[:, :, ::-1]), 64, 32, mode)
        tensor, placed = network_input(frame, 64, 32, mode, "rgb")
        assert placed == placement
        assert np.array_equal(tensor, to_tensor(picture))


def test_boxes_are_clipped_to_the_picture():
    placement = place(100, 50, 64, 64, "stretch")
    assert boxes_to_source(np.array([[-10, -10, 99, 99]], np.float32), placement).tolist() == [[0, 0, 100, 50]]


def test_unknown_mode_is_refused():
    with pytest.raises(UserError, match="'crop'; allowed: stretch, letterbox"):
        place(10, 10, 32, 32, "crop")
