"""Darknet's networks behind the common door: layers counted as in the cfg, loss and files Darknet's own."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.darknet import DarknetNetwork, Header, load_weights, save_weights, with_options
from pipeline.darknet.batch_norm import BatchNorm
from pipeline.darknet.layers import Convolutional, Dropout, Route, Shortcut, Upsample
from pipeline.darknet.yolo import Flavour, cost, require_trainable
from pipeline.files import write_text
from pipeline.networks.detector import Detector, Layer

__all__ = ["DarknetDetector"]


@dataclass(frozen=True)
class _Split:
    """A network cut in two: `trunk` and `tail` hold layer numbers, `boundary` those whose outputs the tail needs."""

    trunk: tuple[int, ...]
    tail: tuple[int, ...]
    boundary: tuple[int, ...]


class DarknetDetector(Detector):
    """A `DarknetNetwork` with yolo heads.

    Attributes:
        network: it shares its weights; its state may be read and loaded directly.
        flavour: whose loss, AlexeyAB's or the original.
    """

    suffix = ".weights"

    def __init__(
        self, network: DarknetNetwork, flavour: Flavour = "alexeyab", batch_norm_momentum: float | None = None
    ) -> None:
        super().__init__()
        self.network, self.flavour = network, flavour
        self.width, self.height = network.spec.input.width, network.spec.input.height
        self.classes = network.spec.heads[0].classes if network.spec.heads else 0
        kinds = [section.kind for section in network.cfg.layers]
        self._layers = tuple(
            Layer(index, kind, module) for index, (kind, module) in enumerate(zip(kinds, network.layers, strict=True))
        )
        for module in network.modules():
            if isinstance(module, BatchNorm) and batch_norm_momentum is not None:
                module.momentum = batch_norm_momentum
        self._split = _split(network, ())

    @property
    def network_layers(self) -> tuple[Layer, ...]:
        """The sections of the cfg after `[net]`."""
        return self._layers

    @property
    def backbone(self) -> int:
        """The layers before the first 1x1 convolution of the coarsest grid that makes fewer channels, in no residual.

        That is where the neck begins: 13 of Tiny-YOLOv3, 75 of YOLOv3.
        """
        spec = self.network.spec
        coarsest = min(shape.height for shape in spec.shapes)
        residual = {
            inside
            for index, layer in enumerate(spec.layers)
            if isinstance(layer, Shortcut)
            for inside in range(min(layer.sources) + 1, index + 1)
        }
        for index, layer in enumerate(spec.layers[1:], start=1):
            before = spec.shapes[index - 1]
            is_neck = isinstance(layer, Convolutional) and layer.size == 1 and layer.filters < before.channels
            if is_neck and before.height == coarsest and index not in residual:
                return index
        return spec.yolo_layers[0] - 1 if spec.yolo_layers else len(spec.layers) - 1

    @property
    def heads(self) -> tuple[tuple[str, nn.Module], ...]:
        """The layers before the yolo layers."""
        return tuple(
            (f"{index - 1} convolutional", self._layers[index - 1].module) for index in self.network.spec.yolo_layers
        )

    def at_size(self, size: int) -> "DarknetDetector":
        """A network of the same cfg at that size; see `Detector.at_size`."""
        side = {"width": str(size), "height": str(size)}
        other = DarknetDetector(DarknetNetwork(with_options(self.network.cfg, {}, side)), self.flavour)
        other.network.load_state_dict(self.network.state_dict())
        other.train(self.training)
        return other

    def require_trainable(self) -> None:
        """Refuse heads whose loss is not implemented."""
        for head in self.network.spec.heads:
            require_trainable(head, self.flavour)

    def freeze(self, layers: Collection[int]) -> None:
        """Freeze exactly these layers; see `Detector.freeze`."""
        super().freeze(layers)
        self._split = _split(self.network, self.frozen)

    @property
    def has_trunk(self) -> bool:
        """Whether a layer with weights comes before everything learned."""
        return any(index in self.frozen for index in self._split.trunk)

    def trunk(self, images: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the frozen layers that others read, and raw outputs of frozen heads; see `Detector`."""
        if not self.has_trunk:
            return (images,)
        with torch.no_grad():
            outputs = self.network.compute({-1: images}, self._split.trunk, self._split.boundary)
        return tuple(outputs[index] for index in self._split.boundary)

    def losses(self, features: tuple[Tensor, ...], truth: Tensor) -> dict[str, Tensor]:
        """Darknet's cost per yolo layer, `yolo16` and so on, divided by the number of images; see `Detector`."""
        return self._costs(self._raw(features), truth)

    @torch.no_grad()
    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and scores of every cell and anchor; see `Detector`."""
        return self.network.decode(self.network(images))

    @torch.no_grad()
    def predict_with_losses(self, images: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """`predict`, and Darknet's cost of the same outputs; see `Detector`."""
        raw = self.network(images)
        return *self.network.decode(raw), self._costs(raw, truth)

    def decayed(self) -> list[nn.Parameter]:
        """Kernels only, as convolutional_layer.c update_convolutional_layer."""
        return [self.network.weighted(index).weight for index in self.network.spec.weighted_layers]

    def synchronise(self) -> None:
        """Batch norm over all processes; see `BatchNorm`."""
        for module in self.network.modules():
            if isinstance(module, BatchNorm):
                module.is_synchronised = True

    def describe(self, folder: Path) -> None:
        """Write network.cfg."""
        write_text(folder / "network.cfg", self.network.cfg.text)

    def save(self, path: Path, seen: int) -> None:
        """Write a .weights file that any Darknet tool reads."""
        save_weights(self.network, path, Header(seen=seen))

    def load(self, path: Path, layers: int | None = None) -> tuple[int, ...]:
        """Load a .weights file; one that was saved up to a layer holds fewer."""
        return load_weights(self.network, path, layers)[1]

    def _raw(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        heads = self.network.spec.yolo_layers
        if not self.has_trunk:
            return self.network(features[0])
        known = dict(zip(self._split.boundary, features, strict=True))
        outputs = self.network.compute(known, self._split.tail, heads)
        return [outputs[head] for head in heads]

    def _costs(self, raw: list[Tensor], truth: Tensor) -> dict[str, Tensor]:
        spec = self.network.spec
        return {
            f"yolo{index}": cost(output, truth, head, self.flavour) / len(truth)
            for index, output, head in zip(spec.yolo_layers, raw, spec.heads, strict=True)
        }


def _split(network: DarknetNetwork, frozen: Collection[int]) -> _Split:
    """Cut where the first thing learned is read.

    Routes and upsampling at the cut belong to the tail: they only copy, and would make what is stored larger.
    """
    spec = network.spec
    trunk: set[int] = {-1}
    for index, layer in enumerate(spec.layers):
        stays = index in frozen or index not in spec.weighted_layers
        if stays and not isinstance(layer, Dropout) and set(network.reads[index]) <= trunk:
            trunk.add(index)
    trunk.discard(-1)
    readers = {
        index: [i for i, reads in enumerate(network.reads) if index in reads] for index in range(len(spec.layers))
    }
    for index in sorted(trunk, reverse=True):
        if isinstance(spec.layers[index], Route | Upsample) and not trunk.intersection(readers[index]):
            trunk.discard(index)
    tail = tuple(index for index in range(len(spec.layers)) if index not in trunk)
    needed = {source for index in tail for source in network.reads[index]} | set(spec.yolo_layers)
    return _Split(tuple(sorted(trunk)), tail, tuple(sorted(needed & trunk)))
