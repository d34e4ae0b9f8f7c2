"""Arithmetic and memory traffic of the nodes of a graph, counted from shapes.

A multiply-add is two operations, as boards' peaks are given and as Darknet counts (make_convolutional_layer: 2 * n *
size * size * c / groups * out_h * out_w); adding a bias is not counted. Other operators count one operation per
element; moving data counts none.
"""

import math
from collections.abc import Collection, Sequence
from typing import Any

from pipeline.export.graph import Graph

__all__ = ["activation_bytes", "flops", "moves_nothing", "weight_bytes"]

_VIEWS = ("Reshape", "Identity", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "Constant", "Shape", "Size")
_COPIES = (
    *("Concat", "Split", "Slice", "Transpose", "Gather", "GatherElements", "GatherND", "ScatterND", "Pad", "Expand"),
    *("Tile", "DepthToSpace", "SpaceToDepth", "Cast", "Where", "ConstantOfShape", "Range"),
)
_FLOATS = ("FP32", "FP16", "BF16", "FP64")


def moves_nothing(node: Any) -> bool:
    """Whether a node only says how what is there is to be read."""
    return node.op_type in _VIEWS


def flops(node: Any, graph: Graph) -> int | None:
    """Operations of a node; None where a shape that they follow from is unknown."""
    if node.op_type in (*_VIEWS, *_COPIES):
        return 0
    out = graph.static_shape(node.output[0])
    first = graph.static_shape(node.input[0]) if node.input else ()
    if out is None or first is None:
        return None
    elements = math.prod(out)
    if node.op_type in ("Conv", "ConvTranspose"):
        kernel = graph.static_shape(node.input[1])
        if kernel is None:
            return None
        # Of Conv (out, in / groups, kernel), per output; of ConvTranspose (in, out / groups, kernel), per input.
        return 2 * (elements if node.op_type == "Conv" else math.prod(first)) // kernel[0] * math.prod(kernel)
    if node.op_type in ("MatMul", "Gemm"):
        is_transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return 2 * elements * (first[-2] if is_transposed else first[-1])
    if node.op_type in ("MaxPool", "AveragePool", "LpPool"):
        return elements * math.prod(next(a.ints for a in node.attribute if a.name == "kernel_shape"))
    if node.op_type == "Resize":
        is_linear = any(a.name == "mode" and a.s == b"linear" for a in node.attribute)
        return 8 * elements if is_linear else 0
    if node.op_type.startswith(("Reduce", "Global", "Arg", "Softmax", "LogSoftmax")):
        return math.prod(first)
    return elements


def weight_bytes(names: Collection[str], graph: Graph, float_bytes: int) -> int:
    """Bytes of those of these tensors that are constants, floating point at `float_bytes` an element."""
    return sum(_bytes(name, graph, float_bytes) for name in set(names) if name in graph.constants)


def activation_bytes(names: Sequence[str], graph: Graph, float_bytes: int) -> int:
    """Bytes of those of these tensors that are computed or fed."""
    return sum(_bytes(name, graph, float_bytes) for name in names if name and name not in graph.constants)


def _bytes(name: str, graph: Graph, float_bytes: int) -> int:
    shape = graph.static_shape(name)
    if shape is None:
        return 0
    element = graph.element(name) or "FP32"
    digits = "".join(character for character in element if character.isdigit())
    size = float_bytes if element in _FLOATS else max(1, int(digits) // 8) if digits else 1
    return math.prod(shape) * size
