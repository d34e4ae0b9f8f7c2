"""ONNX models by hand, for tests of what looks at ONNX files."""

from collections.abc import Mapping, Sequence
from typing import Any

from onnx import TensorProto, helper, numpy_helper

__all__ = ["made", "node"]


def made(
    nodes: Sequence[Any],
    constants: Mapping[str, Any] | None = None,
    inputs: Mapping[str, tuple[int, Sequence[int | str]]] | None = None,
    outputs: dict[str, int] | None = None,
    opset: int = 13,
    domains: Sequence[str] = (),
) -> bytes:
    """A model of these nodes; it is fed x (1, 3, 8, 8) float32 and gives y, unless said otherwise."""
    feeds = inputs or {"x": (TensorProto.FLOAT, (1, 3, 8, 8))}
    graph = helper.make_graph(
        list(nodes),
        "made",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in feeds.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in (outputs or {"y": 1}).items()],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def node(kind: str, inputs: str = "x", outputs: str = "y", **attributes: Any) -> Any:
    """A node called the_node, from names separated by commas."""
    return helper.make_node(kind, inputs.split(","), outputs.split(","), name="the_node", **attributes)
