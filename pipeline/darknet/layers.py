"""One frozen data type per kind of layer, and the network they make, with the shapes between them.

Knows no cfg text and no tensors.
"""

from dataclasses import dataclass

from pipeline.darknet.yolo import YoloHead

__all__ = [
    "AveragePool",
    "Connected",
    "Convolutional",
    "Dropout",
    "LayerSpec",
    "MaxPool",
    "NetworkSpec",
    "Route",
    "Shape",
    "Shortcut",
    "Softmax",
    "Upsample",
    "Yolo",
]


@dataclass(frozen=True)
class Shape:
    """Channels, height and width of a layer's output, in values and pixels."""

    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Convolutional:
    """`[convolutional]`: kernel (filters, channels / groups, size, size), batch norm or bias, activation."""

    filters: int
    size: int
    stride: tuple[int, int]  # y, x
    padding: int
    dilation: int
    groups: int
    batch_normalize: bool
    activation: str


@dataclass(frozen=True)
class MaxPool:
    """`[maxpool]`: `padding` is the sum of both sides, of which padding // 2 lies left and on top."""

    size: int
    stride: tuple[int, int]  # y, x
    padding: int


@dataclass(frozen=True)
class Route:
    """`[route]`: channels of earlier layers one after the other; of each only part `group` of `groups`."""

    sources: tuple[int, ...]
    groups: int
    group: int


@dataclass(frozen=True)
class Shortcut:
    """`[shortcut]`: the previous layer plus `sources`; where shapes differ, Darknet's strided overlap is added."""

    sources: tuple[int, ...]
    activation: str


@dataclass(frozen=True)
class Upsample:
    """`[upsample]`: nearest neighbour by `stride`, times `scale`."""

    stride: int
    scale: float


@dataclass(frozen=True)
class AveragePool:
    """`[avgpool]`: the mean of each channel."""


@dataclass(frozen=True)
class Dropout:
    """`[dropout]`: in training each value is zeroed with `probability`, the others scaled up."""

    probability: float


@dataclass(frozen=True)
class Softmax:
    """`[softmax]` over `groups` equal parts of the flat input, after dividing by `temperature`."""

    groups: int
    temperature: float


@dataclass(frozen=True)
class Connected:
    """`[connected]`: weights (outputs, inputs), batch norm or bias, activation."""

    inputs: int
    outputs: int
    batch_normalize: bool
    activation: str


@dataclass(frozen=True)
class Yolo:
    """`[yolo]`: a detection head on the raw output of the layer before."""

    head: YoloHead


LayerSpec = Convolutional | MaxPool | Route | Shortcut | Upsample | AveragePool | Dropout | Softmax | Connected | Yolo


@dataclass(frozen=True)
class NetworkSpec:
    """All layers in Darknet's count (0 is the first section after `[net]`) with the shape of each one's output."""

    input: Shape
    layers: tuple[LayerSpec, ...]
    shapes: tuple[Shape, ...]

    @property
    def yolo_layers(self) -> tuple[int, ...]:
        """Indices of the yolo layers, in order."""
        return tuple(index for index, layer in enumerate(self.layers) if isinstance(layer, Yolo))

    @property
    def heads(self) -> tuple[YoloHead, ...]:
        """The yolo layers' heads, in order."""
        return tuple(layer.head for layer in self.layers if isinstance(layer, Yolo))

    @property
    def weighted_layers(self) -> tuple[int, ...]:
        """Indices of the layers that have weights, in file order."""
        return tuple(i for i, layer in enumerate(self.layers) if isinstance(layer, Convolutional | Connected))
