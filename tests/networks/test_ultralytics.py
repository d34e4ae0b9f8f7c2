"""Ultralytics' detectors learn, freeze, split, save and load behind our door."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_batch import changed_layers, drawn_batch, overlap, tensors_of, train_steps
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.networks.ultralytics import UltralyticsDetector, ultralytics_detector

SIZE = 64
NAMES = ("yolov3-tinyu", "yolo11n", "yolo26n")


def varied(name: str, classes: int = 1) -> UltralyticsDetector:
    """A detector whose batch norms have statistics that differ from those of a new one."""
    detector = ultralytics_detector(name, classes, SIZE)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return detector


def own_model(detector: UltralyticsDetector) -> Any:
    """Ultralytics' own network with the detector's weights, its head as they ship it."""
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel(detector.network.yaml, nc=detector.classes, verbose=False)
    model.load_state_dict(detector.network.state_dict())
    return model.eval()


def write_pt(detector: UltralyticsDetector, path: Path) -> Path:
    torch.save({"model": own_model(detector).half(), "ema": None, "train_args": {}}, path)
    return path


def refusal(path: Path, detector: UltralyticsDetector, layers: int | None = None) -> str:
    """The line that refuses the file; the detector stays as it is."""
    before = [tensors_of(detector, layer.index) for layer in detector.network_layers]
    with pytest.raises(UserError) as caught:
        detector.load(path, layers)
    assert "\n" not in str(caught.value)
    assert changed_layers(detector, before) == []
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_layers_hold_every_tensor_once(name: str) -> None:
    detector = ultralytics_detector(name, 1, SIZE)
    assert [layer.index for layer in detector.network_layers] == list(range(len(detector.network.model)))
    held = [
        id(value) for layer in detector.network_layers for value in layer.module.state_dict(keep_vars=True).values()
    ]
    assert sorted(held) == sorted(id(value) for value in detector.state_dict(keep_vars=True).values())


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_learns_where_the_squares_are(name: str) -> None:
    images, truth = drawn_batch(8, SIZE)
    detector = ultralytics_detector(name, 1, SIZE).train()
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.2  # few steps
    optimizer = torch.optim.Adam(detector.parameters(), 0.005)
    for _ in range(45):
        optimizer.zero_grad()
        torch.stack(list(detector.losses((images,), truth).values())).sum().backward()
        optimizer.step()
    boxes, scores = detector.predict(images)
    assert detector.training  # as before
    for index in range(len(images)):
        best = boxes[index, scores[index, :, 0].argmax()]
        ious = [float(overlap(best[None], row, SIZE)) for row in truth[index] if row[2] > 0]
        assert max(ious) > 0.5, (index, best, truth[index])


@pytest.mark.parametrize("name", NAMES)
def test_frozen_layers_keep_weights_and_statistics_to_the_bit(name: str) -> None:
    detector = varied(name)
    frozen = (*(index for index in detector.weighted_layers if index < 5), detector.weighted_layers[6])
    detector.freeze(frozen)
    before = [tensors_of(detector, layer.index) for layer in detector.network_layers]
    train_steps(detector, *drawn_batch(2, SIZE), 2, 0.01)
    assert changed_layers(detector, before) == [index for index in detector.weighted_layers if index not in frozen]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prefix", [0, 1, 5, 9, -1])
def test_trunk_and_losses_equal_the_unsplit_network(name: str, prefix: int) -> None:
    detector = varied(name)
    weighted = detector.weighted_layers
    detector.freeze(weighted[:prefix])
    detector.train()
    images, truth = drawn_batch(3, SIZE)
    truth[1] = 0  # a picture without boxes, between two that have some
    features = detector.trunk(images)
    copies = [feature.clone() for feature in features]
    assert detector.has_trunk == (prefix != 0)
    assert all(len(feature) == len(images) and not feature.requires_grad for feature in features)

    rows = [(index, row) for index in range(3) for row in truth[index] if row[2] > 0]
    batch = {
        "img": images,
        "batch_idx": torch.tensor([float(index) for index, _ in rows]),
        "cls": torch.tensor([[float(row[4])] for _, row in rows]),
        "bboxes": torch.stack([row[:4] for _, row in rows]),
    }
    state = {key: value.clone() for key, value in detector.state_dict().items()}
    total, _ = detector.network.loss(batch)
    detector.load_state_dict(state)
    losses = detector.losses(features, truth)
    torch.testing.assert_close(torch.stack(list(losses.values())), total / len(images), rtol=1e-6, atol=0)
    assert list(losses) == ["box", "cls", "l1" if name == "yolo26n" else "dfl"]
    assert all(torch.equal(feature, copy) for feature, copy in zip(features, copies, strict=True))


def test_trunk_keeps_only_what_later_blocks_read() -> None:
    detector = ultralytics_detector("yolo11n", 1, SIZE)
    detector.freeze(range(11))  # with 11 and 12, that learn nothing; 4, 10 and 12 are read later, 6 is not
    features = detector.trunk(drawn_batch(1, SIZE)[0])
    assert [tuple(feature.shape[2:]) for feature in features] == [(8, 8), (2, 2), (4, 4)]


def test_losses_are_finite_without_any_box() -> None:
    detector = ultralytics_detector("yolo11n", 1, SIZE)
    images, truth = drawn_batch(2, SIZE)
    losses = detector.losses(detector.trunk(images), torch.zeros_like(truth))
    assert losses["cls"].item() > 0
    assert losses["box"].item() == losses["dfl"].item() == 0
    assert detector.losses(detector.trunk(images), truth[:, :0])["cls"] == losses["cls"]


@pytest.mark.parametrize("name", NAMES)
def test_predict_gives_the_boxes_and_scores_of_ultralytics(name: str) -> None:
    detector = varied(name, classes=3)
    images, _ = drawn_batch(2, SIZE)
    boxes, scores = detector.predict(images)
    model = own_model(detector)
    model.end2end = False
    with torch.no_grad():
        expected = model(images)[0].transpose(1, 2)
    centre, size = expected[..., :2], expected[..., 2:4]
    torch.testing.assert_close(boxes, torch.cat((centre - size / 2, centre + size / 2), 2), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(scores, expected[..., 4:])
    cells = 4 * 4 + 2 * 2 + (0 if name == "yolov3-tinyu" else 8 * 8)
    assert boxes.shape == (2, cells, 4)
    assert scores.shape == (2, cells, 3)


def test_decay_applies_to_kernels_only() -> None:
    detector = ultralytics_detector("yolo11n", 1, SIZE)
    decayed = {id(parameter) for parameter in detector.decayed()}
    assert decayed == {id(parameter) for parameter in detector.parameters() if parameter.ndim > 1}
    assert not any(".dfl." in name for name, _ in detector.named_parameters())  # a constant, that nothing may move


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_predicts_the_same(name: str, tmp_path: Path) -> None:
    detector, other = varied(name, 2), varied(name, 2)
    images, _ = drawn_batch(2, SIZE)
    detector.save(tmp_path / "one.safetensors", seen=640)
    assert other.load(tmp_path / "one.safetensors") == detector.weighted_layers
    for ours, theirs in zip(detector.predict(images), other.predict(images), strict=True):
        assert torch.equal(ours, theirs)
    with safe_open(tmp_path / "one.safetensors", framework="pt") as file:
        assert file.metadata() == {"name": name, "classes": "2", "seen": "640"}


def test_layers_before_the_head_load_into_another_number_of_classes(tmp_path: Path) -> None:
    source, detector = varied("yolo11n", 2), varied("yolo11n", 5)
    source.save(tmp_path / "two.safetensors", seen=0)
    line = refusal(tmp_path / "two.safetensors", detector)
    assert "2 classes" in line
    assert "5" in line
    assert "before 23" in line
    before = [tensors_of(detector, layer.index) for layer in detector.network_layers]
    loaded = detector.load(tmp_path / "two.safetensors", layers=6)
    assert loaded == (0, 1, 2, 3, 4, 5)
    assert changed_layers(detector, before) == [0, 1, 2, 3, 4, 5]
    assert changed_layers(detector, [tensors_of(source, index) for index in loaded]) == []


def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    detector = varied("yolo11n")
    path = tmp_path / "a.safetensors"
    assert "no such file" in refusal(path, detector)
    path.write_bytes(b"\x08\0\0\0\0\0\0\0{broken")
    assert "a.safetensors" in refusal(path, detector)
    ultralytics_detector("yolo26n", 1, SIZE).save(path, seen=0)
    assert "layer " in refusal(path, detector)
    varied("yolo11n").save(path, seen=0)
    tensors = load_file(path)

    def changed(changes: dict[str, Tensor | None]) -> Path:
        save_file({key: value for key, value in (tensors | changes).items() if value is not None}, path)
        return path

    assert "model.9.cv1.conv.weight" in refusal(changed({"model.9.cv1.conv.weight": None}), detector)
    assert "model.24.weight" in refusal(changed({"model.24.weight": torch.zeros(1)}), detector)
    assert "NaN" in refusal(changed({"model.3.conv.weight": torch.full((64, 64, 3, 3), torch.nan)}), detector)
    assert "16×3×3×3" in refusal(changed({"model.0.conv.weight": torch.zeros(16, 3, 1, 1)}), detector)
    assert detector.load(changed({"model.9.cv1.conv.weight": None}), layers=9) == tuple(range(9))
    assert "99" in refusal(path, detector, layers=99)
    assert "0" in refusal(path, detector, layers=0)


def test_reads_the_checkpoints_of_ultralytics(tmp_path: Path) -> None:
    source = varied("yolo11n", 2)
    path = write_pt(source, tmp_path / "theirs.pt")
    images, _ = drawn_batch(1, SIZE)
    detector = ultralytics_detector(str(path), 2, SIZE)
    assert detector.name == "yolo11n"
    torch.testing.assert_close(detector.predict(images)[1], source.predict(images)[1], rtol=0, atol=0.01)  # was float16
    cut = ultralytics_detector(str(path), 7, SIZE)
    assert torch.equal(tensors_of(cut, 16)["cv1.conv.weight"], tensors_of(source, 16)["cv1.conv.weight"].half())
    assert cut.predict(images)[1].shape[2] == 7
    assert "2 classes" in refusal(path, cut)
    assert "layer 2: holds no model.2.conv.weight" in refusal(path, varied("yolov3-tinyu", 2))


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["EVIL"],)


def test_a_pt_file_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVIL", str(tmp_path / "done"))
    path = tmp_path / "evil.pt"
    torch.save({"model": _Evil()}, path)
    with pytest.raises(UserError, match=r"evil\.pt") as caught:
        ultralytics_detector(str(path), 1, SIZE)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "done").exists()
    for content in (b"", b"nonsense", pickle.dumps({})):
        path.write_bytes(content)
        assert "evil.pt" in refusal(path, varied("yolo11n"))


@pytest.mark.parametrize(
    ("name", "size", "part"),
    [
        ("yolo99n", 64, "yolo99n"),
        ("https://example.com/yolo11n", 64, "name of a model"),
        ("no/such.pt", 64, "no such file"),
        ("yolo11n-seg", 64, "Segment"),
        ("yolo11n", 65, "multiple of 32"),
    ],
)
def test_names_and_sizes_that_do_not_fit_are_refused(name: str, size: int, part: str) -> None:
    with pytest.raises(UserError, match=part) as caught:
        ultralytics_detector(name, 1, size)
    assert "\n" not in str(caught.value)


LONELY = """
import os, socket, sys, cv2, torch
before, save, threads = dict(os.environ), torch.save, cv2.getNumThreads()
def refuse(*_, **__): raise AssertionError("asked the network")
socket.getaddrinfo = socket.socket.connect = refuse
from pipeline.networks.ultralytics import ultralytics_detector
assert "ultralytics" not in sys.modules
ultralytics_detector("yolo11n", 1, 64)
assert (dict(os.environ), torch.save, cv2.getNumThreads()) == (before, save, threads)
"""


def test_making_one_touches_neither_home_nor_network_nor_environment(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "YOLO_CONFIG_DIR"}
    environment.pop("OMP_NUM_THREADS", None)
    environment |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "MPLCONFIGDIR": str(tmp_path / "plots")}
    done = subprocess.run([sys.executable, "-c", LONELY], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
    assert not [path for path in tmp_path.rglob("*") if "ltralytics" in path.name]
