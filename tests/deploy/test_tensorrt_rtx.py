"""NVIDIA's own parser and builder, which TensorRT-RTX runs without a GPU for a named compute capability."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from colour_model import colour_model

from deploy.cuda import Cuda
from deploy.engine import build_engine
from deploy.errors import UserError
from deploy.tensorrt import TensorRt, load_tensorrt
from deploy.tensorrt_log import Listener, make_logger

pytest.importorskip("tensorrt_rtx_bindings", reason="no TensorRT-RTX: it has wheels for Linux on x86-64 alone")


@pytest.fixture(scope="module")
def rtx() -> TensorRt:
    return load_tensorrt("tensorrt_rtx_bindings")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny-YOLOv3 at 96 pixels: model.onnx in float32, half.onnx in half precision."""
    from pipeline.darknet import DarknetNetwork, adapted, network_cfg
    from pipeline.export.onnx import export_onnx
    from pipeline.export.precision import to_fp16
    from pipeline.networks.darknet import DarknetDetector

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    network = DarknetNetwork(adapted(network_cfg("yolov3-tiny"), 96, 96, 1))
    model = export_onnx(DarknetDetector(network)).model
    (folder / "model.onnx").write_bytes(model)
    (folder / "half.onnx").write_bytes(to_fp16(model))
    return folder


@pytest.mark.parametrize("target", ["8.6", "12.0"])
@pytest.mark.parametrize(("name", "precision"), [("model", "fp32"), ("half", "fp16")])
def test_tiny_yolo_is_built_for_a_named_gpu(tiny, rtx, tmp_path, target, name, precision):
    steps: list[tuple[str, int, int]] = []
    file = tiny / f"{name}.onnx"
    options: dict[str, Any] = {"precision": precision, "target": target, "library": rtx}
    engine = build_engine(file, tmp_path, progress=lambda *step: steps.append(step), **options)
    assert engine.is_new
    assert (engine.key.library, engine.key.compute_capability) == ("tensorrt_rtx", target)
    assert engine.path.stat().st_size > file.stat().st_size * 0.9
    assert max(total for _, _, total in steps) > 100
    assert not build_engine(file, tmp_path, **options).is_new


@pytest.mark.parametrize("name", ["yolov4-tiny", "yolo11n", "yolo26n"])
def test_other_networks_are_built_in_half_precision(name, rtx, tmp_path):
    """Groups, attention, Ultralytics' decode; at 416 pixels the boxes hardly move."""
    from deploy.backends import OnnxRuntimeBackend
    from pipeline.export.onnx import export_onnx
    from pipeline.export.precision import to_fp16
    from pipeline.networks.families import architecture

    model = export_onnx(architecture(name, 416, 2).build()).model
    (tmp_path / "model.onnx").write_bytes(model)
    (tmp_path / "half.onnx").write_bytes(to_fp16(model))
    frame = np.random.default_rng(0).random((1, 3, 416, 416), dtype=np.float32)
    boxes, halved = (OnnxRuntimeBackend(tmp_path / file).infer(frame)[0] for file in ("model.onnx", "half.onnx"))
    moved = float(np.abs(boxes - halved).max())
    print(f"{name}: boxes move by {moved:.4f} px")
    assert moved < 0.05
    assert build_engine(tmp_path / "half.onnx", tmp_path, target="8.6", library=rtx).is_new


def test_engine_for_another_gpu_is_built_again(tiny, rtx, tmp_path):
    first = build_engine(tiny / "half.onnx", tmp_path, target="8.6", library=rtx)
    second = build_engine(tiny / "half.onnx", tmp_path, target="12.0", library=rtx)
    assert second.is_new
    assert second.sha256 != first.sha256
    assert second.facts["built_because"] == "gpu was any of compute capability 8.6, is any of compute capability 12.0"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("model", {"precision": "fp16"}, r"model\.onnx: is float32, and TensorRT-RTX .* takes types from the ONNX"),
        ("half", {"precision": "fp32"}, r"half\.onnx: has weights in half precision"),
        ("model", {"precision": "int8"}, "int8: TensorRT-RTX .* calibrates nothing"),
        (
            "model",
            {"precision": "fp32", "target": "6.2"},
            r"6\.2: .* does not build for it; it knows SM120",
        ),
    ],
)
def test_what_it_cannot_build_is_refused(tiny, rtx, tmp_path, name, options, message):
    with pytest.raises(UserError, match=message):
        build_engine(tiny / f"{name}.onnx", tmp_path / "out", library=rtx, **{"target": "8.6", **options})
    assert not (tmp_path / "out").exists()


def test_operator_that_its_parser_does_not_read_is_named(rtx, tmp_path):
    model = onnx.load_from_string(colour_model())
    model.graph.node.insert(3, onnx.helper.make_node("Det", ["images"], ["volumes"], name="the_det"))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"model\.onnx: node 3 the_det \(Det\): UNSUPPORTED_NODE: ") as refusal:
        build_engine(tmp_path / "model.onnx", tmp_path / "out", "fp32", target="8.6", library=rtx)
    assert len(str(refusal.value).splitlines()) == 1


def test_bytes_that_are_no_model_are_refused(rtx, tmp_path):
    """TensorRT's own parser takes b"hello" for an empty network and says nothing."""
    (tmp_path / "model.onnx").write_bytes(b"hello")
    with pytest.raises(UserError, match="is no whole ONNX file"):
        build_engine(tmp_path / "model.onnx", tmp_path / "out", "fp32", target="8.6", library=rtx)


def test_interrupt_stops_the_builder_and_leaves_no_file(tiny, rtx, tmp_path):
    def interrupt(what: str, done: int, total: int) -> None:
        if total and done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            build_engine(tiny / "half.onnx", tmp_path, target="8.6", library=rtx, progress=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert list(tmp_path.iterdir()) == []
    assert build_engine(tiny / "half.onnx", tmp_path, target="8.6", library=rtx).is_new


def test_exception_of_the_caller_comes_through_the_builder(tiny, rtx, tmp_path):
    def fail(what: str, done: int, total: int) -> None:
        if done == 5:
            raise ZeroDivisionError("in the caller's progress")

    with pytest.raises(ZeroDivisionError):
        build_engine(tiny / "half.onnx", tmp_path, target="8.6", library=rtx, progress=fail)
    assert list(tmp_path.iterdir()) == []


def _cuda() -> Cuda:
    try:
        return Cuda()
    except UserError as error:
        pytest.skip(f"no GPU here: {error}")


def test_without_a_gpu_cuda_says_so_in_one_line():
    try:
        Cuda()
    except UserError as error:
        assert str(error).startswith("CUDA: ")  # noqa: PT017
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    else:
        pytest.skip("there is a GPU here")


@pytest.mark.parametrize(("name", "precision", "pixels"), [("model", "fp32", 0.05), ("half", "fp16", 0.5)])
def test_engine_gives_what_onnx_runtime_gives(tiny, rtx, tmp_path, name, precision, pixels):
    from deploy.backends import OnnxRuntimeBackend
    from deploy.tensorrt_backend import TensorRtBackend

    cuda = _cuda()
    capability = "SM" + cuda.device().compute_capability.replace(".", "")
    if not hasattr(rtx.module.ComputeCapability, capability):
        pytest.skip(f"TensorRT-RTX does not run on {cuda.device().name} ({capability})")
    backend = TensorRtBackend(build_engine(tiny / f"{name}.onnx", tmp_path, precision, library=rtx), rtx, cuda)
    reference = OnnxRuntimeBackend(tiny / "model.onnx")
    rng = np.random.default_rng(0)
    for _ in range(3):
        frame = rng.random((1, 3, 96, 96), dtype=np.float32)
        (boxes, scores), (expected, chances) = backend.infer(frame), reference.infer(frame)
        assert np.abs(boxes - expected).max() < pixels
        assert np.abs(scores - chances).max() < 0.01
    backend.close()


def test_cuda_copies_there_and_back():
    cuda = _cuda()
    host, stream = cuda.pinned((3, 5)), cuda.stream()
    pointer = cuda.allocate(host.nbytes)
    host[:] = np.arange(15).reshape(3, 5)
    cuda.to_device(pointer, host, stream)
    back = np.zeros((3, 5), np.float32)
    cuda.to_host(back, pointer, stream)
    cuda.wait(stream)
    assert np.array_equal(back, host)
    cuda.free(pointer)
    cuda.unpin(host)
    cuda.destroy(stream)
    assert cuda.device().free_bytes


def test_decode_of_a_real_network_is_what_follows_the_last_convolutions(tiny, rtx):
    """The layers that TensorRT's own parser makes of Tiny-YOLOv3, sorted as for half precision in 8 to 10."""
    from deploy.onnx_graph import read_onnx
    from deploy.tensorrt import decode_layers
    from deploy.tensorrt_log import Listener, make_logger

    logger = make_logger(rtx.module, Listener(None), False)
    network = rtx._parse(rtx.module.Builder(logger), read_onnx(tiny / "model.onnx"), logger)
    chosen = {layer.name for layer in decode_layers(rtx.module, network)}
    every = [network.get_layer(index) for index in range(network.num_layers)]
    convolutions = [layer for layer in every if layer.type == rtx.module.LayerType.CONVOLUTION]
    assert len(convolutions) == 13
    assert not chosen & {layer.name for layer in convolutions}
    trunk = [layer.name for layer in every if layer.name not in chosen]
    assert sum("Exp" in name or "Sigmoid" in name for name in chosen) >= 4
    assert not any("Exp" in name or "Sigmoid" in name for name in trunk)
    assert any("Resize" in name for name in trunk)


def test_one_logger_outlives_every_build(rtx: TensorRt) -> None:
    """NVIDIA's library keeps the first logger that it is given, and crashes where Python has let go of it."""
    first, second = Listener(None), Listener(None)
    logger = make_logger(rtx.module, first, says_layers=False)
    assert make_logger(rtx.module, second, says_layers=False) is logger
    logger.log(rtx.module.ILogger.Severity.ERROR, "something")
    assert (first.errors, second.errors) == ([], ["something"])
