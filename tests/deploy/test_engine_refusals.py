"""What no engine can be built of, and how that is said; nothing is left behind."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorrt_8_2_stand_in as eight
import tensorrt_10_stand_in as ten
from colour_model import colour_model
from cuda_stand_in import CudaStandIn
from engine_builds import MIB, TX2, build, convolutions, files_in, frames_of

from deploy.calibrate import Calibration
from deploy.errors import UserError
from deploy.tensorrt import TensorRt, load_tensorrt
from deploy.tensorrt_backend import TensorRtBackend


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(convolutions())
    return tmp_path / "model.onnx"


def test_too_little_memory_is_refused(model):
    with pytest.raises(UserError, match="memory: 300 MiB of memory free, building needs 512 MiB; stop other programs"):
        build(model, cuda=CudaStandIn(free=300 * MIB))
    assert files_in(model.parent) == ["model.onnx"]


def test_model_that_breaks_the_contract_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(colour_model(outputs=("boxes", "logits")))
    cuda = CudaStandIn()
    with pytest.raises(UserError, match=r"model-fp32\.engine: .*logits.*needs float images"):
        TensorRtBackend(build(tmp_path / "model.onnx", cuda=cuda, precision="fp32"), TensorRt(eight, "tensorrt"), cuda)  # type: ignore[arg-type]
    assert cuda.given == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8", "board": TX2}, "jetson-tx2: int8: its GPU has no 8-bit .*; allowed: fp32, fp16$"),
        ({"precision": "int8", "board": {"name": "x", "precisions": ["fp32"]}}, "x: int8: its file does not"),
        ({"precision": "half"}, "precision: half; allowed: fp32, fp16, int8"),
        ({"precision": "int8"}, "int8: no calibration frames"),
        ({"target": "8.6"}, r"8\.6: TensorRT 8\.2\.1\.8 builds for the GPU it runs on"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused(model, options, message):
    with pytest.raises(UserError, match=message) as refusal:
        build(model, **options)
    assert len(str(refusal.value).splitlines()) == 1
    assert files_in(model.parent) == ["model.onnx"]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "no frames"),
        (
            [*frames_of(1), np.zeros((1, 3, 8, 16), np.float32)],
            r"frame 1 is float32 \[1, 3, 8, 16\]; .* 16, 16\]",
        ),
        ([np.zeros((1, 3, 16, 16))], "frame 0 is float64"),
    ],
)
def test_wrong_calibration_frames_are_refused_and_leave_nothing(model, frames, message):
    cuda = CudaStandIn()
    with pytest.raises(UserError, match=message):
        build(model, ten, cuda, precision="int8", calibration=Calibration(frames, "set"))
    assert files_in(model.parent) == ["model.onnx"]
    assert (cuda.given, cuda.streams) == ({}, 0)


def test_stream_is_given_back_where_there_is_no_memory_for_a_frame(model, monkeypatch):
    def full(_size: int) -> int:
        raise UserError("CUDA: no memory left; stop other programs")

    cuda = CudaStandIn()
    monkeypatch.setattr(cuda, "allocate", full)
    with pytest.raises(UserError, match="CUDA: no memory left"):
        build(model, ten, cuda, precision="int8", calibration=Calibration(frames_of(1), "set"))
    assert cuda.streams == 0


def test_unsupported_operator_is_named(tmp_path):
    changed = onnx.load_from_string(colour_model())
    changed.graph.node[1].op_type, changed.graph.node[1].name = "GatherND", "pick"
    del changed.graph.node[1].attribute[:]
    (tmp_path / "model.onnx").write_bytes(changed.SerializeToString())
    with pytest.raises(UserError, match=r"model\.onnx: node 1 pick \(GatherND\): UNSUPPORTED_NODE: .*Plugin not found"):
        build(tmp_path / "model.onnx")
    assert files_in(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "is no ONNX file: it holds no graph"),
        (b"hello", "is no whole ONNX file"),
        (convolutions()[:-100], r"is no whole ONNX file \(it breaks off at byte \d+\)"),
    ],
)
def test_damaged_model_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(UserError, match=rf"model\.onnx: .*{message}"):
        build(tmp_path / "model.onnx")
    assert not (tmp_path / "engines").exists()


def test_half_precision_file_is_not_fp32(tmp_path, model):
    from pipeline.export.precision import to_fp16

    model.write_bytes(to_fp16(model.read_bytes()))
    with pytest.raises(UserError, match="has weights in half precision"):
        build(model, precision="fp32")
    assert build(model).is_new


def test_builder_that_finds_no_engine_says_why(model, monkeypatch):
    texts = ["2: [ltWrapper.cpp::setupHeuristic::349] Error Code 2: Internal Error (Assertion cublasStatus failed.)"]

    def fails(self, network, config):
        for text in texts:
            self._logger.log(eight.ILogger.Severity.ERROR, text)

    monkeypatch.setattr(eight.Builder, "build_serialized_network", fails)
    with pytest.raises(UserError, match=r"TensorRT 8\.2\.1\.8 found no engine: 2: \[ltWrapper"):
        build(model)
    texts.append("1: [defaultAllocator.cpp::allocate::20] Error Code 1: Cuda Runtime (out of memory)")
    with pytest.raises(UserError, match="not enough memory to build an engine"):
        build(model)
    assert files_in(model.parent) == ["model.onnx"]


def test_builder_that_does_not_start_says_why(model, monkeypatch):
    def null(self, logger):
        logger.log(eight.ILogger.Severity.ERROR, "CUDA initialization failure with error: 2")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(eight.Builder, "__init__", null)
    with pytest.raises(UserError, match=r"TensorRT 8\.2\.1\.8: does not start \(CUDA initialization failure"):
        build(model)


def test_no_tensorrt_is_one_line():
    with pytest.raises(UserError, match=r"^tensorrt_of_nobody: not installed; it comes with JetPack") as refusal:
        load_tensorrt("tensorrt_of_nobody")
    assert len(str(refusal.value).splitlines()) == 1


def test_tensorrt_that_does_not_load_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "tensorrt_broken.py").write_text("raise ImportError('libnvinfer.so.8: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"tensorrt_broken: cannot be loaded \(libnvinfer\.so\.8: cannot open"):
        load_tensorrt("tensorrt_broken")
