"""A `torch.nn.Module` built from a cfg, whose sub-modules carry Darknet's layer indices.

Knows what each layer computes; knows nothing about weights files, losses or training.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from pipeline.darknet.activations import activate
from pipeline.darknet.batch_norm import BatchNorm
from pipeline.darknet.cfg import Cfg
from pipeline.darknet.layers import (
    AveragePool,
    Connected,
    Convolutional,
    Dropout,
    LayerSpec,
    MaxPool,
    NetworkSpec,
    Route,
    Shape,
    Shortcut,
    Softmax,
    Upsample,
    Yolo,
)
from pipeline.darknet.parser import describe
from pipeline.darknet.yolo import decode

__all__ = ["ConnectedLayer", "ConvolutionalLayer", "DarknetNetwork"]


class _Weighted(nn.Module):
    """What convolutional and connected layers share: batch norm or a bias, and an activation."""

    weight: nn.Parameter
    norm: BatchNorm | None
    own_bias: nn.Parameter | None

    def __init__(self, outputs: int, batch_normalize: bool, activation: str) -> None:
        super().__init__()
        self.norm = BatchNorm(outputs) if batch_normalize else None
        self.own_bias = None if batch_normalize else nn.Parameter(torch.zeros(outputs))
        self.activation = activation

    @property
    def bias(self) -> nn.Parameter:
        """(outputs,) the bias, which Darknet adds after batch norm where there is one."""
        bias = self.own_bias if self.norm is None else self.norm.bias
        assert bias is not None
        return bias


class ConvolutionalLayer(_Weighted):
    """`[convolutional]`; `weight` is the kernel (filters, channels / groups, size, size)."""

    def __init__(self, spec: Convolutional, channels: int) -> None:
        super().__init__(spec.filters, spec.batch_normalize, spec.activation)
        self.spec = spec
        inputs = channels // spec.groups
        # make_convolutional_layer: scale * uniform(-1, 1), scale = sqrt(2 / (size * size * channels / groups))
        scale = math.sqrt(2 / (spec.size * spec.size * inputs))
        self.weight = nn.Parameter(torch.empty(spec.filters, inputs, spec.size, spec.size).uniform_(-scale, scale))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, filters, height', width')."""
        spec = self.spec
        x = functional.conv2d(x, self.weight, self.own_bias, spec.stride, spec.padding, spec.dilation, spec.groups)
        return activate(x if self.norm is None else self.norm(x), self.activation)


class ConnectedLayer(_Weighted):
    """`[connected]`; `weight` is (outputs, inputs)."""

    def __init__(self, spec: Connected) -> None:
        super().__init__(spec.outputs, spec.batch_normalize, spec.activation)
        # make_connected_layer: scale * uniform(-1, 1), scale = sqrt(2 / inputs)
        scale = math.sqrt(2 / spec.inputs)
        self.weight = nn.Parameter(torch.empty(spec.outputs, spec.inputs).uniform_(-scale, scale))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, ...) to (batch, outputs, 1, 1)."""
        x = functional.linear(x.flatten(1), self.weight, self.own_bias)[:, :, None, None]
        return activate(x if self.norm is None else self.norm(x), self.activation)


class _MaxPoolLayer(nn.Module):
    def __init__(self, spec: MaxPool, before: Shape, after: Shape) -> None:
        super().__init__()
        self.spec, self.after = spec, after
        left = spec.padding // 2
        # PyTorch pads both sides alike. Where that starts the windows on the same pixels, pad inside the pooling and
        # cut; it spares a copy of the input, and an ONNX Pad of minus infinity, which TensorRT does not read.
        right = max(
            (after.height - 1) * spec.stride[0] + spec.size - before.height - left,
            (after.width - 1) * spec.stride[1] + spec.size - before.width - left,
        )
        if right <= left <= spec.size // 2:
            self.padding, self.skip, self.outside = left, 0, None
        elif spec.stride == (1, 1) and right <= spec.size // 2:
            self.padding, self.skip, self.outside = right, right - left, None
        else:
            self.padding, self.skip, self.outside = 0, 0, (left, right, left, right)

    def forward(self, x: Tensor) -> Tensor:
        if self.outside:
            x = functional.pad(x, self.outside, value=float("-inf"))
        x = functional.max_pool2d(x, self.spec.size, self.spec.stride, self.padding)
        if x.shape[2:] == (self.after.height, self.after.width):
            return x
        return x[:, :, self.skip : self.skip + self.after.height, self.skip : self.skip + self.after.width]


class _RouteLayer(nn.Module):
    def __init__(self, spec: Route) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, parts: list[Tensor]) -> Tensor:
        if self.spec.groups > 1:
            parts = [part.chunk(self.spec.groups, dim=1)[self.spec.group] for part in parts]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class _ShortcutLayer(nn.Module):
    def __init__(self, spec: Shortcut) -> None:
        super().__init__()
        self.activation = spec.activation

    def forward(self, x: Tensor, others: list[Tensor]) -> Tensor:
        for other in others:
            x = x + other if x.shape == other.shape else _overlap_add(x, other)
        return activate(x, self.activation)


def _overlap_add(x: Tensor, other: Tensor) -> Tensor:
    """blas.c shortcut_cpu: every `stride`-th pixel of a larger map, every `sample`-th place of a smaller one."""
    channels = min(x.shape[1], other.shape[1])
    stride, sample = max(1, other.shape[3] // x.shape[3]), max(1, x.shape[3] // other.shape[3])
    height, width = min(x.shape[2], other.shape[2]), min(x.shape[3], other.shape[3])
    added = x.clone()
    added[:, :channels, : height * sample : sample, : width * sample : sample] += other[
        :, :channels, : height * stride : stride, : width * stride : stride
    ]
    return added


class _UpsampleLayer(nn.Module):
    def __init__(self, spec: Upsample) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, x: Tensor) -> Tensor:
        x = functional.interpolate(x, scale_factor=float(self.spec.stride), mode="nearest")
        return x if self.spec.scale == 1.0 else x * self.spec.scale


class _AveragePoolLayer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3), keepdim=True)


class _SoftmaxLayer(nn.Module):
    def __init__(self, spec: Softmax) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1).view(x.shape[0], self.spec.groups, -1)
        return (flat / self.spec.temperature).softmax(dim=2).view(x.shape[0], -1, 1, 1)


class DarknetNetwork(nn.Module):
    """A network in Darknet's layer count: `layers[i]` is the cfg's section i after `[net]`.

    Attributes:
        cfg: the text it was built from.
        spec: every layer's description and output shape.
        layers: one module per section; `state_dict` keys begin with `layers.<index>.`.
        reads: of every layer, the layers whose outputs it takes, in order; -1 is the image.
    """

    def __init__(self, cfg: Cfg) -> None:
        super().__init__()
        self.cfg = cfg
        self.spec: NetworkSpec = describe(cfg)
        befores = (self.spec.input, *self.spec.shapes[:-1])
        triples = zip(self.spec.layers, befores, self.spec.shapes, strict=True)
        self.layers = nn.ModuleList(_build(spec, before, after) for spec, before, after in triples)
        self.reads = tuple(_reads(index, spec) for index, spec in enumerate(self.spec.layers))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Run the network.

        Args:
            images: (batch, 3, height, width) float, RGB, 0 to 1, of the size in the cfg.

        Returns:
            The raw output before each yolo layer, (batch, masks * (5 + classes), height, width) each, in the order of
            the cfg; for a network without one, the output of the last layer.
        """
        wanted = self.spec.yolo_layers or (len(self.layers) - 1,)
        outputs = self.outputs(images, wanted)
        return [outputs[index] for index in wanted]

    def outputs(self, images: Tensor, layers: Iterable[int]) -> dict[int, Tensor]:
        """Outputs of the layers asked for, (batch, channels, height, width) each; a yolo layer gives its raw input.

        images: as in `forward`.
        """
        wanted = set(layers)
        return self.compute({-1: images}, range(max(wanted) + 1), wanted)

    def compute(self, known: Mapping[int, Tensor], layers: Sequence[int], wanted: Collection[int]) -> dict[int, Tensor]:
        """Run `layers`, in ascending order, and return the outputs of those `wanted`.

        known: outputs of layers that have run, by their index, and the images as -1. What no layer reads any more is
        let go at once.
        """
        values = dict(known)
        last_read = {source: index for index in layers for source in self.reads[index]}
        for index in layers:
            inputs = [values[source] for source in self.reads[index]]
            match self.spec.layers[index]:
                case Route():
                    values[index] = self.layers[index](inputs)
                case Shortcut():
                    values[index] = self.layers[index](inputs[0], inputs[1:])
                case _:
                    values[index] = self.layers[index](inputs[0])
            del inputs
            for source in [s for s in values if s not in wanted and last_read.get(s, -1) <= index]:
                del values[source]
        return {index: values[index] for index in wanted}

    def decode(self, raw: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes (batch, M, 4) xyxy in pixels of the network input and scores (batch, M, classes), head after head."""
        parts = [decode(output, head) for output, head in zip(raw, self.spec.heads, strict=True)]
        return torch.cat([boxes for boxes, _ in parts], dim=1), torch.cat([scores for _, scores in parts], dim=1)

    def weighted(self, index: int) -> ConvolutionalLayer | ConnectedLayer:
        """The layer `index`, which must be one with weights."""
        layer = self.layers[index]
        assert isinstance(layer, ConvolutionalLayer | ConnectedLayer), index
        return layer


def _build(spec: LayerSpec, before: Shape, after: Shape) -> nn.Module:
    match spec:
        case Convolutional():
            return ConvolutionalLayer(spec, before.channels)
        case Connected():
            return ConnectedLayer(spec)
        case MaxPool():
            return _MaxPoolLayer(spec, before, after)
        case Route():
            return _RouteLayer(spec)
        case Shortcut():
            return _ShortcutLayer(spec)
        case Upsample():
            return _UpsampleLayer(spec)
        case AveragePool():
            return _AveragePoolLayer()
        case Softmax():
            return _SoftmaxLayer(spec)
        case Dropout():
            return nn.Dropout(spec.probability)
        case Yolo():
            return nn.Identity()


def _reads(index: int, spec: LayerSpec) -> tuple[int, ...]:
    match spec:
        case Route():
            return spec.sources
        case Shortcut():
            return (index - 1, *spec.sources)
        case _:
            return (index - 1,)
