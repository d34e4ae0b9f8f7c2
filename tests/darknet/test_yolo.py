"""The yolo layer against plain loops that follow yolo_layer.c, for both forks; and what it refuses to train."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from yolo_layer_c import forward_yolo_layer, get_yolo_box, layer_output

from pipeline.darknet.yolo import Flavour, YoloHead, cost, decode, delta, require_trainable
from pipeline.errors import UserError

HEIGHT, WIDTH, CLASSES, TRUTHS = 3, 4, 3, 6
HEAD = YoloHead(
    anchors=((10, 14), (23, 27), (37, 58), (81, 82)),
    mask=(1, 2, 3),
    classes=CLASSES,
    network_width=32 * WIDTH,
    network_height=32 * HEIGHT,
    ignore_thresh=0.4,
    iou_normalizer=0.75,
    obj_normalizer=0.6,
    label_smooth_eps=0.0,
)
FLAVOURS: tuple[Flavour, ...] = ("alexeyab", "original")
# Few places and sizes, so that truths meet in one cell and predictions are near them.
TRUTH = st.tuples(
    st.sampled_from([0.13, 0.14, 0.4, 0.9]),
    st.sampled_from([0.1, 0.5, 0.52, 0.97]),
    st.sampled_from([0.06, 0.2, 0.3, 0.66]),
    st.sampled_from([0.11, 0.3, 0.58, 0.9]),
    st.sampled_from([0, 1, 2, 0, 1, 2, -1, CLASSES, 77]),
)
IMAGE_TRUTHS = st.lists(TRUTH, max_size=TRUTHS)


def _truth(images: list[list[tuple[float, float, float, float, int]]]) -> Tensor:
    """(batch, TRUTHS, 5), padded with zeros."""
    result = torch.zeros(len(images), TRUTHS, 5)
    for image, rows in enumerate(images):
        for slot, row in enumerate(rows):
            result[image, slot] = torch.tensor(row)
    return result


def _raw(batch: int, seed: int, spread: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(batch, len(HEAD.mask) * (5 + CLASSES), HEIGHT, WIDTH, generator=generator)


def _assert_is_darknets(raw: Tensor, truth: Tensor, head: YoloHead, flavour: Flavour) -> None:
    found = delta(raw, truth, head, flavour).view(len(raw), len(head.mask), -1, HEIGHT, WIDTH)
    for image in range(len(raw)):
        expected = forward_yolo_layer(raw[image].numpy(), truth[image].numpy(), head, flavour == "alexeyab")
        np.testing.assert_allclose(found[image].numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("flavour", FLAVOURS)
@given(
    images=st.lists(IMAGE_TRUTHS, min_size=1, max_size=2),
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.1, 1.0, 3.0]),
    scale_x_y=st.sampled_from([1.0, 1.05]),
)
@settings(max_examples=60, deadline=None)
def test_delta_is_what_the_c_code_computes(
    flavour: Flavour,
    images: list[list[tuple[float, float, float, float, int]]],
    seed: int,
    spread: float,
    scale_x_y: float,
) -> None:
    _assert_is_darknets(_raw(len(images), seed, spread), _truth(images), replace(HEAD, scale_x_y=scale_x_y), flavour)


def test_delta_with_smoothed_labels_is_what_the_c_code_computes() -> None:
    truth = _truth([[(0.4, 0.5, 0.2, 0.3, 1), (0.4, 0.5, 0.2, 0.3, 2)]])
    _assert_is_darknets(_raw(1, 0, 1.0), truth, replace(HEAD, label_smooth_eps=0.1), "alexeyab")


TWO_IN_ONE_CELL = [(0.40, 0.5, 0.2, 0.3, 0), (0.42, 0.52, 0.22, 0.3, 2)]


def test_several_truths_in_one_cell_add_up_in_alexeyabs_and_the_last_wins_in_the_original() -> None:
    raw = _raw(1, 0, 1.0)
    first, last, both = (
        {
            flavour: delta(raw, _truth([rows]), HEAD, flavour).view(3, 8, HEIGHT, WIDTH)[0, :4, 1, 1]
            for flavour in FLAVOURS
        }
        for rows in ([TWO_IN_ONE_CELL[0]], [TWO_IN_ONE_CELL[1]], TWO_IN_ONE_CELL)
    )
    assert first["alexeyab"].abs().min() > 0
    torch.testing.assert_close(both["alexeyab"], first["alexeyab"] + last["alexeyab"])
    torch.testing.assert_close(both["original"], last["original"])


def test_all_classes_of_a_cells_truths_are_pushed_to_one() -> None:
    classes = delta(_raw(1, 0, 1.0), _truth([TWO_IN_ONE_CELL]), HEAD).view(3, 8, HEIGHT, WIDTH)[0, 5:, 1, 1]
    assert (classes > 0).tolist() == [True, False, True]


def test_good_box_unsure_of_every_class_is_ignored_by_the_original_alone() -> None:
    raw = torch.zeros(1, 24, HEIGHT, WIDTH)
    # Between the middles of two cells: the neighbour of the truth's own cell predicts it well too.
    truth = _truth([[(0.49, 0.5, 81 / 128, 82 / 96, 0)]])
    neighbour = (0, 2, 4, 1, 2)
    values = raw.view(1, 3, 8, HEIGHT, WIDTH)
    for class_logit, is_ignored in (  # class scores of 0.23 and 0.27: the limit is 0.25
        (-1.2, {"alexeyab": False, "original": True}),
        (-1.0, dict.fromkeys(FLAVOURS, True)),
    ):
        values[:, :, 5:] = class_logit
        for flavour in FLAVOURS:
            objectness = delta(raw, truth, HEAD, flavour).view(values.shape)[neighbour]
            assert (objectness == 0) == is_ignored[flavour], (class_logit, flavour)


def test_image_without_truths_only_lowers_objectness() -> None:
    for truth in (torch.zeros(1, 0, 5), torch.zeros(1, TRUTHS, 5)):
        found = delta(_raw(1, 0, 1.0), truth, HEAD).view(3, 8, HEIGHT, WIDTH)
        assert (found[:, 4] < 0).all()
        assert not found[:, [0, 1, 2, 3, 5, 6, 7]].any()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_cost_is_the_sum_of_squared_deltas_and_its_gradient_is_minus_delta(flavour: Flavour) -> None:
    raw, truth = _raw(2, 0, 1.0).requires_grad_(), _truth([TWO_IN_ONE_CELL, []])
    expected = delta(raw, truth, HEAD, flavour)
    value = cost(raw, truth, HEAD, flavour)
    torch.testing.assert_close(value, expected.square().sum())
    (value / 2).backward()
    torch.testing.assert_close(raw.grad, -expected / 2)


@pytest.mark.parametrize("scale_x_y", [1.0, 1.2])
def test_decode_gives_darknets_boxes_in_pixels(scale_x_y: float) -> None:
    head = replace(HEAD, scale_x_y=scale_x_y)
    raw = _raw(1, 0, 1.0)
    boxes, scores = (values[0].view(3, HEIGHT, WIDTH, -1).numpy() for values in decode(raw, head))
    output = layer_output(raw[0].numpy(), head)
    for n, j, i in np.ndindex(3, HEIGHT, WIDTH):
        x, y, w, h = get_yolo_box(output, head, n, j, i)
        expected = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        pixels = expected * np.tile([head.network_width, head.network_height], 2)
        np.testing.assert_allclose(boxes[n, j, i], pixels, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(scores[n, j, i], output[n, 4, j, i] * output[n, 5:, j, i], rtol=1e-5)


@pytest.mark.parametrize(
    ("head", "remedy"),
    [
        (replace(HEAD, iou_loss="ciou"), "use iou_loss=mse"),
        (replace(HEAD, truth_thresh=0.7), "use truth_thresh=1"),
        (replace(HEAD, iou_thresh=0.2), "use iou_thresh=1"),
        (replace(HEAD, focal_loss=True), "use focal_loss=0"),
        (replace(HEAD, objectness_smooth=True), "use objectness_smooth=0"),
        (replace(HEAD, new_coords=True), "without new_coords"),
        (replace(HEAD, has_class_weights=True), "use a cfg without it"),
        (replace(HEAD, max_delta=5.0), "without max_delta"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_loss_that_is_not_implemented_is_refused(head: YoloHead, remedy: str) -> None:
    require_trainable(HEAD)
    with pytest.raises(UserError, match=remedy):
        require_trainable(head)
