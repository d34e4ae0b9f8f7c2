"""Profiles: what is counted agrees with a count by hand and with Darknet, what is measured is, estimates are marked."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import assert_refused
from onnx import TensorProto, helper, numpy_helper

from deploy.strict_json import canonical_json
from jetson.board import read_board
from pipeline.darknet import DarknetNetwork, adapted, network_cfg
from pipeline.errors import UserError
from pipeline.export.flops import flops
from pipeline.export.graph import read_graph
from pipeline.export.onnx import export_onnx
from pipeline.export.profile import Profile, profile
from pipeline.networks.darknet import DarknetDetector
from pipeline.report.export import profile_text

TX2 = read_board("jetson-tx2")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny-YOLOv3 for the 80 classes of COCO at 416, with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    path.write_bytes(export_onnx(DarknetDetector(DarknetNetwork(network_cfg("yolov3-tiny")))).model)
    return path


@pytest.fixture(scope="module")
def found(tiny: Path) -> Profile:
    """Its profile for a TX2, over three runs."""
    return profile(tiny, TX2, runs=3)


def test_one_convolution_counted_by_hand(found):
    """Layer 12 of Tiny-YOLOv3: 1024 filters of 3 x 3 over 512 channels on 13 x 13 cells, then a leaky ReLU."""
    layer = next(layer for layer in found.layers if "layers.12/" in layer.name)
    assert layer.operators == ("Conv", "LeakyRelu")
    cells = 13 * 13
    assert layer.flops == 2 * 1024 * 3 * 3 * 512 * cells + 1024 * cells
    assert layer.weights == 2 * (1024 * 512 * 3 * 3 + 1024)  # FP16, kernel and folded bias
    assert layer.activations == 2 * (512 + 1024) * cells
    assert layer.bound == "arithmetic"
    assert layer.estimate == pytest.approx(1000 * layer.flops / 1.332e12)
    assert layer.milliseconds > 0


def test_total_is_darknets(tiny, found):
    """AlexeyAB's Darknet prints 5.571 BFLOPs for 80 classes and 5.448 for one: convolutions and max pools."""
    assert found.convolution_flops == 5564961792
    pools = _pool_flops(tiny)
    assert round((found.convolution_flops + pools) / 1e9, 3) == 5.571
    one_class = export_onnx(DarknetDetector(DarknetNetwork(adapted(network_cfg("yolov3-tiny"), 416, 416, 1)))).model
    graph = read_graph(one_class)
    convolutions = sum(flops(node, graph) or 0 for node in graph.nodes if node.op_type == "Conv")
    assert round((convolutions + pools) / 1e9, 3) == 5.448


def _pool_flops(path: Path) -> int:
    graph = read_graph(path.read_bytes())
    return sum(flops(node, graph) or 0 for node in graph.nodes if node.op_type == "MaxPool")


def test_layers_add_up(found):
    assert sum(layer.flops for layer in found.layers) == found.flops
    assert found.uncounted == ()
    # All but constants that are only numbers of axes; equal biases, as of random weights, are one tensor in the file,
    # read by several layers.
    assert abs(found.weights - sum(layer.weights for layer in found.layers)) < 4000
    assert found.largest_activation == 2 * 16 * 416 * 416
    assert found.estimate == pytest.approx(sum(layer.estimate or 0 for layer in found.layers))
    assert found.whole < 5 * found.measured
    weights = 2 * sum(parameter.numel() for parameter in DarknetNetwork(network_cfg("yolov3-tiny")).parameters())
    assert found.weights == pytest.approx(weights, rel=0.01)


def test_estimate_depends_on_precision_and_board(tiny, found):
    single = profile(tiny, TX2, "fp32", runs=1)
    assert single.weights == pytest.approx(2 * found.weights, rel=0.001)
    assert found.estimate is not None
    assert single.estimate == pytest.approx(2 * found.estimate, rel=0.001)
    orin = profile(tiny, read_board("jetson-orin-nano"), "int8", runs=1)
    assert orin.estimate is not None
    assert orin.estimate < found.estimate / 3
    assert profile(tiny, read_board("workstation"), runs=1).estimate is None
    with pytest.raises(UserError, match="jetson-tx2: int8: its GPU"):
        profile(tiny, TX2, "int8", runs=1)


def test_estimates_are_marked_as_such(found):
    text = profile_text(found)
    assert "* an estimate, not measured: the roofline of jetson-tx2 in fp16" in text
    assert "measured here: " in text
    assert "median of 3 runs" in text
    assert "5.577 GFLOP, 5.565 of them in convolutions" in text
    assert found.as_dict()["is_measured_on_board"] is False
    json.dumps(found.as_dict())


@pytest.mark.parametrize(
    ("kind", "attributes", "shapes", "expected"),
    [
        ("Conv", {"group": 4}, [(1, 8, 10, 10), (12, 2, 3, 3)], 2 * 12 * 8 * 8 * 2 * 3 * 3),
        ("Conv", {"strides": [2, 2], "pads": [1, 1, 1, 1]}, [(1, 3, 10, 10), (4, 3, 3, 3)], 2 * 4 * 5 * 5 * 3 * 9),
        ("ConvTranspose", {"strides": [2, 2]}, [(1, 6, 5, 5), (6, 4, 2, 2)], 2 * 6 * 5 * 5 * 4 * 4),
        ("ConvTranspose", {"group": 2}, [(1, 6, 5, 5), (6, 2, 2, 2)], 2 * 6 * 5 * 5 * 2 * 4),
        ("MatMul", {}, [(2, 5, 7), (7, 3)], 2 * 2 * 5 * 3 * 7),
        ("Gemm", {"transA": 1}, [(7, 5), (7, 3)], 2 * 5 * 3 * 7),
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, [(1, 3, 8, 8)], 3 * 4 * 4 * 4),
        ("ReduceMean", {"axes": [1]}, [(1, 3, 8, 8)], 3 * 8 * 8),
        ("Sigmoid", {}, [(1, 3, 8, 8)], 3 * 8 * 8),
        ("Transpose", {}, [(1, 3, 8, 8)], 0),
    ],
)
def test_operators_counted_by_hand(kind, attributes, shapes, expected):
    names = ["x", "w"][: len(shapes)]
    graph = helper.make_graph(
        [helper.make_node(kind, names, ["y"], **attributes)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(shape, np.float32), "w") for shape in shapes[1:]],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    read = read_graph(model.SerializeToString())
    assert flops(read.model.graph.node[0], read) == expected


def test_what_cannot_be_run_here_is_refused(tmp_path):
    def written(node: Any, shape: list[int | str], *constants: Any) -> Path:
        feeds = [helper.make_tensor_value_info("x", 1, shape)]
        graph = helper.make_graph([node], "g", feeds, [helper.make_tensor_value_info("y", 1, ["out"])], constants)
        imports = [helper.make_opsetid("", 13), helper.make_opsetid("mine", 1)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        path: Path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    with pytest.raises(UserError, match="input x: is not of fixed size"):
        profile(written(helper.make_node("Relu", ["x"], ["y"]), ["batch", 3]), TX2)
    size = numpy_helper.from_array(np.array([2**40]), "s")
    with pytest.raises(UserError, match=r"computes 4.1e\+03 GiB; at most 8 GiB run here"):
        profile(written(helper.make_node("ConstantOfShape", ["s"], ["y"]), [1], size), TX2)
    with pytest.raises(UserError, match="ONNX Runtime cannot load it"):
        profile(written(helper.make_node("Frobnicate", ["x"], ["y"], domain="mine"), [1]), TX2)
    outside = numpy_helper.from_array(np.array([7]), "s")
    with pytest.raises(UserError, match="ONNX Runtime cannot run it"):
        profile(written(helper.make_node("Gather", ["x", "s"], ["y"]), [3], outside), TX2)


def test_command_on_a_file_and_on_a_bundle(skylight, bundle, tiny):
    done = skylight("export", "profile", tiny, "--board", "jetson-tx2", "--runs", "2")
    assert done.returncode == 0, done.stderr
    assert "ms jetson-tx2*" in done.stdout
    done = skylight("export", "profile", bundle, "--runs", "2", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["board"], said["roofline_estimate_ms"], said["runs"]) == ("workstation", None, 2)
    assert said["measured_ms"] > 0
    assert_refused(skylight("export", "profile", tiny, "--precision", "fp16"), "--precision: no board", "add --board")


def _for_board(bundle: Path, folder: Path, board: dict[str, Any]) -> Path:
    """An unsigned copy that says that it was made for another board."""
    root = Path(shutil.copytree(bundle, folder / str(board["name"])))
    (root / "signature").unlink(missing_ok=True)
    content = json.loads((root / "bundle.json").read_bytes())
    (root / "bundle.json").write_bytes(canonical_json(content | {"board": board}))
    return root


def test_bundle_of_a_board_of_ones_own_is_profiled_without_its_file(bundle, skylight, tmp_path):
    """The bundle says what it needs; the file that it was made from may lie on another machine."""
    mine = read_board("jetson-tx2").model_copy(update={"name": "mine"})
    root = _for_board(bundle, tmp_path, mine.for_drone())
    done = skylight("export", "profile", root, "--runs", "1", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["board"], said["precision"]) == ("mine", "fp16")
    assert said["roofline_estimate_ms"] > 0
    refused = skylight("export", "profile", root, "--runs", "1", "--precision", "int8")
    assert_refused(refused, "mine: int8: its GPU", "allowed: fp32, fp16")
    refused = skylight("export", "profile", _for_board(bundle, tmp_path, {"name": "bare"}))
    assert_refused(refused, "board bare of the bundle: does not say what it computes in", "give --board")
