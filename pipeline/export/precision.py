"""An ONNX model in half precision, for libraries that take their types from the file; its boxes stay in float32.

The conversion is ONNX Runtime's own (onnxruntime.transformers.float16). It is given the network up to the raw heads
alone: between nodes that it is told to leave out it rounds what passes, and boxes rounded to half precision lie 0.25
pixels apart from 256 on, 0.5 from 512 on. Knows nothing of networks: the decode is what no learned weights follow.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deploy.decode_part import Step, is_decode
from pipeline.errors import refuse

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

__all__ = ["decode_nodes", "to_fp16"]

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_LARGEST = 65504.0


def to_fp16(model_bytes: bytes) -> bytes:
    """Convert a float32 model; inputs and outputs keep names and types, and what makes boxes stays as it is.

    Returns:
        The model, the same bytes for the same bytes.

    Raises:
        UserError: a weight is beyond half precision, or there is nothing to convert.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model_bytes))
    decodes = decode_nodes(model.graph)
    if all(decodes):
        raise refuse("half precision", "the model has no convolution", "export a network")
    trunk = _trunk(model, decodes)
    _require_range(trunk)
    half = convert_float_to_float16(trunk, keep_io_types=True, disable_shape_infer=True)
    joined = _joined(model, decodes, half)
    OnnxModel.graph_topological_sort(joined.graph, is_deterministic=True)
    onnx.checker.check_model(joined, full_check=True)
    return bytes(joined.SerializeToString(deterministic=True))


def decode_nodes(graph: "GraphProto") -> list[bool]:
    """For every node, whether it belongs to the decode; see `deploy.decode_part.is_decode`.

    A convolution to a single channel does not count as learned weights: Ultralytics' decode holds one, which turns
    bins into distances; a head of one class is as cheap in float32.
    """
    channels = {value.name: value.dims[0] for value in graph.initializer if value.dims}
    return is_decode([Step(node.input, node.output, _is_weighted(node, channels)) for node in graph.node])


def _is_weighted(node: "NodeProto", channels: dict[str, int]) -> bool:
    is_single = node.op_type == "Conv" and channels.get(node.input[1]) == 1
    return node.op_type in _WEIGHTED and not is_single


def _trunk(model: "ModelProto", decodes: Sequence[bool]) -> "ModelProto":
    """The part before the decode as a model of its own; its outputs are the tensors that the decode reads."""
    from onnx import helper

    nodes = [node for node, is_behind in zip(model.graph.node, decodes, strict=True) if not is_behind]
    behind = [node for node, is_behind in zip(model.graph.node, decodes, strict=True) if is_behind]
    made = [name for node in nodes for name in node.output]
    read = {name for node in behind for name in node.input} | {value.name for value in model.graph.output}
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    inside = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        model.graph.name,
        list(model.graph.input),
        [known[name] for name in made if name in read],
        [value for value in model.graph.initializer if value.name in inside],
        value_info=[known[name] for name in made if name in known and name not in read],
    )
    trunk = helper.make_model(graph)
    trunk.CopyFrom(model)
    trunk.graph.CopyFrom(graph)
    return trunk


def _joined(model: "ModelProto", decodes: Sequence[bool], half: "ModelProto") -> "ModelProto":
    """The converted trunk and the decode as it was. An initializer that both read is kept in both types."""
    import onnx

    joined = onnx.ModelProto()
    joined.CopyFrom(half)
    own = {value.name: value for value in half.graph.initializer}
    behind = [node for node, is_behind in zip(model.graph.node, decodes, strict=True) if is_behind]
    read = {name for node in behind for name in node.input}
    renamed = {}
    for value in model.graph.initializer:
        if value.name in read and own.get(value.name) != value:
            copy = joined.graph.initializer.add()
            copy.CopyFrom(value)
            if value.name in own:
                copy.name = renamed[value.name] = f"{value.name}_float32"
    for node in behind:
        copy = joined.graph.node.add()
        copy.CopyFrom(node)
        copy.input[:] = [renamed.get(name, name) for name in node.input]
    del joined.graph.output[:], joined.graph.value_info[:]
    joined.graph.output.extend(model.graph.output)
    return joined


def _require_range(model: "ModelProto") -> None:
    import numpy as np
    import onnx

    for value in model.graph.initializer:
        if value.data_type == onnx.TensorProto.FLOAT:
            largest = float(np.abs(onnx.numpy_helper.to_array(value)).max(initial=0.0))
            if not largest <= _LARGEST:
                found = f"{value.name} holds {largest:.3g}, half precision ends at {_LARGEST:g}"
                raise refuse("half precision", found, "export in float32")
