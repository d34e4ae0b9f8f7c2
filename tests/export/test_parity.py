"""The parity gate lets through what rounding explains and nothing else, and names the layer where it goes wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from pipeline.curated import LabelledImage, read_curated_set
from pipeline.darknet import DarknetNetwork, load_weights, network_cfg, read_cfg, shipped_networks
from pipeline.errors import UserError
from pipeline.export.gate import parity_of
from pipeline.export.onnx import Exported, export_onnx
from pipeline.export.parity import LIMITS, Candidate, check_parity
from pipeline.export.runners import OnnxRuntimeRunner, Outputs, TorchRunner
from pipeline.networks.darknet import DarknetDetector
from pipeline.networks.detector import Detector
from pipeline.networks.families import architecture
from pipeline.report.parity import parity_text

DETECTORS = [name for name in shipped_networks() if network_cfg(name).layers[-1].kind == "yolo"]


@pytest.fixture(scope="session")
def street(facades: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[LabelledImage, ...]:
    """Three real photos with arches."""
    from pipeline.curate import Inputs, curate, read_recipe

    root = tmp_path_factory.mktemp("street")
    curate(
        read_recipe(Path(__file__).resolve().parents[2] / "datasets/facades-arch.yaml"), Inputs(facades), root / "arch"
    )
    return read_curated_set(root / "arch").splits["val"][:3]


def _as_trained(detector: DarknetDetector) -> DarknetDetector:
    """Random statistics, so that folding them is not folding nothing, and few boxes that score, as after training."""
    generator = torch.Generator().manual_seed(0)
    network = detector.network
    for index in network.spec.weighted_layers:
        layer = network.weighted(index)
        if layer.norm is None:
            layer.bias.data.view(3, -1)[:, 4] -= 4
            continue
        layer.norm.scale.data.uniform_(0.5, 1.5, generator=generator)
        layer.norm.rolling_mean.normal_(0, 0.1, generator=generator)
        layer.norm.rolling_variance.uniform_(0.5, 1.5, generator=generator)
    return detector


@pytest.mark.parametrize("name", DETECTORS)
def test_every_shipped_network_passes_with_random_weights(name: str, street: tuple[LabelledImage, ...]) -> None:
    detector = architecture(name, 96, 2).build()
    assert isinstance(detector, DarknetDetector)
    found = parity_of(_as_trained(detector), {"fp32": export_onnx(detector)}, street, "stretch")
    assert [one.against.split()[0] for one in found.comparisons] == ["onnxruntime", "OpenCV"]
    assert all(one.found.heads < 1e-4 and one.found.ap50 <= 0.001 for one in found.comparisons)
    assert found.pictures == 3


def test_yolo_fastest_passes_with_its_real_weights(darknet_data: Path, street: tuple[LabelledImage, ...]) -> None:
    network = DarknetNetwork(read_cfg(darknet_data / "yolo-fastest-1.1.cfg"))
    load_weights(network, darknet_data / "yolo-fastest-1.1.weights")
    detector = DarknetDetector(network)
    found = parity_of(detector, {"fp32": export_onnx(detector)}, street, "stretch")
    assert len(found.comparisons) == 2
    print(found)


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_networks_of_ultralytics_pass_and_opencv_is_left_out(name: str, street: tuple[LabelledImage, ...]) -> None:
    detector = architecture(name, 96, 2).build()
    found = parity_of(detector, {"fp32": export_onnx(detector)}, street, "stretch")
    assert [one.against.split()[0] for one in found.comparisons] == ["onnxruntime"]
    assert found.left_out[0] == "OpenCV: reads Darknet's networks only"


def test_report_does_not_name_the_folder_that_engines_are_built_in(
    street: tuple[LabelledImage, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has another name each time, and the report is part of the bundle's bytes."""
    from pipeline.export import gate

    def refused(_exported: Exported, precision: str, folder: Path, _calibration: object) -> None:
        raise UserError(f"{folder / f'model-{precision}.onnx'}: no engine; x")

    monkeypatch.setattr(gate, "Cuda", lambda: None)
    monkeypatch.setattr(gate, "TensorRtRunner", refused)
    detector = architecture("yolov3-tiny", 96, 2).build()
    assert isinstance(detector, DarknetDetector)
    found = parity_of(_as_trained(detector), {"fp32": export_onnx(detector)}, street, "stretch")
    assert found.left_out == ("TensorRT fp32: model-fp32.onnx: no engine; x",)


def test_engines_are_closed_after_the_comparison(
    trained: Path, squares: tuple[LabelledImage, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one departs: a sweep exports many networks in one process."""
    from pipeline.export import gate

    closed = []

    class Engine(OnnxRuntimeRunner):
        def __init__(self, exported: Exported, precision: str, *_: object) -> None:
            super().__init__(exported)
            self.precision = precision

        def close(self) -> None:
            closed.append(self.precision)

    monkeypatch.setattr(gate, "Cuda", lambda: None)
    monkeypatch.setattr(gate, "TensorRtRunner", Engine)
    detector = _trained_detector(trained)
    exported = export_onnx(detector)
    parity_of(detector, {"fp32": exported, "fp16": exported.half()}, squares[:1], "stretch")
    assert sorted(closed) == ["fp16", "fp32"]
    with pytest.raises(UserError, match="differ: box"):
        parity_of(detector, {"fp32": _moved(exported, 1)}, squares[:1], "stretch")
    assert sorted(closed) == ["fp16", "fp32", "fp32"]


def test_report_says_on_how_many_pictures_and_how_fine_ap_is_there(trained: Path) -> None:
    images = read_curated_set(trained / "squares").splits["val"]
    detector = _trained_detector(trained)
    exported = {"fp32": export_onnx(detector)}
    found = parity_of(detector, exported, images, "stretch", most=3)
    objects = sum(len(images[index].boxes) for index in (0, 2, 5))  # at equal distances among the 8
    assert (found.pictures, found.available, found.objects) == (3, 8, objects)
    assert found.ap50_step == 1 / objects
    whole = parity_of(detector, exported, images, "stretch", most=0)
    assert (whole.pictures, whole.available, whole.objects) == (8, 8, sum(len(image.boxes) for image in images))
    text = parity_text({"inputs": [{"input": "64x64", **found.as_dict()}]})
    assert "at 64x64 on 3 of the 8 pictures of val" in text
    assert f"\n{objects} objects: one detection more or less can change the AP of a class by 0." in text


@pytest.fixture
def squares(trained: Path) -> tuple[LabelledImage, ...]:
    """What the small network was validated on."""
    return read_curated_set(trained / "squares").splits["val"]


def _trained_detector(trained: Path) -> DarknetDetector:
    trial = trained / "runs/small/second/first-f0-s0"
    network = DarknetNetwork(read_cfg(trial / "network.cfg"))
    load_weights(network, trial / "best.weights")
    return DarknetDetector(network)


def _compare(detector: Detector, other: Exported, images: tuple[LabelledImage, ...], precision: str = "fp32") -> None:
    check_parity(
        TorchRunner(detector), [Candidate(OnnxRuntimeRunner(other), precision)], images, (64, 64), "stretch", 1
    )


def _flip_colours(weight: Tensor) -> None:
    weight.copy_(weight.flip(1))


def _nudge(weight: Tensor) -> None:
    weight.mul_(1.02)


@pytest.mark.parametrize(
    ("layer", "change", "message"),
    [
        (0, _flip_colours, r"differ: heads .*, limit 0.0001; first departs layer 0 convolutional"),
        (3, _nudge, r"; first departs layer 3 convolutional, by 0\."),
        (12, _nudge, r"; first departs layer head 12 convolutional"),
    ],
)
def test_first_layer_that_departs_is_named(
    trained: Path, squares: tuple[LabelledImage, ...], layer: int, change: Callable[[Tensor], None], message: str
) -> None:
    other = _trained_detector(trained)
    with torch.no_grad():
        change(other.network.weighted(layer).weight)
    with pytest.raises(UserError, match=message):
        _compare(_trained_detector(trained), export_onnx(other), squares)


def _moved(exported: Exported, pixels: float) -> Exported:
    """The same model with all boxes moved."""

    def moved(content: bytes) -> bytes:
        model = onnx.load_model_from_string(content)
        for node in model.graph.node:
            node.output[:] = ["raw_boxes" if name == "boxes" else name for name in node.output]
        model.graph.node.append(onnx.helper.make_node("Add", ["raw_boxes", "shift"], ["boxes"]))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([pixels], np.float32), "shift"))
        return bytes(model.SerializeToString())

    return Exported(moved(exported.model), moved(exported.tapped), exported.taps, exported.heads)


def test_slightly_moved_boxes_are_caught_and_no_layer_is_blamed(
    trained: Path, squares: tuple[LabelledImage, ...]
) -> None:
    detector = _trained_detector(trained)
    with pytest.raises(UserError, match=r"differ: box 0\.1.*, limit 0\.05; no layer departs; it is in the decoding"):
        _compare(detector, _moved(export_onnx(detector), 0.1), squares)
    _compare(detector, _moved(export_onnx(detector), 0.01), squares)


def test_detections_that_are_lost_are_caught_at_every_precision(
    trained: Path, squares: tuple[LabelledImage, ...]
) -> None:
    detector = _trained_detector(trained)
    other = _trained_detector(trained)
    with torch.no_grad():
        other.network.weighted(7).bias.view(2, -1)[:, 4] -= 20
        other.network.weighted(12).bias.view(2, -1)[:, 4] -= 20
    for precision in LIMITS:
        with pytest.raises(UserError, match="differ"):
            _compare(detector, export_onnx(other), squares, precision)


def test_not_a_number_is_caught(trained: Path, squares: tuple[LabelledImage, ...]) -> None:
    other = _trained_detector(trained)
    with torch.no_grad():
        other.network.weighted(2).weight[0] = float("nan")
    with pytest.raises(UserError, match="inf, limit"):
        _compare(_trained_detector(trained), export_onnx(other), squares)


def _on_input(picture: LabelledImage) -> np.ndarray:
    """Its first box, in pixels of a 64 x 64 input."""
    return np.array(picture.boxes[0] * np.tile([64 / picture.width, 64 / picture.height], 2))


class _OneBoxEach:
    """Finds one box on every picture, with the given scores, in order; only the first box is right."""

    name = "stand-in"

    def __init__(self, right: np.ndarray, scores: list[float]) -> None:
        wrong = np.array([0, 0, 2, 2])
        self._found = [(right if index == 0 else wrong, score) for index, score in enumerate(scores)]

    def run(self, image: np.ndarray, with_heads: bool = False) -> Outputs:
        box, score = self._found.pop(0)
        return Outputs((), box[None].astype(np.float32), np.array([[score]], np.float32))

    def taps(self, image: np.ndarray) -> dict[str, np.ndarray]:
        return {}


def test_two_pictures_whose_scores_rounding_swaps_are_no_loss_of_ap(squares: tuple[LabelledImage, ...]) -> None:
    """AP asks which is the surer; on two pictures that is worth half of it."""
    pictures = tuple(image for image in squares if len(image.boxes))[:2]
    right = _on_input(pictures[0])
    reference = _OneBoxEach(right, [0.6, 0.6 - 1e-6])
    swapped = Candidate(_OneBoxEach(right, [0.6, 0.6 + 1e-6]), "fp32")
    found = check_parity(reference, [swapped], pictures, (64, 64), "stretch", 1)
    assert found.ap50 > 0
    assert found.comparisons[0].found.ap50 == 0


def test_swapped_scores_that_rounding_does_not_explain_are_caught(squares: tuple[LabelledImage, ...]) -> None:
    pictures = tuple(image for image in squares if len(image.boxes))[:2]
    right = _on_input(pictures[0])
    reference = _OneBoxEach(right, [0.61, 0.60])
    swapped = Candidate(_OneBoxEach(right, [0.60, 0.61]), "fp16")
    with pytest.raises(UserError, match=r"at 64x64 differ: ap50 0\..*, limit 0\.005"):
        check_parity(reference, [swapped], pictures, (64, 64), "stretch", 1)
