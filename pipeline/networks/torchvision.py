"""torchvision's Faster R-CNN with a ResNet-50 and a feature pyramid, behind our door.

Layers, in the order of the data: 0 the stem (conv1 with bn1), 1 to 16 the bottlenecks of layer1 to layer4, 17 the
feature pyramid, 18 the head of the region proposals, 19 the box head, 20 the box predictor. Knows nothing about
torchvision's resize: images arrive in the size of the input.
"""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import refuse
from pipeline.networks.detector import Layer
from pipeline.networks.foreign import ForeignCheckpoint, ForeignDetector, as_training

__all__ = ["TorchvisionDetector", "faster_rcnn", "read_pth"]

_STAGES = ("layer1", "layer2", "layer3", "layer4")
_STRIDE = 32  # torchvision pads images to multiples of it
_ROWS = 1000  # what `predict` returns per image at most; as many as there are proposals


def faster_rcnn(classes: int, size: int) -> "TorchvisionDetector":
    """Make `fasterrcnn_resnet50_fpn` with random weights, for `classes` classes and images of size x size pixels.

    Batch norm is `nn.BatchNorm2d`, as torchvision itself has it without pretrained weights. Its `FrozenBatchNorm2d` is
    for a pretrained backbone, whose statistics fit its kernels; with random kernels it would pass everything through
    unnormalised and could never learn. What is frozen here gets the same effect from `freeze`.

    Raises:
        UserError: the size is no multiple of 32.
    """
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    if size < _STRIDE or size % _STRIDE:
        raise refuse("fasterrcnn_resnet50_fpn: size", size, f"give a multiple of {_STRIDE}")
    network = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=classes + 1, min_size=size, max_size=size
    )
    return TorchvisionDetector("fasterrcnn_resnet50_fpn", network, classes, size)


class TorchvisionDetector(ForeignDetector):
    """A Faster R-CNN of torchvision's with a residual network and a feature pyramid.

    Args:
        name: of the architecture.
        network: a `torchvision.models.detection.FasterRCNN`; class 0 of its predictor is the background.
        classes: number of classes without the background.
        size: of the input in pixels, both ways.
    """

    def __init__(self, name: str, network: nn.Module, classes: int, size: int) -> None:
        super().__init__(name, network, classes, size)
        body, roi_heads = self.network.backbone.body, self.network.roi_heads
        blocks = [(f"{stage}.{i}", block) for stage in _STAGES for i, block in enumerate(body[stage])]
        self._blocks: list[nn.Module] = [block for _, block in blocks]
        depths = [len(body[stage]) for stage in _STAGES]
        self._stage_ends = tuple(sum(depths[: i + 1]) for i in range(len(depths)))  # numbers of layers
        modules = [
            ("conv1", nn.ModuleList([body["conv1"], body["bn1"]])),
            *blocks,
            ("fpn", self.network.backbone.fpn),
            ("rpn", self.network.rpn.head),
            ("box_head", roi_heads.box_head),
            ("box_predictor", roi_heads.box_predictor),
        ]
        self._layers = tuple(Layer(index, name, module) for index, (name, module) in enumerate(modules))

    def synchronise(self) -> None:
        """See `ForeignDetector`; the stem is put together anew, since its batch norm was replaced by another module."""
        super().synchronise()
        body = self.network.backbone.body
        self._layers = (Layer(0, "conv1", nn.ModuleList([body["conv1"], body["bn1"]])), *self._layers[1:])
        self.train(self.training)

    @property
    def network_layers(self) -> tuple[Layer, ...]:
        """The list in this file's docstring."""
        return self._layers

    def output_module(self, layer: int) -> nn.Module:
        """The stem ends with its pooling, which has no weights and is no part of the layer's module."""
        module: nn.Module = super().output_module(layer) if layer else self.network.backbone.body["maxpool"]
        return module

    @property
    def backbone(self) -> int:
        """The stem and the bottlenecks."""
        return len(self._blocks) + 1

    @property
    def has_trunk(self) -> bool:
        """Whether the stem is frozen."""
        return self._first > 0

    @torch.no_grad()
    def trunk(self, images: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the frozen stages, and of the last frozen bottleneck where it ends no stage; see `Detector`.

        The feature pyramid, when frozen, is not part of it: its maps are larger than what it reads.
        """
        return self._run_body((images,), 0, self._first)

    def losses(self, features: tuple[Tensor, ...], truth: Tensor) -> dict[str, Tensor]:
        """torchvision's four: `loss_classifier`, `loss_box_reg`, `loss_objectness`, `loss_rpn_box_reg`.

        They are means over regions drawn at random, hence the same for the same seed only. Shapes as in `Detector`.
        """
        images = self._image_list(features[0])
        targets = self._targets(truth)
        maps = self._pyramid(features)
        rpn, roi_heads = self.network.rpn, self.network.roi_heads
        with as_training(rpn, roi_heads):
            proposals, proposal_losses = rpn(images, maps, targets)
            _, losses = roi_heads(maps, proposals, images.image_sizes, targets)
        parts: dict[str, Tensor] = losses | proposal_losses
        return parts

    @torch.no_grad()
    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The 1000 best pairs of a proposal and a class, before the NMS among detections; see `Detector`.

        The box of a proposal differs from class to class, so a row has one score that is not zero, that of the class
        its box is for. Proposals went through an NMS of their own, at 0.7, without which there is no second stage.
        Rows of zeros fill up images with fewer.
        """
        roi_heads = self.network.roi_heads
        with self._evaluating():
            maps = self._pyramid(self.trunk(images))
            image_list = self._image_list(images)
            proposals, _ = self.network.rpn(image_list, maps)
            pooled = roi_heads.box_roi_pool(maps, proposals, image_list.image_sizes)
            logits, deltas = roi_heads.box_predictor(roi_heads.box_head(pooled))
        counts = [len(boxes) for boxes in proposals]
        boxes = roi_heads.box_coder.decode(deltas, proposals)[:, 1:].clamp(0, self.width).split(counts)
        scores = logits.float().softmax(dim=1)[:, 1:].split(counts)
        rows = [_best_rows(*pair) for pair in zip(boxes, scores, strict=True)]
        return (
            nn.utils.rnn.pad_sequence([row[0] for row in rows], batch_first=True),
            nn.utils.rnn.pad_sequence([row[1] for row in rows], batch_first=True),
        )

    def read(self, path: Path) -> ForeignCheckpoint:
        """Of torchvision's own files the detector's .pth, and a ResNet-50 classifier's, which fills the body."""
        if path.suffix != ".pth" or not path.is_file():
            return super().read(path)
        tensors = read_pth(path)
        if "conv1.weight" in tensors:
            tensors = {f"backbone.body.{key}": tensor for key, tensor in tensors.items() if not key.startswith("fc.")}
        scores = tensors.get("roi_heads.box_predictor.cls_score.weight")
        return ForeignCheckpoint(tensors, None if scores is None else len(scores) - 1)

    @property
    def _first(self) -> int:
        """Number of the first layer to run at every iteration, at most that of the feature pyramid."""
        return min(self.first_learned, len(self._blocks) + 1)

    def _run_body(self, features: tuple[Tensor, ...], start: int, stop: int) -> tuple[Tensor, ...]:
        """Run the layers from `start` to before `stop` on what the trunk gave; the outputs of stages, and the last."""
        outputs, x = list(features), features[-1]
        for index in range(start, stop):
            if index - 1 not in self._stage_ends:
                outputs.pop()  # read by this layer only
            x = self._run_stem(x) if index == 0 else self._blocks[index - 1](x)
            outputs.append(x)
        return tuple(outputs)

    def _run_stem(self, images: Tensor) -> Tensor:
        x: Tensor = self.network.transform.normalize(images)
        for name in ("conv1", "bn1", "relu", "maxpool"):
            x = self.network.backbone.body[name](x)
        return x

    def _pyramid(self, features: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """The rest of the body and the feature pyramid, by torchvision's names."""
        stages = self._run_body(features, self._first, len(self._blocks) + 1)
        maps: dict[str, Tensor] = self.network.backbone.fpn(
            OrderedDict((str(i), stage) for i, stage in enumerate(stages))
        )
        return maps

    def _image_list(self, like: Tensor) -> Any:
        """What torchvision asks about the images: their number, size, type and device, not their content."""
        from torchvision.models.detection.image_list import ImageList

        size = (self.height, self.width)
        return ImageList(like.new_empty(1).expand(like.shape[0], 3, *size), [size] * like.shape[0])

    def _targets(self, truth: Tensor) -> list[dict[str, Tensor]]:
        """Our padded boxes as torchvision's list: xyxy pixels, classes from 1."""
        scale = truth.new_tensor((self.width, self.height, self.width, self.height))
        half = truth[..., 2:4] / 2
        boxes = torch.cat((truth[..., :2] - half, truth[..., :2] + half), dim=2) * scale
        labels = truth[..., 4].long() + 1
        is_box = (truth[..., 2:4] > 0).all(dim=2)
        return [{"boxes": boxes[image][chosen], "labels": labels[image][chosen]} for image, chosen in enumerate(is_box)]


def read_pth(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict as torchvision publishes them; no code in the file is run.

    Raises:
        UserError: not readable, or no state dict.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise refuse(path, f"not readable ({reason})", "give an undamaged .pth file of torchvision") from None
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise refuse(path, "holds no tensors by name", "give a .pth file of torchvision, a state dict")
    return content


def _best_rows(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The best pairs of proposal and class: boxes (M, 4), scores (M, classes) with one that is not zero.

    Args:
        boxes: (proposals, classes, 4) xyxy.
        scores: (proposals, classes).
    """
    best, places = scores.flatten().topk(min(_ROWS, scores.numel()))
    single = scores.new_zeros(len(best), scores.shape[1])
    single.scatter_(1, (places % scores.shape[1])[:, None], best[:, None])
    return boxes.flatten(0, 1)[places].float(), single
