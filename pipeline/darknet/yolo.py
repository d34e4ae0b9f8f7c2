"""The yolo layer: decode and loss exactly as Darknet computes them, in batches, on any device, without loops.

Darknet does not differentiate a loss: yolo_layer.c writes a `delta` per value of the raw output, which is minus the
gradient. `cost` returns what Darknet prints (the sum of the squared deltas) and hands those deltas to autograd.
Knows nothing about networks, files or images.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.errors import UserError

__all__ = ["Flavour", "YoloHead", "activate", "cost", "decode", "delta", "relative_boxes", "require_trainable"]

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
        size = like.new_tensor([self.network_width, self.network_height])
        return like.new_tensor(self.anchors) / size

    def own_anchors(self, like: Tensor) -> Tensor:
        """(masks, 2) width and height relative to the network input, of the anchors in `mask`."""
        return self.all_anchors(like)[list(self.mask)]


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


def relative_boxes(output: Tensor, head: YoloHead) -> Tensor:
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
    boxes = relative_boxes(output, head).reshape(batch, -1, 4)
    size = boxes.new_tensor([head.network_width, head.network_height])
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
    _, masks, _, height, width = output.shape
    is_alexeyab = flavour == "alexeyab"
    obj_normalizer = head.obj_normalizer if is_alexeyab else 1.0
    iou_normalizer = head.iou_normalizer if is_alexeyab else 1.0

    valid = (truth[..., 0] != 0) & (truth[..., 4] >= 0) & (truth[..., 4] < head.classes)
    objectness, classes = output[:, :, 4], output[:, :, 5:]
    result = torch.zeros_like(output)
    result[:, :, 4] = -obj_normalizer * objectness
    is_ignored = _best_iou(relative_boxes(output, head), truth[..., :4], valid) > head.ignore_thresh
    if is_alexeyab:
        is_ignored &= classes.amax(dim=2) > _IGNORE_CLASS_SCORE
    result[:, :, 4].masked_fill_(is_ignored, 0)

    # One entry per truth that this head is responsible for: its image, anchor and cell.
    anchor = _best_anchor(truth[..., 2:4], head)
    own = torch.full((len(head.anchors),), -1, device=raw.device)
    own[list(head.mask)] = torch.arange(masks, device=raw.device)
    image, slot = torch.nonzero(valid & (own[anchor] >= 0), as_tuple=True)
    if not len(image):
        return result.view_as(raw)
    box, label = truth[image, slot, :4], truth[image, slot, 4].long()
    mask = own[anchor[image, slot]]
    column = (box[:, 0] * width).long().clamp(0, width - 1)
    row = (box[:, 1] * height).long().clamp(0, height - 1)
    cell = (image, mask, row, column)

    position = box[:, :2] * box.new_tensor([width, height]) - torch.stack((column, row), dim=1)
    size = torch.log(box[:, 2:] / head.all_anchors(box)[anchor[image, slot]])
    predicted = output.movedim(2, -1)[cell]
    scale = iou_normalizer * (2 - box[:, 2:3] * box[:, 3:4])
    box_delta = scale * (torch.cat((position, size), dim=1) - predicted[:, :4])
    if not is_alexeyab:
        box_delta = torch.where(_is_last_in_cell(cell, output.shape)[:, None], box_delta, 0)
    by_cell = result.movedim(2, -1)  # (batch, masks, height, width, 5 + classes), a view
    by_cell.index_put_((*(index[:, None] for index in cell), torch.arange(4, device=raw.device)), box_delta, True)
    by_cell[(*cell, 4)] = obj_normalizer * (1 - predicted[:, 4])
    # Every class of the cell is pushed to 0, those of its truths to 1 (delta_yolo_class).
    smooth = head.label_smooth_eps
    by_cell[(*(index[:, None] for index in cell), torch.arange(5, 5 + head.classes, device=raw.device))] = (
        0.5 * smooth - predicted[:, 5:]
    )
    by_cell[(*cell, 5 + label)] = 1 - 0.5 * smooth - predicted.gather(1, 5 + label[:, None])[:, 0]
    return result.view_as(raw)


def cost(raw: Tensor, truth: Tensor, head: YoloHead, flavour: Flavour = "alexeyab") -> Tensor:
    """Darknet's cost of one yolo layer, summed over the batch: the sum of the squared deltas (yolo_layer.c).

    Its gradient with respect to `raw` is minus `delta`, as in Darknet, and not that of the printed sum.
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


def _is_last_in_cell(cell: tuple[Tensor, ...], shape: torch.Size) -> Tensor:
    """Whether no later truth of the same image falls into the same cell and anchor."""
    batch, masks, _, height, width = shape
    image, mask, row, column = cell
    flat = ((image * masks + mask) * height + row) * width + column
    order = torch.arange(len(flat), device=flat.device)
    last = torch.full((batch * masks * height * width,), -1, device=flat.device)
    last.scatter_reduce_(0, flat, order, "amax")
    return last[flat] == order
