"""What training, evaluation and scoring ask of a detector, of whatever family. Knows no family itself.

Layers are counted by the family's own custom: Darknet's by its cfg, Ultralytics' by the index in `model.model`,
torchvision's by the list in its file here. Freezing, caching and layer differences all speak of these numbers.
"""

from abc import abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.errors import refuse

__all__ = ["Detector", "Layer"]


@dataclass(frozen=True)
class Layer:
    """A layer of a detector: its number and name in the family's count, and the module that holds its weights."""

    index: int
    name: str
    module: nn.Module

    @property
    def has_weights(self) -> bool:
        """Whether there is anything to learn, or to keep, in it."""
        return any(True for _ in self.module.parameters())


class Detector(nn.Module):
    """A detector that can be trained in stages.

    Attributes:
        classes: names are not known here, their number is.
        width, height: of the input, in pixels.
        suffix: of its checkpoint files, with the dot.
        frozen: numbers of the layers that stay as they are.
    """

    classes: int
    width: int
    height: int
    suffix: str

    def __init__(self) -> None:
        super().__init__()
        self.frozen: tuple[int, ...] = ()

    @property
    @abstractmethod
    def network_layers(self) -> tuple[Layer, ...]:
        """Every layer, in order; `network_layers[i].index == i`."""

    @property
    def weighted_layers(self) -> tuple[int, ...]:
        """Numbers of the layers that have weights."""
        return tuple(layer.index for layer in self.network_layers if layer.has_weights)

    @property
    @abstractmethod
    def backbone(self) -> int:
        """How many layers, from 0, find features; those after it make boxes of them."""

    def freeze(self, layers: Collection[int]) -> None:
        """Freeze exactly these layers: no gradient, hence no decay, and batch norm stays in eval, statistics untouched.

        Raises:
            UserError: nothing would be left to train, or a number that is no layer's.
        """
        count = len(self.network_layers)
        outside = sorted(index for index in layers if not 0 <= index < count)
        if outside:
            raise refuse("freeze", f"layer {outside[0]}", f"the network has the layers 0 to {count - 1}")
        if set(self.weighted_layers) <= set(layers):
            raise refuse("freeze", "every layer with weights", "leave at least one to train")
        self.frozen = tuple(index for index in self.weighted_layers if index in layers)
        for layer in self.network_layers:
            is_frozen = layer.index in self.frozen
            for parameter in layer.module.parameters():
                parameter.requires_grad_(not is_frozen)
                if is_frozen:
                    parameter.grad = None  # an optimizer decays what has one
        self.train(self.training)

    def train(self, mode: bool = True) -> "Detector":
        """Set training mode; what is frozen stays in eval."""
        super().train(mode)
        for index in self.frozen:
            self.network_layers[index].module.eval()
        return self

    def output_module(self, layer: int) -> nn.Module:
        """The module whose output is that of a layer, when `predict` runs."""
        return self.network_layers[layer].module

    @property
    def heads(self) -> tuple[tuple[str, nn.Module], ...]:
        """Name and module of each convolution whose output, (batch, channels, height, width), boxes are decoded from.

        None where the boxes are not decoded from fixed grids.
        """
        return ()

    def at_size(self, size: int) -> "Detector":
        """The same weights for pictures of size x size pixels, independent of this detector.

        Raises:
            UserError: not a multiple of the coarsest stride, or a network that has no fixed grids.
        """
        raise refuse("size", size, "this network takes no other")

    @property
    def has_trunk(self) -> bool:
        """Whether `trunk` does work that is the same at every iteration, given the same images."""
        return False

    def trunk(self, images: Tensor) -> tuple[Tensor, ...]:
        """What the frozen layers make of a batch, as far as nothing learned comes before them.

        Args:
            images: (batch, 3, height, width) float, RGB, 0 to 1.

        Returns:
            The tensors that the rest of the network reads, batch first; the images themselves where nothing is frozen.
        """
        return (images,)

    @abstractmethod
    def losses(self, features: tuple[Tensor, ...], truth: Tensor) -> dict[str, Tensor]:
        """Parts of the loss by name, each a scalar per image (mean over the batch); their sum is what is minimised.

        Args:
            features: what `trunk` returned.
            truth: (batch, boxes, 5) float32: centre x, centre y, width, height relative to the input, class; rows of
                zeros are padding.
        """

    @abstractmethod
    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and scores before NMS, in eval mode, without gradient. images: as in `trunk`.

        Returns:
            boxes (batch, M, 4) float32 xyxy in pixels of the network input, scores (batch, M, classes) float32.
        """

    @torch.no_grad()
    def predict_with_losses(self, images: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """`predict`, and what `losses` says of the same images, both in eval mode; shapes as there."""
        return *self.predict(images), self.losses(self.trunk(images), truth)

    def require_trainable(self) -> None:
        """Raise UserError where the loss of this detector is not implemented."""

    @abstractmethod
    def decayed(self) -> list[nn.Parameter]:
        """The parameters that weight decay applies to."""

    @abstractmethod
    def synchronise(self) -> None:
        """Let batch norm use the statistics of the whole batch where several processes share it."""

    @abstractmethod
    def describe(self, folder: Path) -> None:
        """Write beside the weights what other tools need to read them, such as Darknet's cfg."""

    @abstractmethod
    def save(self, path: Path, seen: int) -> None:
        """Write the weights, complete or not at all. seen: number of images trained on."""

    def classes_in(self, path: Path) -> int | None:
        """Number of classes of the head in a checkpoint; None where such files do not say."""
        return None

    @abstractmethod
    def load(self, path: Path, layers: int | None = None) -> tuple[int, ...]:
        """Load the layers before `layers` (all by default) from a checkpoint; returns the numbers of those loaded.

        Raises:
            UserError: no such file, or one that does not fit; nothing is loaded then.
        """
