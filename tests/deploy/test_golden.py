"""Golden frames tell a model that finds what it must from one that does not."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from colour_model import colour_model, square
from signed_bundle import edit, make_key, write_signed

from deploy import golden
from deploy.backends import OnnxRuntimeBackend
from deploy.bundle import Bundle, read_bundle
from deploy.cli import main
from deploy.errors import UserError
from deploy.frame import Detections
from deploy.golden import TOLERANCES, check_golden, compare, read_golden
from deploy.manifest import PRECISIONS
from deploy.vision import Vision


class Changed:
    """ONNX Runtime, with what a wrong conversion or camera would change."""

    def __init__(self, bundle: Bundle, precision: str = "fp32", **changes: float) -> None:
        self._inner = OnnxRuntimeBackend(bundle.model, threads=1)
        self.precision = precision
        self._changes = changes

    def infer(self, tensor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if "swap" in self._changes:
            tensor = np.ascontiguousarray(tensor[:, ::-1])
        boxes, scores = self._inner.infer(tensor)
        noise = self._changes.get("shift", 0) * np.array([1, 0, 1, 0], np.float32)
        return boxes + noise, np.clip(scores + self._changes.get("more", 0), 0, 1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("golden")
    return write_signed(folder / "colours-1", make_key(folder / "keys", "maker"))


def test_own_model_passes(bundle):
    report = check_golden(bundle, Changed(bundle))
    assert (report.model, report.precision, report.frames) == ("model.onnx", "fp32", 4)
    assert report.detections >= 3
    assert report.score < 1e-4
    assert report.iou > 0.99
    assert report.tells_red_from_blue
    images = [frame.image for frame in read_golden(bundle).frames]
    assert len(images) == 4
    assert images[-1] == "3"  # the one without an object


@pytest.mark.parametrize(
    ("changes", "precision", "message"),
    [
        ({"swap": 1}, "fp32", r"frame-\d.png: class \d with score 0.\d+ is (not found|found where nothing)"),
        ({"more": -0.1}, "fp32", r"class \d has score 0.\d+ instead of 0.\d+, 0.100 away on model.onnx"),
        ({"more": -0.1}, "fp16", "fp16 allows a score 0.05 away and an IoU of 0.7; do not fly it"),
        ({"shift": 4}, "fp32", "is not found, at most IoU 0.6"),
        ({"more": 0.8}, "int8", r"score 0.\d+ is found where nothing must be, 0.\d+ above the threshold|instead of"),
    ],
)
def test_what_departs_is_refused_with_frame_and_figure(bundle, changes, precision, message):
    with pytest.raises(UserError, match=message):
        check_golden(bundle, Changed(bundle, precision, **changes))


def test_tolerance_is_that_of_the_precision_that_runs(bundle):
    """An engine of half precision may depart further than the model it was built from."""
    assert check_golden(bundle, Changed(bundle, "fp16", more=-0.03)).score == pytest.approx(0.03, abs=1e-3)
    assert check_golden(bundle, Changed(bundle, "int8", more=-0.15)).precision == "int8"
    assert tuple(TOLERANCES) == PRECISIONS


def _detections(*rows: tuple[float, float, int]) -> Detections:
    """Squares of 10 pixels at (left, score, class)."""
    boxes = np.array([(left, 0, left + 10, 10) for left, _, _ in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([r[1] for r in rows], np.float32), np.array([r[2] for r in rows], np.int64))


def test_detections_near_the_threshold_may_come_and_go():
    tolerance = TOLERANCES["fp32"]
    near, far = _detections((0, 0.51, 0)), _detections((0, 0.6, 0))
    nothing = _detections()
    assert compare(near, nothing, 0.5, tolerance) == (0.0, 1.0)
    assert compare(nothing, near, 0.5, tolerance) == (0.0, 1.0)
    with pytest.raises(UserError, match=r"class 0 with score 0\.600 is not found, at most nothing of its class"):
        compare(far, nothing, 0.5, tolerance)
    with pytest.raises(UserError, match=r"found where nothing must be, 0\.100 above"):
        compare(nothing, far, 0.5, tolerance)
    with pytest.raises(UserError, match="nothing of its class"):
        compare(far, _detections((0, 0.6, 1)), 0.5, tolerance)


def test_detections_that_may_go_are_not_said_to_be_found(bundle, tmp_path):
    """Of a bundle whose model is unsure of everything, nothing is proved; it must not read as if it were."""
    content = json.loads((bundle.root / "golden" / "golden.json").read_bytes())
    unsure = _with_row(content, {"class": 0, "score": 0.019, "box": [0, 0, 1, 1]}) | {"score_threshold": 0.005}
    changed = _resealed(bundle, tmp_path, "golden/golden.json", json.dumps(unsure).encode())

    class Blind:
        def infer(self, _tensor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.zeros((1, 4), np.float32), np.zeros((1, 2), np.float32)

    assert check_golden(changed, Blind()).detections == 0


def test_one_detection_answers_for_one():
    twice = _detections((0, 0.9, 0), (0, 0.9, 0))
    with pytest.raises(UserError, match="is not found"):
        compare(twice, _detections((0, 0.9, 0)), 0.5, TOLERANCES["fp32"])


def _resealed(bundle: Bundle, folder: Path, name: str, data: bytes) -> Bundle:
    """A copy, unsigned, with another file and the hash of it."""
    import hashlib

    root = Path(shutil.copytree(bundle.root, folder / "copy"))
    (root / "signature").unlink()
    (root / name).write_bytes(data)
    files = json.loads((root / "bundle.json").read_bytes())["files"]
    files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit(root, None, files=files)
    return read_bundle(root)


def _with_row(content: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """One detection must be found on the first frame."""
    return content | {"frames": [content["frames"][0] | {"expected": {"model.onnx": [row]}}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c | {"frames": []}, "is not what skylight export writes"),
        (lambda c: c | {"surprise": 1}, "is not what skylight export writes"),
        (lambda c: c | {"frames": [c["frames"][0] | {"file": "x.png"}]}, "names 'x.png', which is not there"),
        (lambda c: c | {"frames": [c["frames"][0] | {"expected": {}}]}, "'frame-0.png' says nothing of model.onnx"),
        (lambda c: c | {"frames": [c["frames"][0] | {"expected": {"model.onnx": [{"class": 9, "score": 1, "box": [0, 0, 1, 1]}]}}]}, "no detections of this bundle's classes"),  # noqa: E501
        (lambda c: c | {"frames": [c["frames"][0] | {"width": 95}]}, "is no PNG of 95x64 pixels, but 96x64"),
        (lambda c: [], "is not what skylight export writes"),
        (lambda c: c | {"tolerances": c["tolerances"] | {"fp32": {"score": [], "iou": 0.9}}}, "is not what skylight export writes"),  # noqa: E501
        (lambda c: c | {"tolerances": c["tolerances"] | {"fp32": {"score": "x", "iou": 0.9}}}, "is no JSON to rely on"),
        (lambda c: c | {"frames": [c["frames"][0] | {"file": 1}]}, "is not what skylight export writes"),
        (lambda c: _with_row(c, {"class": 10**19, "score": 0.9, "box": [0, 0, 1, 1]}), "is not what skylight export writes"),  # noqa: E501
        (lambda c: _with_row(c, {"class": [0, 0], "score": [0.9, 0.9], "box": [0, 0, 1, 1]}), "no detections of this bundle's classes"),  # noqa: E501
    ],
)  # fmt: skip
def test_wrong_golden_json_is_refused(bundle, tmp_path, change, message):
    content = json.loads((bundle.root / "golden" / "golden.json").read_bytes())
    changed = _resealed(bundle, tmp_path, "golden/golden.json", json.dumps(change(content)).encode())
    with pytest.raises(UserError, match=message):
        check_golden(changed, Changed(changed))


def test_drone_does_not_start_with_a_model_that_takes_red_for_blue(bundle, tmp_path, capsys):
    model = onnx.load_model_from_string(colour_model())
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.array([2, 1], np.int64), "channels"))
    changed = _resealed(bundle, tmp_path, "model.onnx", model.SerializeToString())
    command = ["--bundle", str(changed.root), "--source", str(changed.root / "golden"), "--out", str(tmp_path / "out")]
    assert main([*command, "--golden"]) == 2
    assert re.search(r"frame-\d\.png: class 0 .*; do not fly it\n$", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
    assert main(command) == 0


def test_drone_that_feeds_the_network_wrongly_is_refused(bundle, monkeypatch):
    """The models are right; the preprocess of the drone takes BGR for RGB, or does not scale to 1."""
    from deploy import resize
    from deploy.resize import to_tensor

    frame = r"frame-\d\.png: class \d "
    faults = {
        frame + r"with score 0\.\d+ is not found": lambda image, *how: to_tensor(image[:, :, ::-1], *how),
        frame + r"(with score .* where nothing must be, .* above|.* instead of .* away)": lambda image, *how: (
            to_tensor(image, *how) * 255
        ),
        frame + r"with score 0\.\d+ is not found, at most": lambda image, *how: to_tensor(image[:, ::-1], *how),
    }
    vision = Vision(bundle, OnnxRuntimeBackend(bundle.model, threads=1))
    red = square(1, 2, (255, 0, 0))
    right = vision.look(red)[0]
    for message, wrong in faults.items():
        monkeypatch.setattr(resize, "to_tensor", wrong)
        with pytest.raises(UserError, match=message) as refusal:
            check_golden(bundle, Changed(bundle))
        assert str(refusal.value).endswith("do not fly it")
        assert vision.look(red)[0].boxes.tolist() != right.boxes.tolist(), "frames in flight go the same way"
    monkeypatch.undo()
    assert check_golden(bundle, Changed(bundle)).frames == 4


def test_picture_read_as_rgb_is_refused(bundle, monkeypatch):
    """Golden frames are read as the pictures are that the drone may be given in place of a camera."""
    read = golden.read_picture
    monkeypatch.setattr(golden, "read_picture", lambda path: read(path)[:, :, ::-1])
    with pytest.raises(UserError, match=r"frame-\d\.png: class \d with score 0\.\d+ is not found"):
        check_golden(bundle, Changed(bundle))


def test_bundle_that_says_another_resize_mode_is_refused(bundle, tmp_path):
    changed = _resealed(bundle, tmp_path, "model.onnx", (bundle.root / "model.onnx").read_bytes())
    edit(changed.root, None, resize_mode="letterbox")
    letterbox = read_bundle(changed.root)
    with pytest.raises(
        UserError, match=r"frame-\d\.png: class \d .* (at most IoU 0\.\d+|above|instead of) .*; do not fly"
    ):
        check_golden(letterbox, Changed(letterbox))
    edit(changed.root, None, resize_mode="stretch")
    again = read_bundle(changed.root)
    assert check_golden(again, Changed(again)).iou > 0.99


def test_bundle_that_says_another_colour_order_is_refused(bundle, tmp_path):
    changed = _resealed(bundle, tmp_path, "model.onnx", (bundle.root / "model.onnx").read_bytes())
    edit(changed.root, None, colour_order="bgr")
    with pytest.raises(UserError, match=r"colour_order='bgr'; allowed: rgb"):
        read_bundle(changed.root)


def test_picture_that_is_larger_than_it_should_be_is_not_decoded(bundle, tmp_path):
    data = bytearray((bundle.root / "golden" / "frame-0.png").read_bytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    changed = _resealed(bundle, tmp_path, "golden/frame-0.png", bytes(data))
    with pytest.raises(UserError, match=r"frame-0\.png: is no PNG of 96x64 pixels, but 60000x60000"):
        check_golden(changed, Changed(changed))


def test_large_photos_are_scaled_down(tmp_path):
    from signed_bundle import MODEL

    from pipeline.curated import LabelledImage
    from pipeline.export.golden import golden_files

    image = np.full((100, 2600, 3), (20, 20, 240), np.uint8)
    cv2.imwrite(str(tmp_path / "wide.png"), image)
    wide = LabelledImage(tmp_path / "wide.png", "wide", 2600, 100, np.zeros((1, 4), np.float32), np.zeros(1, np.int64))
    files = golden_files({MODEL: colour_model()}, [wide], "stretch", 0.6, 0.45)
    frame = cv2.imdecode(np.frombuffer(files["golden/frame-0.png"], np.uint8), cv2.IMREAD_COLOR)
    assert frame is not None
    assert frame.shape == (49, 1280, 3)
    assert sorted(files) == ["golden/frame-0.png", "golden/golden.json"]
