"""The yolo layer: decode and loss exactly as Darknet computes them, in batches, on any device, without loops.

Darknet does not differentiate a loss: yolo_layer.c writes a `delta` per value of the raw output, which is minus the
gradient. `cost` returns what Darknet prints (the sum of the squared deltas) and hands those deltas to autograd.
Knows nothing about networks, files or images.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.tensors import constant

__all__ = ["Flavour", "YoloHead", "activate", "cost", "decode", "delta", "require_trainable"]

Flavour = Literal["alexeyab", "original"]

# AlexeyAB's yolo_layer.c passes 0.25 to compare_yolo_class: a cell is ignored only if it is sure of some class.
_IGNORE_CLASS_SCORE = 0.25


@dataclass(frozen=True)
class YoloHead:
    """Options of one `[yolo]` section; defaults are AlexeyAB's.

    Attributes:
        anchors: every (width, height) of the cfg, in pixels of the network input.
        mask: numbers of the anchors that this head predicts.
        network_width: of the input, in pixels; the unit of the anchors.
        where: "file:line: [yolo]", for messages.
    """

    anchors: tuple[tuple[float, float], ...]
    mask: tuple[int, ...]
    classes: int
    network_width: int
    network_height: int
    ignore_thresh: float = 0.5
    truth_thresh: float = 1.0
    scale_x_y: float = 1.0
    iou_normalizer: float = 0.75
    obj_normalizer: float = 1.0
    cls_normalizer: float = 1.0
    iou_loss: str = "mse"
    iou_thresh: float = 1.0
    label_smooth_eps: float = 0.0
    new_coords: bool = False
    focal_loss: bool = False
    objectness_smooth: bool = False
    max_delta: float = 3.4e38
    has_class_weights: bool = False
    where: str = "[yolo]"

    def all_anchors(self, like: Tensor) -> Tensor:
        """(anchors, 2) width and height relative to the network input, on the device of `like`."""
        return constant(self.anchors, like) / constant((self.network_width, self.network_height), like)

    def own_anchors(self, like: Tensor) -> Tensor:
        """(masks, 2) width and height relative to the network input, of the anchors in `mask`."""
        return constant(tuple(self.anchors[number] for number in self.mask), like) / constant(
            (self.network_width, self.network_height), like
        )


def activate(raw: Tensor, head: YoloHead) -> Tensor:
    """Apply the layer's activations, as `l.output` in Darknet.

    Args:
        raw: (batch, masks * (5 + classes), height, width), the output of the convolution before the layer.

    Returns:
        (batch, masks, 5 + classes, height, width) float32: x and y after the logistic (and scale_x_y), w and h raw,
        objectness and classes after the logistic.
    """
    batch, _, height, width = map(int, raw.shape)  # numbers, so that an export holds no Shape operator
    values = raw.float().view(batch, len(head.mask), 5 + head.classes, height, width)
    xy, wh, rest = values[:, :, :2], values[:, :, 2:4], values[:, :, 4:]
    if not head.new_coords:
        xy, rest = xy.sigmoid(), rest.sigmoid()
    if head.scale_x_y != 1.0:
        xy = xy * head.scale_x_y - 0.5 * (head.scale_x_y - 1)
    return torch.cat((xy, wh, rest), dim=2)


def _relative_boxes(output: Tensor, head: YoloHead) -> Tensor:
    """Boxes of every cell and anchor from `activate`'s output (Darknet's get_yolo_box).

    Returns:
        (batch, masks, height, width, 4) float32: centre x, centre y, width, height, relative to the network input.
    """
    height, width = map(int, output.shape[-2:])
    columns = torch.arange(width, device=output.device, dtype=output.dtype)
    rows = torch.arange(height, device=output.device, dtype=output.dtype)[:, None]
    anchors = head.own_anchors(output)[None, :, :, None, None]
    wh = output[:, :, 2:4]
    wh = (wh.square() * 4 if head.new_coords else wh.exp()) * anchors
    x = (output[:, :, 0] + columns) / width
    y = (output[:, :, 1] + rows) / height
    return torch.stack((x, y, wh[:, :, 0], wh[:, :, 1]), dim=-1)


def decode(raw: Tensor, head: YoloHead) -> tuple[Tensor, Tensor]:
    """Boxes and scores of every cell and anchor, nothing filtered.

    Args:
        raw: (batch, masks * (5 + classes), height, width).

    Returns:
        boxes (batch, masks * height * width, 4) float32, xyxy in pixels of the network input, not clipped;
        scores (batch, masks * height * width, classes) float32, objectness times class probability, 0 to 1.
    """
    output = activate(raw, head)
    batch = int(output.shape[0])
    boxes = _relative_boxes(output, head).reshape(batch, -1, 4)
    size = constant((head.network_width, head.network_height), boxes)
    centre, half = boxes[..., :2] * size, boxes[..., 2:] * size / 2
    scores = (output[:, :, 4:5] * output[:, :, 5:]).movedim(2, -1).reshape(batch, -1, head.classes)
    return torch.cat((centre - half, centre + half), dim=-1), scores


def require_trainable(head: YoloHead, flavour: Flavour = "alexeyab") -> None:
    """Refuse the options whose loss is not implemented, rather than train with another one."""
    unsupported = {
        f"iou_loss={head.iou_loss}": ("iou_loss=mse", head.iou_loss != "mse"),
        f"truth_thresh={head.truth_thresh}": ("truth_thresh=1", head.truth_thresh < 1),
        f"iou_thresh={head.iou_thresh}": ("iou_thresh=1", head.iou_thresh < 1),
        "focal_loss=1": ("focal_loss=0", head.focal_loss),
        "objectness_smooth=1": ("objectness_smooth=0", head.objectness_smooth),
        "new_coords=1": ("a cfg without new_coords", head.new_coords),
        "counters_per_class": ("a cfg without it", head.has_class_weights),
        f"max_delta={head.max_delta}": ("a cfg without max_delta", head.max_delta < 3e38),
        f"label_smooth_eps={head.label_smooth_eps}": (
            "label_smooth_eps=0",
            head.label_smooth_eps and flavour != "alexeyab",
        ),
    }
    for found, (remedy, is_used) in unsupported.items():
        if is_used:
            raise UserError(f"{head.where} {found}: training with it is not supported (running it is); use {remedy}")


@torch.no_grad()
def delta(raw: Tensor, truth: Tensor, head: YoloHead, flavour: Flavour = "alexeyab") -> Tensor:
    """Darknet's `l.delta`: minus the gradient with respect to `raw`, after forward_yolo_layer in training.

    Args:
        raw: (batch, masks * (5 + classes), height, width).
        truth: (batch, truths, 5) float32: centre x, centre y, width, height relative to the input, class. Rows with
            centre x = 0 are padding.
        flavour: "alexeyab", or "original" for pjreddie's layer: a cell is ignored by its IoU alone, of several truths
            in one cell the last counts, and there are no normalizers.

    Returns:
        Same shape as `raw`, float32.
    """
    output = activate(raw, head)
    is_alexeyab = flavour == "alexeyab"
    obj_normalizer = head.obj_normalizer if is_alexeyab else 1.0
    iou_normalizer = head.iou_normalizer if is_alexeyab else 1.0

    valid = (truth[..., 0] != 0) & (truth[..., 4] >= 0) & (truth[..., 4] < head.classes)
    values = output.movedim(2, -1)  # (batch, masks, height, width, 5 + classes)
    objectness, classes = values[..., 4], values[..., 5:]
    is_ignored = _best_iou(_relative_boxes(output, head), truth[..., :4], valid) > head.ignore_thresh
    if is_alexeyab:
        is_ignored &= classes.amax(dim=-1) > _IGNORE_CLASS_SCORE
    background = torch.where(is_ignored, 0, -obj_normalizer * objectness)

    cell, anchor = _cells(truth, valid, head, output.shape)
    is_object = _per_cell(torch.ones_like(truth[..., :1]), cell, values, "amax")[..., 0] > 0
    # Every class of the cell is pushed to 0, those of its truths to 1 (delta_yolo_class).
    label = truth[..., 4].long().clamp(0, head.classes - 1)
    is_class = _per_cell(torch.nn.functional.one_hot(label, head.classes).to(values), cell, values, "amax") > 0
    smooth = head.label_smooth_eps
    class_delta = torch.where(is_class, 1 - 0.5 * smooth, 0.5 * smooth) - classes
    counted = cell if is_alexeyab else _without_followed(cell, values)
    result = torch.cat(
        (
            _per_cell(_box_deltas(truth, anchor, cell, values, head, iou_normalizer), counted, values, "sum"),
            torch.where(is_object, obj_normalizer * (1 - objectness), background)[..., None],
            torch.where(is_object[..., None], class_delta, 0),
        ),
        dim=-1,
    )
    return result.movedim(-1, 2).reshape(raw.shape)


def cost(raw: Tensor, truth: Tensor, head: YoloHead, flavour: Flavour = "alexeyab") -> Tensor:
    """Darknet's cost of one yolo layer, summed over the batch: the sum of the squared deltas (yolo_layer.c).

    raw, truth: as in `delta`. The gradient with respect to `raw` is minus `delta`, as in Darknet, and not that of the
    printed sum.
    """
    value: Tensor = _Cost.apply(raw, delta(raw, truth, head, flavour).view_as(raw))
    return value


class _Cost(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, raw: Tensor, deltas: Tensor) -> Tensor:
        ctx.save_for_backward(deltas)
        ctx.dtype = raw.dtype
        return deltas.square().sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (deltas,) = ctx.saved_tensors
        return (-gradients[0] * deltas).to(ctx.dtype), None


def _best_iou(boxes: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """(batch, masks, height, width): the highest IoU of each prediction with any valid truth of its image."""
    if not truth.shape[1]:
        return boxes.new_zeros(boxes.shape[:-1])
    flat = boxes.flatten(1, 3)[:, :, None]  # (batch, cells, 1, 4)
    other = truth[:, None]  # (batch, 1, truths, 4)
    overlap = [
        torch.minimum(flat[..., i] + flat[..., i + 2] / 2, other[..., i] + other[..., i + 2] / 2)
        - torch.maximum(flat[..., i] - flat[..., i + 2] / 2, other[..., i] - other[..., i + 2] / 2)
        for i in (0, 1)
    ]
    intersection = overlap[0].clamp(min=0) * overlap[1].clamp(min=0)
    union = flat[..., 2] * flat[..., 3] + other[..., 2] * other[..., 3] - intersection
    iou = torch.where(intersection > 0, intersection / union, 0).masked_fill(~valid[:, None], 0)
    return iou.amax(dim=2).view(boxes.shape[:-1])


def _best_anchor(size: Tensor, head: YoloHead) -> Tensor:
    """(batch, truths) number of the anchor, over all of the cfg, whose shape has the highest IoU with each truth."""
    anchors = head.all_anchors(size)
    intersection = torch.minimum(size[..., None, :], anchors).prod(dim=-1)
    union = size.prod(dim=-1)[..., None] + anchors.prod(dim=-1) - intersection
    return (intersection / union).argmax(dim=-1)


def _cells(truth: Tensor, valid: Tensor, head: YoloHead, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """For each truth the flat number of its image, mask and cell, and the number of its anchor: (batch, truths) both.

    A truth that this head is not responsible for gets the number after the last: shapes stay the same whatever the
    truths are, so that a device never waits for the processor to count them.
    """
    batch, masks, _, height, width = shape
    anchor = _best_anchor(truth[..., 2:4], head)
    mask = torch.full_like(anchor, -1)
    for place, own in enumerate(head.mask):
        mask = torch.where(anchor == own, place, mask)
    column = (truth[..., 0] * width).long().clamp(0, width - 1)
    row = (truth[..., 1] * height).long().clamp(0, height - 1)
    image = torch.arange(batch, device=truth.device)[:, None]
    number = ((image * masks + mask) * height + row) * width + column
    return torch.where(valid & (mask >= 0), number, batch * masks * height * width), anchor


def _per_cell(rows: Tensor, cell: Tensor, values: Tensor, reduce: str) -> Tensor:
    """Reduce `rows`, (batch, truths, columns), into their cells: (batch, masks, height, width, columns), 0
    where there is none."""
    columns = rows.shape[-1]
    cells = math.prod(values.shape[:-1])
    place = cell.reshape(-1, 1).expand(-1, columns)
    filled = rows.new_zeros(cells + 1, columns).scatter_reduce(0, place, rows.reshape(-1, columns), reduce)
    return filled[:-1].view(*values.shape[:-1], columns)


def _box_deltas(
    truth: Tensor, anchor: Tensor, cell: Tensor, values: Tensor, head: YoloHead, normalizer: float
) -> Tensor:
    """(batch, truths, 4) delta of x, y, w and h (delta_yolo_box); anything for truths of other heads."""
    height, width = values.shape[2:4]
    box = truth[..., :4]
    grid = constant((width, height), box)
    corner = (box[..., :2] * grid).floor().clamp(min=0).minimum(grid - 1)
    size = torch.log(box[..., 2:].clamp(min=1e-9) / head.all_anchors(box)[anchor])
    wanted = torch.cat((box[..., :2] * grid - corner, size), dim=-1)
    flat = values[..., :4].reshape(-1, 4)
    predicted = flat[cell.clamp(max=len(flat) - 1)]
    return normalizer * (2 - box[..., 2:3] * box[..., 3:4]) * (wanted - predicted)


def _without_followed(cell: Tensor, values: Tensor) -> Tensor:
    """`cell` without the truths that a later one of the same image follows in the same cell."""
    cells = math.prod(values.shape[:-1])
    order = torch.arange(cell.numel(), device=cell.device)
    last = torch.full((cells + 1,), -1, device=cell.device).scatter_reduce(0, cell.flatten(), order, "amax")
    return torch.where(last[cell] == order.view_as(cell), cell, cells)
