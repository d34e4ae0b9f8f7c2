"""A detector as an ONNX file: static shape, boxes decoded inside the graph, no NMS. Knows nothing of bundles or boards.

PyTorch's exporter that traces is used: the one built on torch.export begins at opset 18 and cannot convert down to 13,
which is the newest that TensorRT 8.2 reads.
"""

import io
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import refuse
from pipeline.networks.detector import Detector

__all__ = ["OPSETS", "Exported", "Tap", "export_onnx", "taps_of", "watch"]

OPSETS = (11, 12, 13)  # Resize as it is written here needs 11
_IMAGES, _BOXES, _SCORES = "images", "boxes", "scores"
_LARGEST = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Tap:
    """A place in the network whose output can be looked at. name: also of the tensor in the ONNX graph."""

    name: str
    module: nn.Module


@dataclass(frozen=True)
class Exported:
    """An ONNX model, and the same graph with more outputs.

    Attributes:
        model: "images" (1, 3, H, W) float32, RGB, 0 to 1, to "boxes" (1, M, 4) float32, xyxy in pixels of the input,
            and "scores" (1, M, classes) float32.
        tapped: after those two, every tap in the order of the network.
        taps: their names.
        heads: of the taps, those whose outputs the boxes are decoded from.
    """

    model: bytes
    tapped: bytes
    taps: tuple[str, ...]
    heads: tuple[str, ...]

    def half(self) -> "Exported":
        """The same in half precision; inputs and outputs, and the decoding of boxes, stay in float32."""
        from pipeline.export.precision import to_fp16

        return replace(self, model=to_fp16(self.model), tapped=to_fp16(self.tapped))


def taps_of(detector: Detector) -> tuple[Tap, ...]:
    """The outputs of all layers with weights that are one tensor, in order, and of the heads."""
    heads = {id(module) for _, module in detector.heads}
    layers = [
        Tap(f"{layer.index} {layer.name}", detector.output_module(layer.index))
        for layer in detector.network_layers
        if layer.has_weights
    ]
    return (
        *(tap for tap in layers if id(tap.module) not in heads),
        *(Tap(f"head {name}", module) for name, module in detector.heads),
    )


def watch(taps: tuple[Tap, ...], found: dict[str, Tensor]) -> ExitStack:
    """Let `found` hold the output of every tap whenever the network runs, as long as the context is open."""

    def keep(name: str, _module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            found[name] = output

    stack = ExitStack()
    for tap in taps:
        handle = tap.module.register_forward_hook(partial(keep, tap.name))
        stack.callback(handle.remove)
    return stack


class _Traced(nn.Module):
    """A detector as a function of images alone: boxes, scores and what the taps gave."""

    def __init__(self, detector: Detector, taps: tuple[Tap, ...]) -> None:
        super().__init__()
        self.detector, self.taps = detector, taps
        self.names: tuple[str, ...] = ()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found: dict[str, Tensor] = {}
        with watch(self.taps, found):
            boxes, scores = self.detector.predict(images)
        self.names = tuple(tap.name for tap in self.taps if tap.name in found)
        return (boxes, scores, *(found[name] for name in self.names))


def export_onnx(detector: Detector, opset: int = 13) -> Exported:
    """Export `detector` for batch 1 at its size.

    Raises:
        UserError: an opset that the boards do not read, or a network without heads on fixed grids.
    """
    import onnx
    import onnxslim

    if opset not in OPSETS:
        raise refuse("opset", opset, f"allowed: {', '.join(map(str, OPSETS))}")
    if not detector.heads:
        raise refuse(
            "export", "no head that decodes boxes from a fixed grid", "export a YOLO of Darknet or Ultralytics"
        )
    traced = _Traced(detector.cpu().to(memory_format=torch.contiguous_format), taps_of(detector))
    was_training = detector.training
    traced.eval()
    images = torch.zeros(1, 3, detector.height, detector.width)
    with torch.no_grad():
        traced(images)  # grids are made here, so that they are constants in the trace, and it is known which taps fire
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            traced,
            (images,),
            buffer,  # type: ignore[arg-type]
            opset_version=opset,
            dynamo=False,
            input_names=[_IMAGES],
            output_names=[_BOXES, _SCORES, *traced.names],
        )
    detector.train(was_training)
    model = onnxslim.slim(onnx.load_model_from_string(buffer.getvalue()))  # shapes are static: what follows is constant
    _clamp_integers(model)
    tapped = _serialized(model)
    del model.graph.output[2:]
    heads = tuple(name for name in traced.names if name.startswith("head "))
    return Exported(_serialized(model), tapped, traced.names, heads)


def _serialized(model: "onnx.ModelProto") -> bytes:  # type: ignore[name-defined]  # noqa: F821
    import onnx

    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _clamp_integers(model: "onnx.ModelProto") -> None:  # type: ignore[name-defined]  # noqa: F821
    """Integers beyond 32 bits, such as "to the end" of a slice, as the largest that TensorRT does not clamp itself."""
    from onnx import TensorProto, numpy_helper

    tensors = list(model.graph.initializer)
    tensors += [
        a.t for node in model.graph.node if node.op_type == "Constant" for a in node.attribute if a.name == "value"
    ]
    for tensor in tensors:
        if tensor.data_type != TensorProto.INT64:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size and np.abs(values).max() > _LARGEST:
            tensor.CopyFrom(numpy_helper.from_array(np.clip(values, -_LARGEST, _LARGEST), tensor.name))
