"""What is there runs the bundle, it is said which, and what should run and does not is said loudly."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorrt_8_2_stand_in as eight
from colour_model import SIZE, colour_model, write_colour_bundle
from cuda_stand_in import CudaStandIn
from signed_bundle import make_key, write_signed
from stand_in_engine import read_plan

from deploy.backends import KINDS, Choice, OnnxRuntimeBackend, open_backend
from deploy.backends.models import choose_model
from deploy.backends.opencv import OpenCvBackend
from deploy.bundle import Bundle
from deploy.errors import UserError
from deploy.events import Events
from deploy.golden import check_golden
from deploy.manifest import Model
from deploy.tensorrt import TensorRt

TX2 = {"name": "jetson-tx2", "precisions": ["fp32", "fp16"], "missing_precisions": {}, "compute_capability": "6.2"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("chosen")
    return write_signed(folder / "colours-1", make_key(folder / "keys", "maker"))


@pytest.fixture
def jetson(monkeypatch: pytest.MonkeyPatch) -> CudaStandIn:
    """This machine has a GPU that shares its memory, and TensorRT 8.2; both are stand-ins."""
    cuda = CudaStandIn(shares_memory=True)
    monkeypatch.setattr("deploy.cuda.Cuda", lambda: cuda)
    monkeypatch.setattr("deploy.tensorrt.load_tensorrt", lambda: TensorRt(eight, "tensorrt"))
    return cuda


def _said(events: Events) -> list[tuple[str, str]]:
    return [(event.level, event.kind) for event in events.newest()]


@pytest.mark.parametrize("wanted", ["onnxruntime", "opencv"])
def test_every_library_gives_the_same_detections(bundle, wanted):
    events = Events(stream=None)
    backend = open_backend(bundle, Choice(wanted, threads=1), events)
    assert (backend.kind, backend.model, backend.width, backend.height) == (wanted, "model.onnx", SIZE, SIZE)
    report = check_golden(bundle, backend)
    assert report.detections >= 3
    assert report.score < 1e-4
    version = {"onnxruntime": onnxruntime.__version__, "opencv": cv2.__version__}[wanted]
    (event,) = events.newest()
    assert (event.level, event.kind) == ("info", "backend")
    for part in (version, "fp32 on CPU", "model.onnx", "64x64"):
        assert part in event.text
    backend.close()
    backend.close()


@pytest.mark.parametrize("name", ["yolov3-tiny", "yolo11n"])
def test_opencv_runs_networks_as_they_are_exported(tmp_path, name):
    from pipeline.export.onnx import export_onnx
    from pipeline.export.precision import to_fp16
    from pipeline.networks.families import architecture

    model = export_onnx(architecture(name, 96, 2).build()).model
    frame = np.random.default_rng(0).random((1, 3, 96, 96), dtype=np.float32)
    for data in (model, to_fp16(model)):
        (tmp_path / "model.onnx").write_bytes(data)
        boxes, scores = OpenCvBackend(tmp_path / "model.onnx", threads=1).infer(frame)
        expected, chances = OnnxRuntimeBackend(tmp_path / "model.onnx", threads=1).infer(frame)
        assert np.abs(boxes - expected).max() < 0.01
        assert np.abs(scores - chances).max() < 1e-4


def test_results_survive_the_next_frame(bundle, jetson, tmp_path):
    for kind in KINDS:
        backend = open_backend(bundle, Choice(kind, cache=tmp_path))
        _, first = backend.infer(np.full((1, 3, SIZE, SIZE), 0.25, np.float32))
        backend.infer(np.full((1, 3, SIZE, SIZE), 0.75, np.float32))
        assert first == pytest.approx(0.25), kind
        backend.close()


def test_tensorrt_builds_once_and_says_so(bundle, jetson, tmp_path):
    events, steps = Events(stream=None), []
    choice = Choice(cache=tmp_path, progress=lambda *step: steps.append(step))
    board = bundle._replace(board=TX2)
    backend = open_backend(board, choice, events)
    assert backend.name == "TensorRT 8.2.1.8 fp16 on NVIDIA Tegra X2"
    assert check_golden(board, backend).precision == "fp16"
    engine = tmp_path / "colours-1" / "model-fp16.engine"
    assert read_plan(engine.read_bytes())[0]["flags"] == ["FP16", "PREFER_PRECISION_CONSTRAINTS"]
    assert _said(events) == [("info", "engine.build"), ("info", "backend")]
    assert "there is none; building" in events.newest()[0].text
    assert steps
    backend.close()
    again = Events(stream=None)
    open_backend(board, choice, again).close()
    assert _said(again) == [("info", "backend")]
    assert (jetson.given, jetson.streams) == ({}, 0)


def test_gpu_that_shares_the_memory_needs_no_copies(bundle, jetson, tmp_path):
    frame = np.random.default_rng(0).random((1, 3, SIZE, SIZE), dtype=np.float32)
    expected = OnnxRuntimeBackend(bundle.model).infer(frame)
    copies = []
    for shares in (True, False):
        jetson._device = jetson._device._replace(shares_memory=shares)
        backend = open_backend(bundle, Choice("tensorrt", cache=tmp_path))
        jetson.copies = 0
        assert all(np.array_equal(*pair) for pair in zip(backend.infer(frame), expected, strict=True))
        copies.append(jetson.copies)
        backend.close()
        assert (jetson.given, jetson.streams) == ({}, 0)
    assert copies == [0, 3]


def test_engine_that_finds_no_memory_gives_back_what_it_had(bundle, jetson, tmp_path, monkeypatch):
    given = jetson.mapped

    def mapped(shape: Any) -> Any:
        if len(jetson.given) == 2:
            raise UserError("CUDA: cudaHostAlloc says out of memory; check the GPU")
        return given(shape)

    monkeypatch.setattr(jetson, "mapped", mapped)
    with pytest.raises(UserError, match="out of memory"):
        open_backend(bundle, Choice("tensorrt", cache=tmp_path))
    assert (jetson.given, jetson.streams) == ({}, 0)


def test_engine_that_cannot_be_built_is_said_and_the_next_library_runs(bundle, jetson, tmp_path, monkeypatch):
    monkeypatch.setattr(eight.Builder, "build_serialized_network", lambda *_: None)
    events = Events(stream=None)
    backend = open_backend(bundle, Choice(cache=tmp_path), events)
    assert backend.kind == "onnxruntime"
    assert _said(events)[-2:] == [("error", "backend.fallback"), ("info", "backend")]
    assert "tensorrt does not run colours, the next library is tried: " in events.newest()[-2].text
    with pytest.raises(UserError, match="found no engine"):
        open_backend(bundle, Choice("tensorrt", cache=tmp_path), events)


def test_library_that_is_not_there_is_passed_over_or_refused_with_its_remedy(bundle, monkeypatch):
    if not _has_no_gpu():
        pytest.skip("there is a GPU here")
    events = Events(stream=None)
    assert open_backend(bundle, events=events).kind == "onnxruntime"
    assert _said(events) == [("info", "backend")]
    with pytest.raises(UserError, match=r"tensorrt: CUDA: .*; "):
        open_backend(bundle, Choice("tensorrt"))
    monkeypatch.setattr("deploy.backends.choose.devices", lambda: [])
    assert open_backend(bundle).kind == "opencv"
    with pytest.raises(UserError, match="onnxruntime: not installed; pip install onnxruntime"):
        open_backend(bundle, Choice("onnxruntime"))
    with pytest.raises(UserError, match="backend tflite: unknown; allowed: auto, tensorrt, onnxruntime, opencv"):
        open_backend(bundle, Choice("tflite"))


def test_board_with_a_gpu_that_runs_without_it_is_said(bundle):
    if not _has_no_gpu():
        pytest.skip("there is a GPU here")
    events = Events(stream=None)
    open_backend(bundle._replace(board=TX2), events=events)
    assert _said(events) == [("warning", "backend.missing"), ("info", "backend")]
    assert events.newest()[0].text.startswith("board jetson-tx2 has a GPU, but tensorrt: ")


def test_cuda_provider_that_does_not_load_is_said_and_the_cpu_runs(bundle, monkeypatch):
    """ONNX Runtime here was built without it, and takes the CPU without a word, as one without cuDNN does."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime has CUDA here")
    monkeypatch.setattr("deploy.backends.choose.devices", lambda: ["CUDA", "CPU"])
    events = Events(stream=None)
    backend = open_backend(bundle, Choice("onnxruntime"), events)
    assert backend.name.endswith("on CPU")
    assert _said(events) == [("error", "backend.fallback"), ("info", "backend")]
    assert "its CUDA provider does not load" in events.newest()[0].text


def test_operator_that_opencv_does_not_take_is_named(tmp_path):
    model = onnx.load_model_from_string(colour_model())
    model.graph.node[-1].CopyFrom(onnx.helper.make_node("Foo", ["zeros"], ["boxes"]))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(
        UserError, match=r"model.onnx: OpenCV .* does not take its operator Foo; install onnxruntime"
    ) as e:
        OpenCvBackend(tmp_path / "model.onnx")
    assert len(str(e.value).splitlines()) == 1


def test_model_that_does_not_fit_the_bundle_is_refused(tmp_path):
    other = colour_model(32)
    bundle = write_colour_bundle(tmp_path / "colours-1", other)
    for wanted in ("onnxruntime", "opencv"):
        with pytest.raises(UserError, match=r"model\.onnx: 32x32 with 2 classes; bundle.json says otherwise"):
            open_backend(bundle, Choice(wanted))


SIZES = tuple(
    Model(f"model{size and '.'}{size}{precision and '.'}{precision}.onnx", side, side, precision or "fp32")
    for size, side in (("", 416), ("288", 288))
    for precision in ("", "fp16")
)


@pytest.mark.parametrize(
    ("choice", "options", "file", "precision"),
    [
        ({}, {"takes_types_from_file": False}, "model.onnx", "fp16"),  # TensorRT 8 to 10 makes it of float32
        ({}, {"takes_types_from_file": True}, "model.fp16.onnx", "fp16"),  # TensorRT-RTX, CUDA
        ({}, {"takes_types_from_file": True, "has_half": False}, "model.onnx", "fp32"),  # a CPU
        ({"precision": "fp32"}, {"takes_types_from_file": False}, "model.onnx", "fp32"),
        ({"precision": "int8"}, {"takes_types_from_file": False}, "model.onnx", "int8"),
        ({"model": "model.fp16.onnx"}, {"takes_types_from_file": False}, "model.fp16.onnx", "fp16"),
        ({"model": "model.fp16.onnx"}, {"takes_types_from_file": True, "has_half": False}, "model.fp16.onnx", "fp16"),
    ],
)
def test_half_precision_is_taken_where_it_is_computed_well(bundle, choice, options, file, precision):
    both = bundle._replace(models=SIZES, board=TX2)
    model, found = choose_model(both, (416, 416), Choice(**choice), **options)
    assert (model.file, found) == (file, precision)
    half = both._replace(models=SIZES[1:2])  # of a bundle that holds half precision alone, it is taken anywhere
    for alone in ({"takes_types_from_file": True, "has_half": False}, {"takes_types_from_file": False}):
        assert choose_model(half, (416, 416), Choice(), **alone) == (SIZES[1], "fp16")


def test_what_the_bundle_does_not_hold_is_refused(bundle):
    with pytest.raises(UserError, match=r"holds no model at 416x416; it has model.onnx \(64x64\)"):
        open_backend(bundle, size=(416, 416))
    with pytest.raises(UserError, match="holds no fp16 model at 64x64; export it with that precision, or ask for fp32"):
        open_backend(bundle, Choice("onnxruntime", precision="fp16"))


def _has_no_gpu() -> bool:
    from deploy.cuda import Cuda

    try:
        Cuda()
    except UserError:
        return True
    return False


def test_tensorrt_imports_without_the_rest():
    """It is a backend itself: whichever of the two modules comes first."""
    import subprocess
    import sys

    root = str(Path(__file__).resolve().parents[2])
    for first in ("deploy.tensorrt_backend", "deploy.backends", "deploy.backends.contract"):
        code = f"import sys; sys.path.insert(0, {root!r}); import {first}; print('tensorrt' in sys.modules)"
        assert (
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
        )
