"""What every backend is, and what a model must be to run in one: the bundle's inputs and outputs, nothing else."""

from pathlib import Path
from typing import Dict, Iterable, List, Optional, Tuple

import numpy as np

from deploy.errors import refuse


class Backend:
    """A loaded model.

    kind: by which a user asks for it. name: for the log: library, version, precision, device. precision: fp32, fp16 or
    int8, by which golden frames are judged; None for that of the model. width, height: of the input, pixels. classes:
    number of score columns. model: file name of the model in its bundle, "" outside of one.
    """

    kind = ""
    name = ""
    precision: Optional[str] = None
    model = ""
    width = 0
    height = 0
    classes = 0

    def infer(self, tensor: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Run (1, 3, H, W) float32, RGB, 0 to 1.

        Returns boxes (M, 4) float32, xyxy in pixels of the input, and scores (M, classes) float32, 0 to 1; both are the
        caller's to keep.
        Raises UserError where the device does not run it.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Give back what is held; called twice it does no harm. Nothing runs afterwards."""


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


def first_line(error: BaseException) -> str:
    """What a library's exception says, short enough for a message."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
