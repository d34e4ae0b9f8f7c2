"""Builds with the stand-ins for TensorRT: a small model with two convolutions and a decode, and what came of it."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import tensorrt_8_2_stand_in as eight
from cuda_stand_in import CudaStandIn
from stand_in_engine import read_plan

from deploy.engine import Engine, build_engine
from deploy.tensorrt import TensorRt

MIB = 1 << 20
TX2 = {
    "name": "jetson-tx2",
    "precisions": ["fp32", "fp16"],
    "missing_precisions": {"int8": "its GPU has no 8-bit arithmetic"},
}


def convolutions() -> bytes:
    """An ONNX file: two convolutions in a row, then a decode; boxes are exp times 4, scores the sigmoid of the rest."""
    helper = onnx.helper
    values = {"a": np.full((6, 3, 1, 1), 0.1), "b": np.full((5, 6, 1, 1), 0.1), "four": np.array([4.0])}
    ends = {"zero": [0], "to": [4], "all": [5], "one": [1]}
    shape = {"flat": [1, 5, 256]}
    nodes = [
        helper.make_node("Conv", ["images", "a"], ["first"], name="conv_0"),
        helper.make_node("LeakyRelu", ["first"], ["bent"], name="leaky_0"),
        helper.make_node("Conv", ["bent", "b"], ["raw"], name="conv_1"),
        helper.make_node("Reshape", ["raw", "flat"], ["cells"], name="cells"),
        helper.make_node("Slice", ["cells", "zero", "to", "one"], ["sides"], name="sides"),
        helper.make_node("Slice", ["cells", "to", "all", "one"], ["logit"], name="logit"),
        helper.make_node("Exp", ["sides"], ["positive"], name="exp"),
        helper.make_node("Mul", ["positive", "four"], ["pixels"], name="mul"),
        helper.make_node("Transpose", ["pixels"], ["boxes"], perm=[0, 2, 1], name="boxes"),
        helper.make_node("Sigmoid", ["logit"], ["chance"], name="sigmoid"),
        helper.make_node("Transpose", ["chance"], ["scores"], perm=[0, 2, 1], name="scores"),
    ]
    tensors = [onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in values.items()]
    tensors += [onnx.numpy_helper.from_array(np.array(v, np.int64), name) for name, v in {**ends, **shape}.items()]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("images", 1, [1, 3, 16, 16])],
        [helper.make_tensor_value_info(n, 1, [1, 256, size]) for n, size in (("boxes", 4), ("scores", 1))],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def build(model: Path, module: ModuleType = eight, cuda: CudaStandIn | None = None, **options: Any) -> Engine:
    """Build into the folder engines beside `model`."""
    cuda = cuda or CudaStandIn()
    library = TensorRt(module, "tensorrt")
    return build_engine(model, model.parent / "engines", library=library, cuda=cuda, **options)  # type: ignore[arg-type]


def asked_of(engine: Engine) -> dict[str, Any]:
    return read_plan(engine.path.read_bytes())[0]


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def frames_of(count: int) -> list[np.ndarray]:
    return [np.full((1, 3, 16, 16), index, np.float32) for index in range(count)]
