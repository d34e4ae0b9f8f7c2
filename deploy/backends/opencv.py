"""Runs the network in OpenCV's own DNN module, on the CPU, where neither TensorRT nor ONNX Runtime is there.

It reads the same ONNX file, from 4.10 on: yolov3-tiny, yolov4-tiny, yolo11n and yolov3-tinyu give what ONNX Runtime
gives; 4.8 takes the last two of these, 4.7 and older none. That of a Jetson TX2, 4.1.1, knows the Slice of opset 9.
"""

import re
from pathlib import Path
from typing import Any, Optional, Tuple

import cv2
import numpy as np

from deploy.backends.contract import Backend, check_contract, first_line
from deploy.errors import refuse
from deploy.onnx_graph import read_onnx

_NEEDS = "install onnxruntime, or OpenCV 4.10 or newer"
_NODE = re.compile(r"Node \[(\w+)")


class OpenCvBackend(Backend):
    """An ONNX model in OpenCV. threads: of all of OpenCV, its resize too; None leaves them as they are.

    It computes in float32, whatever the weights are. precision: of the model, where it is known.

    Raises UserError: OpenCV does not take an operator of the model, or the model breaks the contract.
    """

    kind = "opencv"

    def __init__(self, model: Path, threads: Optional[int] = None, precision: Optional[str] = None) -> None:
        if threads:
            cv2.setNumThreads(threads)
        shape = read_onnx(model).input_shape
        try:
            self._network: Any = cv2.dnn.readNetFromONNX(str(model))
            self._network.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
            self._network.setInput(np.zeros(shape, np.float32), "images")
            outputs = dict(zip(("boxes", "scores"), self._network.forward(["boxes", "scores"])))
        except cv2.error as error:
            found = "OpenCV {} does not take {}".format(cv2.__version__, _reason(error))
            raise refuse(model, found, _NEEDS) from None
        shapes = {name: list(array.shape) for name, array in outputs.items()}
        types = ["tensor(float)" if array.dtype == np.float32 else str(array.dtype) for array in outputs.values()]
        self.height, self.width, self.classes = check_contract(model, {"images": list(shape)}, shapes, types)
        self.precision = precision
        self.name = " ".join(word for word in ("OpenCV DNN", cv2.__version__, precision or "", "on CPU") if word)

    def infer(self, tensor: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """See Backend."""
        self._network.setInput(tensor, "images")
        boxes, scores = self._network.forward(["boxes", "scores"])
        return boxes[0].copy(), scores[0].copy()

    def close(self) -> None:
        """See Backend."""
        self._network = None


def _reason(error: cv2.error) -> str:
    """The operator that OpenCV names, or its message without where in its sources it comes from."""
    node = _NODE.search(str(error))
    return "its operator {}".format(node.group(1)) if node else "it ({})".format(first_line(error).split("error: ")[-1])
