"""What TensorRT 8.2 and 10 are asked for, and what their engines give.

The builders here are stand-ins (tensorrt_8_2_stand_in.py, tensorrt_10_stand_in.py); NVIDIA's own builder runs in
test_tensorrt_rtx.py.
"""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorrt_8_2_stand_in as eight
import tensorrt_10_stand_in as ten
from cuda_stand_in import CudaStandIn
from engine_builds import MIB, TX2, asked_of, build, convolutions, files_in, frames_of

from deploy.calibrate import Calibration
from deploy.engine import share_of
from deploy.tensorrt import TensorRt
from deploy.tensorrt_backend import TensorRtBackend
from deploy.tensorrt_log import Listener

MODULES = pytest.mark.parametrize("module", [eight, ten], ids=["8.2", "10"])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(convolutions())
    return tmp_path / "model.onnx"


def test_stand_in_refuses_what_8_2_has_not():
    config = eight.Builder(eight.Logger()).create_builder_config()
    for absent in ("set_memory_pool_limit", "progress_monitor", "builder_optimization_level"):
        assert not hasattr(config, absent)
        with pytest.raises(AttributeError):
            setattr(config, absent, 1)
    for cls, absent in (
        (eight.ICudaEngine, "num_io_tensors"), (eight.IExecutionContext, "execute_async_v3"),
        (eight, "IProgressMonitor"),
        (eight.IExecutionContext, "set_tensor_address"), (eight.ParserError, "node_name"), (eight, "MemoryPoolType"),
        (eight.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"), (ten.IBuilderConfig, "max_workspace_size"),
        (ten.ICudaEngine, "get_binding_shape"), (ten.IExecutionContext, "execute_async_v2"),
        (ten.Builder, "build_engine"),
    ):  # fmt: skip
        assert not hasattr(cls, absent), absent
    with pytest.raises(NotImplementedError, match="build_engine"):
        _ = eight.Builder(eight.Logger()).build_engine  # type: ignore[attr-defined]


def test_cuda_stand_in_has_the_methods_of_cuda():
    from deploy.cuda import Cuda

    methods = {name for name in vars(Cuda) if not name.startswith("_")}
    assert methods == {name for name in vars(CudaStandIn) if not name.startswith("_")}


@MODULES
def test_half_precision_leaves_the_decode_in_float32(model, module):
    asked = asked_of(build(model, module, board=TX2))
    assert asked["flags"] == ["FP16", "PREFER_PRECISION_CONSTRAINTS"]
    assert asked["float32"] == ["cells", "sides", "logit", "exp", "mul", "boxes", "sigmoid", "scores"]


@MODULES
def test_fp32_asks_for_nothing_less(model, module):
    asked = asked_of(build(model, module, precision="fp32"))
    assert (asked["flags"], asked["float32"]) == ([], [])


@MODULES
def test_workspace_is_a_share_of_what_is_free(model, module):
    assert asked_of(build(model, module, CudaStandIn(free=1000 * MIB)))["workspace"] == 500 * MIB
    engine = build(model, module, CudaStandIn(free=64 << 30), workspace=32 * MIB)
    assert asked_of(engine)["workspace"] == engine.facts["workspace"] == 32 * MIB
    assert share_of(64 << 30) == 2048 * MIB
    assert share_of(None) is None


@MODULES
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_engine_runs_and_gives_what_the_model_gives(model, module, precision):
    from deploy.backends import OnnxRuntimeBackend

    cuda = CudaStandIn()
    backend = TensorRtBackend(build(model, module, cuda, precision=precision), TensorRt(module, "tensorrt"), cuda)  # type: ignore[arg-type]
    expected = OnnxRuntimeBackend(model)
    assert (backend.width, backend.height, backend.classes) == (16, 16, 1)
    assert backend.name == f"TensorRT {module.__version__} {precision} on NVIDIA Tegra X2"
    assert backend.precision == precision  # by which golden frames are judged
    rng = np.random.default_rng(0)
    frames = [rng.random((1, 3, 16, 16), dtype=np.float32) for _ in range(2)]
    results = [backend.infer(frame) for frame in frames]
    for frame, (boxes, scores) in zip(frames, results, strict=True):  # the first must survive the second
        assert np.array_equal(boxes, expected.infer(frame)[0])
        assert np.array_equal(scores, expected.infer(frame)[1])
    backend.close()
    assert (cuda.given, cuda.streams) == ({}, 0)


def test_int8_is_calibrated_once_for_the_same_frames(model):
    first = build(model, ten, precision="int8", calibration=Calibration(iter(frames_of(3)), "set a"))
    asked = asked_of(first)
    assert asked["calibration"] == {"frames": [0.0, 1.0, 2.0]}
    assert asked["flags"] == ["FP16", "INT8", "PREFER_PRECISION_CONSTRAINTS"]
    assert first.facts["calibration_frames"] == 3
    assert not build(model, ten, precision="int8", calibration=Calibration([], "set a")).is_new
    again = build(model, ten, precision="int8", workspace=MIB, calibration=Calibration([], "set a"))
    assert asked_of(again)["calibration"] == {"cache": "TRT-8201-EntropyCalibration2 [0.0, 1.0, 2.0]"}
    other = build(model, ten, precision="int8", workspace=MIB, calibration=Calibration(frames_of(2), "set b"))
    assert asked_of(other)["calibration"] == {"frames": [0.0, 1.0]}


def test_int8_is_built_again_where_half_precision_may_no_more_be_used(model):
    frames = Calibration(frames_of(2), "set a")
    build(model, ten, precision="int8", calibration=frames)
    board = {"name": "own", "precisions": ["fp32", "int8"], "missing_precisions": {"fp16": "slow"}}
    again = build(model, ten, precision="int8", calibration=frames, board=board)
    assert again.is_new
    assert asked_of(again)["flags"] == ["INT8", "PREFER_PRECISION_CONSTRAINTS"]


def test_progress_comes_from_log_lines_of_8_and_from_a_monitor_of_10(model):
    said: list[tuple[str, int, int]] = []
    build(model, progress=lambda *step: said.append(step))
    assert said[1:] == [("timing conv_0", 1, 0), ("timing conv_1", 2, 0)]
    said.clear()
    build(model, ten, progress=lambda *step: said.append(step))
    assert said[1:3] == [("Building Engine", 1, 11), ("Building Engine", 2, 11)]
    assert said[-1] == ("Building Engine", 11, 11)


def test_layers_that_are_timed_are_counted_and_not_kept():
    said: list[tuple[str, int, int]] = []
    listener = Listener(lambda *step: said.append(step))
    for number in range(1000):
        for kernel in ("CudnnConvolution", "CaskConvolution"):
            listener.timing(f"--------------- Timing Runner: conv_{number} + relu ({kernel})")
    assert said[-1] == ("timing conv_999 + relu", 1000, 0)
    assert len(said) == 1000
    assert not any(isinstance(value, list) and value for value in vars(listener).values())


@MODULES
def test_interrupt_in_a_callback_leaves_no_file(model, module):
    def stop(what: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(model, module, progress=stop)
    assert files_in(model.parent) == ["model.onnx"]


def test_interrupt_ends_a_build_of_8_2_at_once(model):
    """8.2 cannot be asked to stop: while its builder runs, Ctrl-C ends the process; it is Python's again afterwards."""
    code = f"""
import os, signal, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}]
signal.signal(signal.SIGINT, signal.default_int_handler)
import engine_builds, tensorrt_8_2_stand_in as eight
from pathlib import Path
engine_builds.build(Path({str(model)!r}), precision="fp32")
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
eight.Builder.build_serialized_network = lambda *_: [os.kill(os.getpid(), 2), print("went on")]
engine_builds.build(Path({str(model)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
    assert "model-fp16.engine" not in files_in(model.parent)
