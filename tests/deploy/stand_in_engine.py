"""What the stand-ins for TensorRT do behind their names: a "plan" is the ONNX file with what was asked of the builder.

Running one runs ONNX Runtime on the addresses it is given. Knows no version of TensorRT.
"""

import ctypes
import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

from deploy.onnx_graph import OnnxFile, parse_onnx

MAGIC = b"plan of a stand-in\n"
# What the stand-ins' parsers read; a node of another operator is their parser's error.
OPERATORS = {
    *("Conv", "LeakyRelu", "MaxPool", "AveragePool", "Concat", "Resize", "Reshape", "Sigmoid", "Exp", "Mul", "Add"),
    *("Sub", "Div", "Slice", "Transpose", "Unsqueeze", "Constant", "Gather", "Identity", "Cast"),
}


def read_model(content: bytes) -> OnnxFile:
    """Read a serialised ONNX model as the parser gets it."""
    return parse_onnx(Path("model.onnx"), content)


def make_plan(content: bytes, asked: Dict[str, Any]) -> bytes:
    """The bytes that a builder gives."""
    return MAGIC + json.dumps(asked, sort_keys=True).encode() + b"\n" + content


def read_plan(plan: bytes) -> Tuple[Dict[str, Any], bytes]:
    """What was asked of the builder, and the ONNX file."""
    assert plan.startswith(MAGIC)
    asked, content = plan[len(MAGIC) :].split(b"\n", 1)
    return json.loads(asked.decode()), content


class Executor:
    """An engine's inputs and outputs, and one run of it. tensors: (name, shape, is_input) in the engine's order."""

    def __init__(self, plan: bytes) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(read_plan(plan)[1], providers=["CPUExecutionProvider"])
        inputs = [(value.name, tuple(value.shape), True) for value in self._session.get_inputs()]
        outputs = [(value.name, tuple(value.shape), False) for value in self._session.get_outputs()]
        self.tensors: List[Tuple[str, Tuple[int, ...], bool]] = inputs + outputs[::-1]  # no order is promised

    def run(self, addresses: Dict[str, int]) -> bool:
        import numpy as np

        feeds = {}
        for name, shape, is_input in self.tensors:
            if is_input:
                count = int(np.prod(shape))
                memory = (ctypes.c_float * count).from_address(addresses[name])
                feeds[name] = np.array(memory, np.float32).reshape(shape)
        names = [name for name, _, is_input in self.tensors if not is_input]
        for name, array in zip(names, self._session.run(names, feeds)):
            ctypes.memmove(addresses[name], np.ascontiguousarray(array).ctypes.data, array.nbytes)
        return True


def calibrate(calibrator: Any) -> Any:
    """What an entropy calibrator gives the builder: the first number of each frame, or its cache; None for nothing."""
    assert calibrator.get_batch_size() == 1
    cache = calibrator.read_calibration_cache()
    if cache is not None:
        return {"cache": bytes(memoryview(cache)).decode()}
    seen = []
    pointers = calibrator.get_batch(["images"])
    while pointers:
        assert len(pointers) == 1
        seen.append(ctypes.c_float.from_address(pointers[0]).value)
        pointers = calibrator.get_batch(["images"])
    if not seen:
        return None
    calibrator.write_calibration_cache(memoryview("TRT-8201-EntropyCalibration2 {}".format(seen).encode()))
    return {"frames": seen}
