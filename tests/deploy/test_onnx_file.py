"""A model that declares more than its file can hold is refused before anything loads it."""

import re
import time
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from colour_model import colour_model
from onnx import TensorProto, helper, numpy_helper

from deploy.errors import UserError
from deploy.onnx_file import check_onnx


def _check(tmp_path, model):
    path = tmp_path / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    check_onnx(path)


def _sized_by(kind: str, sizes: list[int], is_node: bool) -> onnx.ModelProto:
    """A model with an operator whose output is as large as a constant says."""
    model = onnx.load_model_from_string(colour_model())
    constant = numpy_helper.from_array(np.array(sizes, np.int64), "sizes")
    if is_node:
        model.graph.node.append(helper.make_node("Constant", [], ["sizes"], value=constant))
    else:
        model.graph.initializer.append(constant)
    inputs = {"ConstantOfShape": ["sizes"], "Resize": ["means", "", "", "sizes"]}.get(kind, ["means", "sizes"])
    model.graph.node.append(helper.make_node(kind, inputs, ["bomb"]))
    return model


def _edited(change: Callable[[onnx.ModelProto], None]) -> onnx.ModelProto:
    model = onnx.load_model_from_string(colour_model())
    change(model)
    return model


def _dims(model):
    model.graph.initializer[0].dims[:] = [1 << 16, 1 << 16, 1 << 16]


def _dims_within_the_limit(model):
    model.graph.initializer[0].dims[:] = [1 << 20]


def _negative(model):
    model.graph.initializer[0].dims[:] = [-1]


def _external(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def _in_an_attribute(model):
    value = helper.make_tensor("big", TensorProto.FLOAT, [1], [0.0])
    value.dims[:] = [1 << 24]
    model.graph.node.append(helper.make_node("Constant", [], ["big"], value=value))


def _by_numbers(model):
    model.graph.node.append(helper.make_node("Constant", [], ["sizes"], value_ints=[1 << 20, 1 << 20]))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["sizes"], ["bomb"]))


def _by_one_number(model):
    model.graph.node.append(helper.make_node("Constant", [], ["size"], value_int=1 << 40))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["size"], ["bomb"]))


def _by_a_name_that_is_there_twice(model):
    """The one inside a node is harmless and comes last."""
    sizes = numpy_helper.from_array(np.array([1 << 20, 1 << 20]))
    model.graph.node.append(helper.make_node("Constant", [], ["sizes"], value=sizes))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["sizes"], ["bomb"]))
    inner = onnx.load_model_from_string(colour_model()).graph
    inner.initializer.append(numpy_helper.from_array(np.array([1]), "sizes"))
    model.graph.node.append(helper.make_node("If", ["means"], ["x"], then_branch=inner, else_branch=inner))


def _by_a_shape_of_many_sides(model):
    model.graph.initializer.append(numpy_helper.from_array(np.array([2] * 40), "sizes"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["sizes"], ["bomb"]))


def _type_beyond_32_bits() -> bytes:
    """2^32 + 7, which a parser of protobuf takes for 7, int64."""
    tensor = numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "sizes")
    tensor.ClearField("data_type")
    content = tensor.SerializeToString() + b"\x10\x87\x80\x80\x80\x10"
    assert onnx.TensorProto.FromString(content).data_type == TensorProto.INT64
    node = helper.make_node("ConstantOfShape", ["sizes"], ["bomb"]).SerializeToString()
    return _with_fields(_field(5, content) + _field(1, node))


def _joined_tensor() -> bytes:
    """A tensor in two parts, each as large as it says; a parser of protobuf joins their sides."""
    part = _field(5, numpy_helper.from_array(np.zeros(50, np.float32)).SerializeToString())
    attribute = b"\x0a\x05value\xa0\x01\x04" + part * 5
    joined = onnx.AttributeProto.FromString(attribute)
    assert list(joined.t.dims) == [50] * 5
    return _with_fields(_field(1, b"\x12\x03big" + _field(4, b"Constant") + _field(5, attribute)))


def _field(number: int, content: bytes) -> bytes:
    assert len(content) < 1 << 14
    length = bytes([len(content) & 127 | 128, len(content) >> 7])
    return bytes([number << 3 | 2]) + length + content


def _with_fields(content: bytes) -> bytes:
    """The colour model, with more fields in its graph."""
    model = onnx.load_model_from_string(colour_model())
    graph = model.graph.SerializeToString() + content
    model.ClearField("graph")
    return bytes(model.SerializeToString()) + _field(7, graph)


def _in_a_subgraph(model):
    inner = onnx.load_model_from_string(colour_model()).graph
    inner.initializer[0].dims[:] = [1 << 24]
    model.graph.node.append(helper.make_node("If", ["means"], ["x"], then_branch=inner, else_branch=inner))


def _in_a_function(model):
    value = helper.make_tensor("big", TensorProto.FLOAT, [1], [0.0])
    value.dims[:] = [1 << 24]
    node = helper.make_node("Constant", [], ["y"], value=value)
    model.functions.append(helper.make_function("d", "f", [], ["y"], [node], [helper.make_opsetid("", 11)]))


def _nested(model):
    graph = onnx.load_model_from_string(colour_model()).graph
    for _ in range(12):
        graph = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=graph)], "g", [], [])
    model.graph.CopyFrom(graph)


def _sparse(model):
    model.graph.sparse_initializer.add().dims[:] = [1 << 40]


def _output(model):
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1 << 40


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"", "is empty"),
        (b"no model", "is no ONNX file: "),
        (colour_model()[:-20], "is no ONNX file: it breaks off at byte"),
        (b"\x08\x06", "is no ONNX file: it has no graph"),
        (b"\x3a" + b"\xff" * 10, "is no ONNX file: a number has no end"),
        (b"\x08\x01" * 300_000, "it has more than 500000 fields"),
        (_edited(_dims), "tensor 'channels' declares more than 268435456 elements"),
        (_edited(_dims_within_the_limit), "tensor 'channels' declares 1048576 elements in"),
        (_edited(_negative), "tensor 'channels' has a side of -1"),
        (_edited(_external), "it keeps a tensor in another file"),
        (_edited(_in_an_attribute), "tensor 'big' declares 16777216 elements in"),
        (_edited(_in_a_subgraph), "declares 16777216 elements in"),
        (_edited(_in_a_function), "it has functions of its own"),
        (_edited(_by_numbers), "operator ConstantOfShape asks for 1.1e+12 elements"),
        (_edited(_by_one_number), "operator ConstantOfShape asks for 1.1e+12 elements"),
        (_edited(_by_a_name_that_is_there_twice), "operator ConstantOfShape asks for 1.1e+12 elements"),
        (_edited(_by_a_shape_of_many_sides), "operator ConstantOfShape asks for inf elements"),
        (_type_beyond_32_bits(), "operator ConstantOfShape asks for 1.1e+12 elements"),
        (_joined_tensor(), "it has a tensor of an attribute twice"),
        (colour_model() * 2, "it has a graph twice"),
        (_edited(_nested), "it nests graphs more than 8 deep"),
        (_edited(_sparse), "it has a sparse tensor"),
        (_edited(_output), "value 'boxes' declares more than 268435456 elements"),
        (_sized_by("ConstantOfShape", [1 << 20, 1 << 20], False), "operator ConstantOfShape asks for 1.1e+12 elements"),
        (_sized_by("ConstantOfShape", [1 << 20, 1 << 20], True), "operator ConstantOfShape asks for 1.1e+12 elements"),
        (_sized_by("Expand", [1, 1 << 30], False), "operator Expand asks for 1.07e+09 elements"),
        (_sized_by("Tile", [1, 1 << 15, 1 << 15, 1], False), "operator Tile asks for 1.07e+09 elements"),
        (_sized_by("Resize", [1, 3, 1 << 14, 1 << 14], True), "operator Resize asks for 8.05e+08 elements"),
        (_sized_by("Pad", [0, 0, 0, 0, 0, 0, 1 << 29, 0], False), "operator Pad asks for 5.37e+08 elements"),
        (_sized_by("Pad", [0, 0, 1 << 15, 1 << 15, 0, 0, 0, 0], False), "operator Pad asks for 1.07e+09 elements"),
    ],
)  # fmt: skip
def test_bombs_are_refused_at_once(tmp_path, model, message):
    started = time.perf_counter()
    with pytest.raises(UserError, match=r"model\.onnx: .*" + re.escape(message)):
        _check(tmp_path, model)
    assert time.perf_counter() - started < 3


def test_models_as_they_are_exported_pass(tmp_path):
    from pipeline.darknet import DarknetNetwork, adapted, network_cfg
    from pipeline.export.onnx import export_onnx
    from pipeline.networks.darknet import DarknetDetector

    _check(tmp_path, colour_model())
    _check(tmp_path, _sized_by("ConstantOfShape", [1, 3, 64, 64], True))
    for name in ("yolov3-tiny", "yolov4-tiny"):
        network = DarknetNetwork(adapted(network_cfg(name), 416, 416, 80))
        _check(tmp_path, export_onnx(DarknetDetector(network)).model)


def test_half_precision_passes(tmp_path):
    model = onnx.load_model_from_string(colour_model())
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), tensor.name))
    _check(tmp_path, model)
