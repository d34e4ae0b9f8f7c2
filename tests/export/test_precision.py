"""Half precision: what it changes, what it must not change, and what keeping the decode in float32 brings."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from deploy.decode import detections_from_network
from deploy.nms import iou
from deploy.resize import resize_image, to_tensor
from pipeline.darknet import DarknetNetwork, adapted, load_weights, network_cfg, read_cfg
from pipeline.errors import UserError
from pipeline.export.onnx import export_onnx
from pipeline.export.precision import decode_nodes, to_fp16
from pipeline.networks.darknet import DarknetDetector

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def _tiny(size: int, classes: int = 3) -> bytes:
    torch.manual_seed(0)
    network = DarknetNetwork(adapted(network_cfg("yolov3-tiny"), size, size, classes))
    return export_onnx(DarknetDetector(network)).model


@pytest.fixture(scope="module")
def small() -> bytes:
    return _tiny(96)


@pytest.fixture(scope="module")
def fastest(darknet_data: Path) -> bytes:
    """A model with trained weights, at 416 pixels."""
    network = DarknetNetwork(adapted(read_cfg(darknet_data / "yolo-fastest-1.1.cfg"), 416, 416, 80))
    load_weights(network, darknet_data / "yolo-fastest-1.1.weights")
    return export_onnx(DarknetDetector(network)).model


def _run(model: bytes, tensor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    boxes, scores = session.run(["boxes", "scores"], {"images": tensor})
    return boxes[0], scores[0]


def _half_throughout(model: bytes) -> bytes:
    """What the library makes of the whole model, decode included."""
    half = convert_float_to_float16(onnx.load_model_from_string(model), keep_io_types=True)
    OnnxModel.graph_topological_sort(half.graph, is_deterministic=True)
    return bytes(half.SerializeToString())


def test_inputs_and_outputs_keep_names_types_and_shapes(small):
    before, after = (onnx.load_model_from_string(model).graph for model in (small, to_fp16(small)))
    for side in ("input", "output"):
        assert list(getattr(after, side)) == list(getattr(before, side))
    kinds = {value.data_type for value in after.initializer if "weight" in value.name or "Conv" in value.name}
    assert kinds == {HALF}
    assert len(to_fp16(small)) < 0.52 * len(small)


def test_same_bytes_give_the_same_bytes(small):
    assert to_fp16(small) == to_fp16(small)


def test_decode_is_what_no_convolution_follows(small):
    graph = onnx.load_model_from_string(small).graph
    decodes = decode_nodes(graph)
    trunk = {node.op_type for node, is_behind in zip(graph.node, decodes, strict=True) if not is_behind}
    behind = {node.op_type for node, is_behind in zip(graph.node, decodes, strict=True) if is_behind}
    assert {"Conv", "LeakyRelu", "MaxPool", "Resize"} <= trunk
    assert {"Exp", "Sigmoid"} <= behind
    assert not {"Exp", "Sigmoid"} & trunk
    assert not {"Conv", "MaxPool", "Resize"} & behind


def test_decode_computes_in_float32(small):
    """Every exponential and sigmoid of the decode reads and makes float32."""
    half = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(to_fp16(small)), strict_mode=True)
    kinds = {value.name: value.type.tensor_type.elem_type for value in half.graph.value_info}
    found = [
        kinds[name]
        for node in half.graph.node
        if node.op_type in ("Exp", "Sigmoid")
        for name in (node.input[0], node.output[0])
    ]
    assert len(found) >= 8
    assert set(found) == {FLOAT}
    assert {kinds[node.output[0]] for node in half.graph.node if node.op_type == "Conv"} == {HALF}


def test_random_weights_keep_their_boxes_at_416():
    """The heads hardly move; a decode in half precision would move boxes by a third of a pixel."""
    model = _tiny(416, 1)
    tensor = np.random.default_rng(0).random((1, 3, 416, 416), dtype=np.float32)
    expected = _run(model, tensor)[0]
    kept = np.abs(_run(to_fp16(model), tensor)[0] - expected).max()
    rounded = np.abs(_run(_half_throughout(model), tensor)[0] - expected).max()
    print(f"largest move of a box: {kept:.4f} px with the decode in float32, {rounded:.4f} px without")
    assert kept < 0.01
    assert rounded > 20 * kept


@pytest.mark.parametrize("picture", ["dog.jpg", "person.jpg"])
def test_trained_weights_keep_their_detections(fastest, darknet_data, picture):
    image = cv2.imread(str(darknet_data / picture))
    assert image is not None
    resized, placement = resize_image(np.ascontiguousarray(image[..., ::-1]), 416, 416, "stretch")
    before, after, rounded = (
        _run(model, to_tensor(resized)) for model in (fastest, to_fp16(fastest), _half_throughout(fastest))
    )
    is_seen = before[1].max(axis=1) > 0.25
    moves = [np.abs(boxes - before[0])[is_seen] for boxes, _ in (after, rounded)]
    print(
        f"{picture}: boxes above 0.25 move by {moves[0].mean():.3f} px, {moves[1].mean():.3f} px with a decode in half"
    )
    assert moves[0].mean() < 0.65 * moves[1].mean()
    first, second = (detections_from_network(*result, 0.25, 0.45, placement) for result in (before, after))
    assert first.classes.tolist() == second.classes.tolist()
    assert len(first.boxes) >= 3
    assert iou(first.boxes, second.boxes).diagonal().min() > 0.98
    assert np.abs(first.scores - second.scores).max() < 0.01


def test_initializer_of_both_parts_is_kept_in_both_types(small):
    model = onnx.load_model_from_string(small)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1 / 3], np.float32), "third"))
    for name in ("images", "boxes"):
        for node in model.graph.node:
            node.output[:] = [f"{name}_raw" if output == name else output for output in node.output]
            node.input[:] = [f"{name}_third" if part == name == "images" else part for part in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("Mul", ["images", "third"], ["images_third"], name="dim"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["boxes_raw", "third"], ["boxes"], name="shrink"))
    content = model.SerializeToString()
    kinds = {value.name: value.data_type for value in onnx.load_model_from_string(to_fp16(content)).graph.initializer}
    assert (kinds["third"], kinds["third_float32"]) == (HALF, FLOAT)
    tensor = np.random.default_rng(0).random((1, 3, 96, 96), dtype=np.float32)
    assert np.abs(_run(content, tensor)[0] - _run(to_fp16(content), tensor)[0]).max() < 0.01


def test_weight_beyond_half_precision_is_refused(small):
    model = onnx.load_model_from_string(small)
    weights = next(value for value in model.graph.initializer if len(value.dims) == 4)
    array = onnx.numpy_helper.to_array(weights).copy()
    array[0, 0, 0, 0] = 1e5
    weights.CopyFrom(onnx.numpy_helper.from_array(array, weights.name))
    with pytest.raises(UserError, match=r"holds 1e\+05, half precision ends at 65504; export in float32"):
        to_fp16(model.SerializeToString())


def test_model_without_a_network_is_refused():
    node = onnx.helper.make_node("Sigmoid", ["images"], ["scores"])
    values = [onnx.helper.make_tensor_value_info(name, FLOAT, [1, 3, 8, 8]) for name in ("images", "scores")]
    graph = onnx.helper.make_graph([node], "none", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=7)
    with pytest.raises(UserError, match="the model has no convolution"):
        to_fp16(model.SerializeToString())
