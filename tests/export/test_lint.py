"""Lint: our own exports are clean on every board, each rule finds what it is for, and no file does harm."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from drawn import SMALL_CFG, assert_refused
from onnx import TensorProto, helper
from onnx_models import made, node

from jetson.board import Board, board_names, read_board
from pipeline.darknet import DarknetNetwork, adapted, network_cfg, read_cfg
from pipeline.errors import UserError
from pipeline.export.lint import Finding, lint, require_accepted
from pipeline.export.onnx import export_onnx
from pipeline.networks.darknet import DarknetDetector

TX2 = read_board("jetson-tx2")
ORIN = read_board("jetson-orin-nano")


def errors(model: bytes, board: Board = TX2) -> list[Finding]:
    """The errors, every one of them with a remedy."""
    found = [finding for finding in lint(model, board) if finding.severity == "error"]
    assert all(finding.remedy and finding.reason for finding in found)
    return found


@pytest.fixture(scope="module")
def tiny() -> bytes:
    """Tiny-YOLOv3 at 416 with random weights."""
    torch.manual_seed(0)
    return export_onnx(DarknetDetector(DarknetNetwork(network_cfg("yolov3-tiny")))).model


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A network with two heads in 95 kB."""
    cfg = tmp_path_factory.mktemp("small") / "small.cfg"
    cfg.write_text(SMALL_CFG)
    return export_onnx(DarknetDetector(DarknetNetwork(adapted(read_cfg(cfg), 64, 64, 1)))).model


@pytest.mark.parametrize("name", board_names())
def test_our_own_export_is_clean_on_every_board(tiny, name):
    assert lint(tiny, read_board(name)) == ()
    assert require_accepted(tiny, read_board(name)) == ()


def test_yolo11n_is_accepted_where_its_opset_is(tmp_path):
    """An Ultralytics model with random weights, as torch exports it."""
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel("yolo11n.yaml", verbose=False).eval()
    for module in model.modules():
        if hasattr(module, "export"):
            vars(module).update(export=True, format="onnx")
    path = tmp_path / "yolo11n.onnx"
    images = torch.zeros(1, 3, 64, 64)
    torch.onnx.export(model, (images,), str(path), opset_version=13, dynamo=False, input_names=["images"])
    for name in board_names():
        assert not errors(path.read_bytes(), read_board(name))
    torch.onnx.export(model, (images,), str(path), opset_version=17, dynamo=False, input_names=["images"])
    assert not errors(path.read_bytes(), ORIN)
    assert "opset 17; TensorRT 8.2 reads 9 to 13" in str(errors(path.read_bytes())[0])


X2 = np.array([1, 1, 2, 2], np.float32)
EMPTY = np.array([], np.float32)
ONES = np.ones(1, np.float32)
CELLS = {"x": (TensorProto.INT32, (1, 4))}

# What is wrong, the model, and what the finding says of it on a TX2: operator, reason, remedy.
RULES: list[tuple[str, Callable[[], bytes], str, str, str]] = [
    (
        "opset too new",
        lambda: made([node("Relu")], opset=17),
        "model",
        "opset 17; TensorRT 8.2 reads 9 to 13",
        "opset 13",
    ),
    ("opset too old", lambda: made([node("Relu")], opset=8), "model", "opset 8; TensorRT 8.2", "opset 9 or more"),
    ("unsupported", lambda: made([node("Mod", "x,c", fmod=1)], {"c": ONES}), "Mod", "does not support it", "floor"),
    ("nonzero", lambda: made([node("NonZero")], outputs={"y": 7}), "NonZero", "does not support it", "decode"),
    ("unknown", lambda: made([node("Frobnicate")]), "Frobnicate", "does not know it", "operators that it has"),
    (
        "other domain",
        lambda: made([node("FusedConv", domain="com.microsoft")], domains=["com.microsoft"]),
        "FusedConv",
        "operator set com.microsoft is unknown",
        "ONNX's own",
    ),
    (
        "plugin",
        lambda: made([node("BatchTilePlugin_TRT", domain="TRT")], domains=["TRT"]),
        "BatchTilePlugin_TRT",
        "only a TensorRT plugin has it",
        "engines here load no plugin",
    ),
    (
        "NMS",
        lambda: made(
            [node("NonMaxSuppression", "b,s,n,i,t")],
            {"n": np.array([9]), "i": ONES, "t": ONES},
            {"b": (1, (1, 9, 4)), "s": (1, (1, 1, 9))},
            {"y": 7},
        ),
        "NonMaxSuppression",
        "NMS inside the graph",
        "nms=False",
    ),
    (
        "dynamic batch",
        lambda: made([node("Relu")], inputs={"x": (1, ("batch", 3, 8, 8))}),
        "input",
        "dimension 0 (batch) is not fixed",
        "dynamic=False",
    ),
    (
        "double input",
        lambda: made([node("Relu")], inputs={"x": (11, (1, 3))}, outputs={"y": 11}),
        "input",
        "FP64",
        "FP32",
    ),
    (
        "int64 input",
        lambda: made([node("Identity")], inputs={"x": (7, (1, 3))}, outputs={"y": 7}),
        "input",
        "INT64, which TensorRT 8.2 reads as INT32",
        "make it INT32",
    ),
    (
        "uint8 input",
        lambda: made([node("Cast", to=1)], inputs={"x": (2, (1, 3, 8, 8))}),
        "input",
        "UINT8; TensorRT 8.2 has FP32",
        "cast",
    ),
    (
        "int64 weights",
        lambda: made([node("Add", "x,c")], {"c": np.array([2**40])}, {"x": (7, (1, 1))}, {"y": 7}),
        "constant",
        "INT64 beyond INT32",
        "write it as INT32",
    ),
    (
        "double weights",
        lambda: made([node("Cast", "c", to=1)], {"c": np.array([1e300])}),
        "constant",
        "FP64 beyond FP32",
        "write it as FP32",
    ),
    (
        "type",
        lambda: made([node("Pow", "x,x")], inputs=CELLS, outputs={"y": 6}),
        "Pow",
        "computes on INT32",
        "cast to FP32",
    ),
    (
        "cubic resize",
        lambda: made([node("Resize", "x,r,s", mode="cubic")], {"r": EMPTY, "s": X2}),
        "Resize",
        "mode is cubic; TensorRT 8.2 has nearest, linear",
        "use mode nearest",
    ),
    (
        "resize by crop",
        lambda: made(
            [node("Resize", "x,r,s", mode="linear", coordinate_transformation_mode="tf_crop_and_resize")],
            {"r": np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32), "s": X2},
        ),
        "Resize",
        "coordinate_transformation_mode is tf_crop_and_resize",
        "half_pixel",
    ),
    (
        "computed bound of Clip",
        lambda: made([helper.make_node("ReduceMin", ["x"], ["m"], keepdims=0), node("Clip", "x,m")]),
        "Clip",
        "input min is computed",
        "initialiser",
    ),
    (
        "computed Range",
        lambda: made([node("Range", "a,l,d")], {"a": np.float32(0), "d": np.float32(1)}, {"l": (1, ())}),
        "Range",
        "input limit is computed",
        "constant",
    ),
    (
        "1D pooling",
        lambda: made([node("AveragePool", kernel_shape=[2])], inputs={"x": (1, (1, 3, 8))}),
        "AveragePool",
        "has 1 spatial dimensions",
        "add or drop",
    ),
    (
        "zero point",
        lambda: made(
            [node("DequantizeLinear", "x,s,z")],
            {"s": np.float32(1), "z": np.int8(3)},
            {"x": (TensorProto.INT8, (1, 4))},
        ),
        "DequantizeLinear",
        "x_zero_point is not 0",
        "symmetrically",
    ),
    (
        "contradiction",
        lambda: made([node("Add", "x,c")], {"c": np.ones((5, 7), np.float32)}),
        "model",
        "onnx says",
        "again",
    ),
    ("wrong order", lambda: made([node("Relu", "z"), node("Relu", "x", "z")]), "model", "onnx says", "again"),
]


@pytest.mark.parametrize(("model", "operator", "reason", "remedy"), [r[1:] for r in RULES], ids=[r[0] for r in RULES])
def test_each_rule_names_node_operator_reason_and_remedy(model, operator, reason, remedy):
    found = errors(model())
    matching = [finding for finding in found if finding.operator == operator and reason in finding.reason]
    assert matching, found
    assert remedy in matching[0].remedy
    if operator[0].isupper():
        assert matching[0].node == "the_node"


def test_same_operators_pass_where_the_limit_is_kept():
    fine = [
        made([node("Resize", "x,r,s", mode="nearest", nearest_mode="floor")], {"r": EMPTY, "s": X2}),
        made([node("Clip", "x,m")], {"m": np.float32(0)}),
        made([node("AveragePool", kernel_shape=[2, 2])]),
        made([node("Range", "a,l,d")], {"a": np.float32(0), "l": np.float32(4), "d": np.float32(1)}),
        made([node("Add", "x,c")], {"c": np.array([2**31 - 1], np.int32)}, CELLS, {"y": 6}),
    ]
    for model in fine:
        assert not errors(model), errors(model)


def test_newer_parser_knows_more():
    model = made([node("Mod", "x,c", fmod=1)], {"c": ONES})
    assert errors(model)
    assert not errors(model, ORIN)
    wide = made([node("Add", "x,c")], {"c": np.array([2**40])}, {"x": (7, (1, 1))}, {"y": 7})
    assert errors(wide)
    assert not errors(wide, ORIN)


def test_control_flow_is_found_and_what_is_in_it():
    branch = helper.make_graph(
        [helper.make_node("Mod", ["x", "c"], ["out"], fmod=1, name="inside")],
        "branch",
        [],
        [helper.make_tensor_value_info("out", 1, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["out"])], "other", [], [helper.make_tensor_value_info("out", 1, None)]
    )
    model = made([node("If", "f", then_branch=branch, else_branch=other)], {"c": ONES, "f": np.array(True)})
    found = errors(model)
    assert [(finding.operator, finding.node) for finding in found] == [("If", "the_node"), ("Mod", "inside")]
    assert "control flow" in found[0].reason


def test_what_is_no_error_is_a_warning():
    batch = lint(made([node("Relu")], inputs={"x": (1, (4, 3, 8, 8))}), TX2)
    assert [(f.severity, f.reason) for f in batch] == [("warning", "batch 4: the loop has one picture at a time")]
    to_the_end = {"b": np.array([1]), "e": np.array([2**63 - 1]), "a": np.array([2])}
    sliced = lint(made([node("Slice", "x,b,e,a")], to_the_end), TX2)
    assert [(f.severity, f.operator, f.node) for f in sliced] == [("warning", "constant", "e")]
    double = lint(made([node("Cast", "c", to=1)], {"c": np.array([0.1])}), TX2)
    assert [f.severity for f in double] == ["warning"]
    assert "rounds to FP32" in double[0].reason


def test_first_finding_is_the_message_of_a_refusal():
    model = made([node("Mod", "x,c", "z", fmod=1), node("NonZero", "z")], {"c": ONES}, outputs={"y": 7})
    with pytest.raises(UserError, match=r"model on jetson-tx2: Mod the_node: TensorRT 8.2 does not support it; .*more"):
        require_accepted(model, TX2)


def test_network_larger_than_the_memory(tmp_path, small):
    content = yaml.safe_load((Path(__file__).parents[2] / "jetson/boards/jetson-tx2.yaml").read_text())
    content["memory"]["gib"] = 0.0001
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    found = errors(small, read_board(tmp_path / "mine.yaml"))
    assert "of weights; jetson-tx2 has 0.0001 GiB for everything" in found[0].reason


def _with_external_weights(folder: Path, location: str) -> Path:
    model = onnx.load_model_from_string(made([node("Add", "x,c")], {"c": np.ones((1, 3, 8, 8), np.float32)}))
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.extend(
        onnx.StringStringEntryProto(key=key, value=value) for key, value in (("location", location), ("length", "768"))
    )
    tensor.ClearField("raw_data")
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_external_weights(tmp_path):
    path = _with_external_weights(tmp_path, "weights.bin")
    assert "weights.bin, which is missing" in lint(path, TX2)[0].reason
    (tmp_path / "weights.bin").write_bytes(bytes(700))
    assert "end before weights.bin does" in lint(path, TX2)[0].reason
    (tmp_path / "weights.bin").write_bytes(bytes(768))
    assert [(f.severity, f.reason) for f in lint(path, TX2)] == [
        ("warning", "its data lie in weights.bin; a bundle has one file")
    ]
    for outside in ("/etc/passwd", "../weights.bin", ""):
        found = lint(_with_external_weights(tmp_path, outside), TX2)
        assert "outside the folder of the model" in found[0].reason
    for impossible in ("w" * 5000, "w\0"):
        assert "which is missing" in lint(_with_external_weights(tmp_path, impossible), TX2)[0].reason


def test_command(skylight, tmp_path, small):
    (tmp_path / "small.onnx").write_bytes(small)
    done = skylight("export", "lint", tmp_path / "small.onnx", "--board", "jetson-tx2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("on jetson-tx2 (TensorRT 8.2, opset 9 to 13): taken, nothing against it\n")
    (tmp_path / "mod.onnx").write_bytes(made([node("Mod", "x,c", fmod=1)], {"c": ONES}))
    done = skylight("export", "lint", tmp_path / "mod.onnx", "--board", "jetson-tx2")
    assert (done.returncode, done.stderr) == (2, "")
    assert "error  Mod" in done.stdout
    done = skylight("export", "lint", tmp_path / "mod.onnx", "--board", "jetson-tx2", "--json")
    assert done.returncode == 2
    said = json.loads(done.stdout)
    assert (said["board"], said["accepted"], said["findings"][0]["operator"]) == ("jetson-tx2", False, "Mod")
    assert_refused(
        skylight("export", "lint", tmp_path / "none.onnx", "--board", "jetson-tx2"), "none.onnx: No such file"
    )
    assert_refused(
        skylight("export", "lint", tmp_path / "mod.onnx", "--board", "tx3"), "board tx3: unknown", "jetson-tx2"
    )
