"""An ONNX file as lint and profile look at it: nodes of all graphs, constants, types and shapes. Judges nothing.

Safe on files of strangers: what is declared is compared with what is there before anything is allocated.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError, refuse
from pipeline.export.infer import infer
from pipeline.export.scan import read_checked

__all__ = ["Graph", "plain_text", "read_graph", "type_name"]

# Weights of more elements than this say nothing about shapes.
_SMALL = 4096
_MOST_DIMENSIONS = 32
_DEFAULT_DOMAINS = ("", "ai.onnx")
_NAMES = {"FLOAT": "FP32", "FLOAT16": "FP16", "BFLOAT16": "BF16", "DOUBLE": "FP64"}


def type_name(element: int) -> str:
    """The name of an element type as parsers' tables write it: FP32, INT64, ..."""
    import onnx

    try:
        name = onnx.TensorProto.DataType.Name(element)
    except ValueError:
        return f"type {element}"
    return _NAMES.get(name, name)


def plain_text(text: str, most: int = 80) -> str:
    """Text from a file, fit for one line of a terminal."""
    clean = "".join(character if character.isprintable() else "?" for character in text[: most + 1])
    return clean if len(clean) <= most else clean[: most - 3] + "..."


@dataclass(frozen=True)
class Graph:
    """A model and where it came from.

    Attributes:
        model: onnx.ModelProto. name: what to call it. folder: where its external data would lie, None for bytes.
    """

    model: Any
    name: str
    folder: Path | None

    @property
    def opset(self) -> int | None:
        """Version of the default operator set; None where the model does not import it."""
        found = [entry.version for entry in self.model.opset_import if entry.domain in _DEFAULT_DOMAINS]
        return max(found) if found else None

    @cached_property
    def graphs(self) -> tuple[Any, ...]:
        """The graph and those inside its nodes, outer ones first."""
        found = [self.model.graph]
        for graph in found:
            found += [inner for node in graph.node for inner in _inner_graphs(node)]
        return tuple(found)

    @property
    def nodes(self) -> Iterator[Any]:
        """Nodes of every graph, in order."""
        return (node for graph in self.graphs for node in graph.node)

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What is fed: inputs of the outermost graph that no initialiser gives."""
        given = {tensor.name for tensor in self.model.graph.initializer}
        return tuple(value for value in self.model.graph.input if value.name not in given)

    @cached_property
    def constants(self) -> dict[str, Any]:
        """Initialisers and values of Constant nodes by name, as onnx.TensorProto."""
        found = {tensor.name: tensor for graph in self.graphs for tensor in graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and node.domain in _DEFAULT_DOMAINS and node.output:
                tensor = _constant_value(node)
                if tensor is not None:
                    found[node.output[0]] = tensor
        return found

    def value(self, name: str) -> np.ndarray:
        """The numbers of a constant that lies in the file, in its own shape and type.

        Raises:
            UserError: it holds more or less than it declares.
        """
        from onnx import numpy_helper

        tensor = self.constants[name]
        _require_whole(tensor, self.name)
        try:
            return np.asarray(numpy_helper.to_array(tensor))
        except (TypeError, ValueError, KeyError):
            raise _not_whole(tensor, self.name, "cannot be read") from None

    @cached_property
    def _inferred(self) -> tuple[Any, str | None]:
        return infer(_without_large_weights(self.model), is_isolated=self.folder is not None)

    @property
    def problem(self) -> str | None:
        """What onnx has against the model: types or shapes that contradict each other, an invalid graph."""
        problem = self._inferred[1]
        return None if problem is None else plain_text(problem, 160)

    @cached_property
    def values(self) -> dict[str, tuple[int, tuple[int | None, ...] | None]]:
        """Element type (0 if unknown) and shape (None if unknown, None for a size that is) of every named tensor."""
        found: dict[str, tuple[int, tuple[int | None, ...] | None]] = {
            name: (tensor.data_type, tuple(tensor.dims)) for name, tensor in self.constants.items()
        }
        for graph in Graph(self._inferred[0], self.name, self.folder).graphs:
            for value in (*graph.input, *graph.value_info, *graph.output):
                found.setdefault(value.name, (value.type.tensor_type.elem_type, _shape(value)))
        return found

    def element(self, name: str) -> str | None:
        """Name of the element type of a tensor, None if unknown."""
        element = self.values.get(name, (0, None))[0]
        return type_name(element) if element else None

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """Shape of a tensor, None if not even its rank is known."""
        return self.values.get(name, (0, None))[1]

    def static_shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of a tensor if all of it is known."""
        shape = self.shape(name)
        return None if shape is None or None in shape else tuple(size for size in shape if size is not None)


def read_graph(source: Path | bytes) -> Graph:
    """Read a model; see `read_checked` for what is refused, and tensors that are not whole."""
    model, name = read_checked(source)
    graph = Graph(model, name, source.parent if isinstance(source, Path) else None)
    for tensor in graph.constants.values():
        _require_whole(tensor, name)
    return graph


def _require_whole(tensor: Any, name: str) -> None:
    """Refuse a tensor that declares another size than it holds; how long external data are is another matter."""
    import onnx

    if len(tensor.dims) > _MOST_DIMENSIONS or any(size < 0 for size in tensor.dims):
        raise _not_whole(tensor, name, f"has the shape {plain_text(str(list(tensor.dims[:_MOST_DIMENSIONS])))}")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return
    count, bits = math.prod(tensor.dims), _bits(tensor.data_type)
    if tensor.data_type == onnx.TensorProto.STRING:
        needed, held = count, len(tensor.string_data)
    elif tensor.HasField("raw_data"):
        needed, held = (count * bits + 7) // 8, len(tensor.raw_data)
    else:
        typed = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
        held = sum(map(len, typed))
        is_complex = tensor.data_type in (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
        # Complex numbers are two entries; several of less than a byte share one.
        needed = 2 * count if is_complex else -(-count * bits // 8) if 0 < bits < 8 else count
    if needed != held:
        raise _not_whole(tensor, name, f"declares {plain_text(str(list(tensor.dims)))} but holds {held} of {needed}")


def _not_whole(tensor: Any, name: str, found: str) -> UserError:
    return refuse(f"{name}: tensor {plain_text(tensor.name) or '(no name)'}", found, "export the model again")


def _bits(element: int) -> int:
    """Size of an element in bits; 0 for texts and what is unknown."""
    from onnx import helper

    name = type_name(element)
    if name.endswith(("INT4", "INT2", "E2M1")):
        return 2 if name.endswith("INT2") else 4
    try:
        return int(helper.tensor_dtype_to_np_dtype(element).itemsize) * 8
    except (KeyError, TypeError, ValueError):
        return 0


def _inner_graphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _constant_value(node: Any) -> Any:
    """What a Constant node gives, as a tensor; None for what is no tensor of numbers."""
    from onnx import numpy_helper

    for attribute in node.attribute:
        if attribute.name == "value":
            tensor = type(attribute.t)()
            tensor.CopyFrom(attribute.t)
            tensor.name = node.output[0]
            return tensor
        if attribute.name in ("value_int", "value_ints"):
            numbers: Any = attribute.i if attribute.name == "value_int" else list(attribute.ints)
            return numpy_helper.from_array(np.asarray(numbers, np.int64), node.output[0])
        if attribute.name in ("value_float", "value_floats"):
            numbers = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            return numpy_helper.from_array(np.asarray(numbers, np.float32), node.output[0])
    return None


def _shape(value: Any) -> tuple[int | None, ...] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim)


def _without_large_weights(model: Any) -> Any:
    """A copy of what shapes follow from: large weights are inputs in it."""
    import onnx
    from onnx import helper

    bare = onnx.ModelProto()
    bare.ir_version = max(model.ir_version, 4)
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    graph = bare.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.value_info.extend(model.graph.value_info)
    graph.output.extend(model.graph.output)
    external = onnx.TensorProto.EXTERNAL
    large = [t for t in model.graph.initializer if t.data_location == external or math.prod(t.dims) > _SMALL]
    given = {tensor.name for tensor in large}
    graph.input.extend(value for value in model.graph.input if value.name not in given)
    graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in large)
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name not in given)
    return bare
