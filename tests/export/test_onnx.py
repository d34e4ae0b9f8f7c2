"""An exported model has the shapes and operators that the boards read, and the same bytes every time."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from drawn import SMALL_CFG
from onnx import TensorProto, numpy_helper

from deploy.onnx_file import OPERATORS, check_onnx
from pipeline.darknet import DarknetNetwork, adapted, network_cfg, read_cfg, shipped_networks
from pipeline.darknet.activations import ACTIVATIONS
from pipeline.errors import UserError
from pipeline.export.onnx import OPSETS, export_onnx
from pipeline.networks.darknet import DarknetDetector
from pipeline.networks.families import architecture

DETECTORS = [name for name in shipped_networks() if name.startswith("yolo")]
FAMILIES = ["yolov3-tinyu", "yolov5nu", "yolov6n", "yolov8n", "yolov9s", "yolov10n", "yolo11n", "yolo12n", "yolo26n"]


def _unknown(model: onnx.ModelProto) -> set[str]:
    """Operators that no drone takes."""
    return {node.op_type for node in model.graph.node} - OPERATORS


def _shapes(values: list[onnx.ValueInfoProto]) -> dict[str, list[int]]:
    return {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in values}


@pytest.mark.parametrize("name", [*DETECTORS, *FAMILIES])
@pytest.mark.parametrize("opset", [13])
def test_model_is_static_folded_and_has_no_nms(name: str, opset: int) -> None:
    model = onnx.load_model_from_string(export_onnx(architecture(name, 64, 3).build(), opset).model)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert _unknown(model) == set()
    shapes = _shapes([*model.graph.input, *model.graph.output])
    assert shapes["images"] == [1, 3, 64, 64]
    assert list(shapes) == ["images", "boxes", "scores"]
    assert shapes["boxes"] == [1, shapes["scores"][1], 4]
    assert shapes["scores"][2] == 3
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        assert tensor.data_type != TensorProto.DOUBLE
        if tensor.data_type == TensorProto.INT64:
            assert np.abs(values).max(initial=0) < 2**31


@pytest.mark.parametrize("opset", OPSETS)
def test_a_drone_takes_every_activation_and_layer_of_darknet_in_both_precisions(opset: int, tmp_path: Path) -> None:
    layers = [
        f"[convolutional]\nfilters=4\nsize=3\npad=1\nbatch_normalize=1\nactivation={name}\n" for name in ACTIVATIONS
    ]
    layers += ["[shortcut]\nfrom=-3\nactivation=linear\n", "[upsample]\nstride=2\nscale=0.5\n"]
    layers += ["[maxpool]\nsize=3\nstride=2\n", "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n"]
    trunk, _, last = SMALL_CFG.partition("[maxpool]")
    (tmp_path / "all.cfg").write_text(trunk + "\n".join(layers) + last[last.rindex("[convolutional]") :])
    exported = export_onnx(DarknetDetector(DarknetNetwork(adapted(read_cfg(tmp_path / "all.cfg"), 64, 64, 1))), opset)
    for content in (exported.model, exported.half().model):
        (tmp_path / "model.onnx").write_bytes(content)
        check_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_of_the_boards_gives_the_same_numbers(opset: int) -> None:
    detector = DarknetDetector(DarknetNetwork(adapted(network_cfg("yolov3-tiny"), 96, 96, 3))).eval()
    image = np.random.default_rng(0).random((1, 3, 96, 96), dtype=np.float32)
    exported = export_onnx(detector, opset)
    assert export_onnx(detector, opset).model == exported.model
    session = onnxruntime.InferenceSession(exported.model, providers=["CPUExecutionProvider"])
    expected = [part.numpy() for part in detector.predict(torch.from_numpy(image))]
    for found, wanted in zip(session.run(["boxes", "scores"], {"images": image}), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


def test_taps_are_the_layers_in_order_and_leave_the_model_as_it_is() -> None:
    detector = DarknetDetector(DarknetNetwork(adapted(network_cfg("yolov3-tiny"), 64, 64, 1)))
    exported = export_onnx(detector)
    assert exported.heads == ("head 15 convolutional", "head 22 convolutional")
    assert exported.taps[:2] == ("0 convolutional", "2 convolutional")
    assert len(exported.taps) == 13
    model, tapped = (onnx.load_model_from_string(content) for content in (exported.model, exported.tapped))
    assert [value.name for value in tapped.graph.output] == ["boxes", "scores", *exported.taps]
    assert list(model.graph.node) == list(tapped.graph.node)


def test_mode_is_left_as_found() -> None:
    detector = architecture("yolov3-tiny", 64, 1).build().train()
    export_onnx(detector)
    assert detector.training


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    (tmp_path / "small.cfg").write_text(SMALL_CFG)
    detector = DarknetDetector(DarknetNetwork(adapted(read_cfg(tmp_path / "small.cfg"), 64, 64, 1)))
    with pytest.raises(UserError, match="opset: 17; allowed: 11, 12, 13"):
        export_onnx(detector, 17)
    with pytest.raises(UserError, match="no head that decodes boxes"):
        export_onnx(DarknetDetector(DarknetNetwork(network_cfg("darknet"))))
