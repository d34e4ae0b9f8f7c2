"""What runs the network: ONNX Runtime on the CPU. Knows the model's inputs and outputs, nothing of pictures."""

from pathlib import Path
from typing import Dict, Iterable, List, Optional, Tuple

import numpy as np

from deploy.errors import UserError, refuse


class OnnxRuntimeBackend:
    """An ONNX model in ONNX Runtime.

    name: for the log. width, height: of the input, pixels. classes: number of score columns.
    """

    def __init__(self, model: Path, threads: Optional[int] = None) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UserError("onnxruntime: not installed; pip install onnxruntime") from None
        options = onnxruntime.SessionOptions()
        if threads:
            options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exceptions share no base class
            raise refuse(
                model, "ONNX Runtime cannot load it ({})".format(_first_line(error)), "export it again"
            ) from None
        self.name = "onnxruntime {} CPU".format(onnxruntime.__version__)
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        outputs = {value.name: value.shape for value in self._session.get_outputs()}
        types = [value.type for value in self._session.get_inputs() + self._session.get_outputs()]
        self.height, self.width, self.classes = check_contract(model, inputs, outputs, types)

    def infer(self, tensor: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Run (1, 3, H, W) float32, RGB, 0 to 1.

        Returns boxes (M, 4) float32, xyxy in pixels of the input, and scores (M, classes) float32, 0 to 1.
        """
        boxes, scores = self._session.run(["boxes", "scores"], {"images": tensor})
        return boxes[0], scores[0]


def check_contract(
    model: Path, inputs: Dict[str, List[int]], outputs: Dict[str, List[int]], types: Iterable[str]
) -> Tuple[int, int, int]:
    """Height, width and number of classes of a model that has the bundle's inputs and outputs.

    inputs, outputs: name to shape. types: of all of them, as ONNX Runtime calls them.

    Raises UserError for any other.
    """
    kinds = set(types)
    found = "inputs {}, outputs {}, {}".format(inputs, outputs, ", ".join(sorted(kinds)))
    image, boxes, scores = inputs.get("images", []), outputs.get("boxes", []), outputs.get("scores", [])
    is_static = all(isinstance(size, int) and size > 0 for size in image + boxes + scores)
    is_shaped = len(image) == 4 and image[:2] == [1, 3] and len(scores) == 3 and boxes == [scores[0], scores[1], 4]
    if is_static and is_shaped and scores[0] == 1 and len(inputs) == 1 and kinds == {"tensor(float)"}:
        return image[2], image[3], scores[2]
    needs = "needs float images [1, 3, H, W], boxes [1, M, 4] and scores [1, M, classes], all static"
    raise refuse(model, found, needs)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
