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
from deploy.onnx_file import OPERATORS, check_onnx


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
    inputs = ["means", "", "", "sizes"] if kind == "Resize" else ["means", "sizes"]
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


def _resized(model, *constant):
    """A Resize to the size that a node of these attributes gives."""
    model.graph.node.append(helper.make_node("Constant", [], ["sizes"], **dict(constant)))
    model.graph.node.append(helper.make_node("Resize", ["means", "", "", "sizes"], ["bomb"]))


def _by_numbers(model):
    _resized(model, ("value_ints", [1 << 20, 1 << 20]))


def _by_one_number(model):
    _resized(model, ("value_int", 1 << 40))


def _by_a_name_that_is_there_twice(model):
    """The harmless one comes last."""
    _by_numbers(model)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "sizes"))


def _by_a_shape_of_many_sides(model):
    model.graph.initializer.append(numpy_helper.from_array(np.array([2] * 40), "sizes"))
    model.graph.node.append(helper.make_node("Resize", ["means", "", "", "sizes"], ["bomb"]))


def _by_what_is_computed(model):
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 20] * 2), "sides"))
    model.graph.node.append(helper.make_node("Mul", ["sides", "sides"], ["sizes"]))
    model.graph.node.append(helper.make_node("Resize", ["means", "", "", "sizes"], ["bomb"]))


def _type_beyond_32_bits() -> bytes:
    """2^32 + 7, which a parser of protobuf takes for 7, int64."""
    tensor = numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "sizes")
    tensor.ClearField("data_type")
    content = tensor.SerializeToString() + b"\x10\x87\x80\x80\x80\x10"
    assert onnx.TensorProto.FromString(content).data_type == TensorProto.INT64
    node = helper.make_node("Resize", ["means", "", "", "sizes"], ["bomb"]).SerializeToString()
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


def _hidden_in_a_subgraph(model):
    """Of an operator that has none."""
    _in_a_subgraph(model)
    model.graph.node[-1].op_type = "Relu"


def _of_another_set(model):
    model.graph.node[0].domain = "com.microsoft"


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
        (b"\x08\x01" * 300_000, "it has more than 250000 fields"),
        (_edited(_dims), "tensor 'channels' declares more than 268435456 elements"),
        (_edited(_dims_within_the_limit), "tensor 'channels' declares 1048576 elements in"),
        (_edited(_negative), "tensor 'channels' has a side of -1"),
        (_edited(_external), "it keeps a tensor in another file"),
        (_edited(_in_an_attribute), "tensor 'big' declares 16777216 elements in"),
        (_edited(_in_a_subgraph), "operator 'If' is none that an export writes"),
        (_edited(_hidden_in_a_subgraph), "it has a graph inside a node"),
        (_edited(_of_another_set), "operator 'AveragePool' is of the set 'com.microsoft', which no export writes"),
        (_edited(_in_a_function), "it has functions of its own"),
        (_edited(_by_numbers), "operator Resize asks for 1.1e+12 elements"),
        (_edited(_by_one_number), "operator Resize asks for 1.1e+12 elements"),
        (_edited(_by_a_name_that_is_there_twice), "operator Resize asks for 1.1e+12 elements"),
        (_edited(_by_a_shape_of_many_sides), "operator Resize asks for inf elements"),
        (_edited(_by_what_is_computed), "operator Resize takes its size from what is computed"),
        (_type_beyond_32_bits(), "operator Resize asks for 1.1e+12 elements"),
        (_joined_tensor(), "it has a tensor of an attribute twice"),
        (colour_model() * 2, "it has a graph twice"),
        (_edited(_sparse), "it has a sparse tensor"),
        (_edited(_output), "value 'boxes' declares more than 268435456 elements"),
        (_sized_by("ConstantOfShape", [1, 3], False), "operator 'ConstantOfShape' is none that an export writes"),
        (_sized_by("Expand", [1, 3], False), "operator 'Expand' is none that an export writes; do not use this bundle"),
        (_sized_by("Tile", [1, 1, 1, 1], True), "operator 'Tile' is none that an export writes"),
        (_sized_by("Resize", [1, 3, 1 << 14, 1 << 14], False), "operator Resize asks for 8.05e+08 elements"),
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
    _check(tmp_path, _sized_by("Resize", [1, 3, 64, 64], True))
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


@pytest.mark.parametrize(
    "kind", ["Range", "OneHot", "RandomUniform", "Identity", "Loop", "NonZero", "EyeLike", "CumSum"]
)
def test_operators_that_no_export_writes_are_refused(tmp_path, kind):
    """Whether they do harm or not: an operator that nobody asked for was not looked at either."""
    with pytest.raises(UserError, match=f"operator '{kind}' is none that an export writes; .* skylight export"):
        _check(tmp_path, _edited(lambda model: model.graph.node.append(helper.make_node(kind, ["means"], ["x"]))))


def test_every_parser_of_a_board_knows_the_operators():
    from jetson.parser import parser_names, read_parser

    for name in parser_names():
        assert [operator for operator in OPERATORS if not read_parser(name).reads(operator)] == []
