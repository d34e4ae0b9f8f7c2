"""Runs the network in ONNX Runtime, on the GPU where its CUDA provider loads, else on the CPU. Knows no pictures."""

from pathlib import Path
from typing import Any, List, Optional, Tuple

import numpy as np

from deploy.backends.contract import Backend, check_contract, first_line
from deploy.errors import UserError, refuse

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class OnnxRuntimeBackend(Backend):
    """An ONNX model in ONNX Runtime. threads: for the CPU; None for all cores.

    device: CUDA or CPU. precision: of the model, where it is known.

    Raises UserError: no ONNX Runtime, a model that it does not load or that breaks the contract, or CUDA was asked for
    and does not load.
    """

    kind = "onnxruntime"

    def __init__(
        self, model: Path, threads: Optional[int] = None, device: str = "CPU", precision: Optional[str] = None
    ) -> None:
        onnxruntime = _library()
        options = onnxruntime.SessionOptions()
        if threads:
            options.intra_op_num_threads = threads
        options.log_severity_level = 3
        providers = [_CUDA, _CPU] if device == "CUDA" else [_CPU]
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=providers)
        except Exception as error:  # ONNX Runtime's own exceptions share no base class
            raise refuse(
                model, "ONNX Runtime cannot load it ({})".format(first_line(error)), "export it again"
            ) from None
        if device == "CUDA" and self._session.get_providers()[0] != _CUDA:  # it goes on with the CPU and says nothing
            raise refuse(
                "onnxruntime", "its CUDA provider does not load", "install the CUDA and cuDNN it was built for"
            )
        self.precision = precision
        words = ["onnxruntime", onnxruntime.__version__, precision or "", "on", device]
        self.name = " ".join(word for word in words if word)
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        outputs = {value.name: value.shape for value in self._session.get_outputs()}
        types = [value.type for value in self._session.get_inputs() + self._session.get_outputs()]
        self.height, self.width, self.classes = check_contract(model, inputs, outputs, types)

    def infer(self, tensor: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """See Backend."""
        boxes, scores = self._session.run(["boxes", "scores"], {"images": tensor})
        return boxes[0], scores[0]

    def close(self) -> None:
        """See Backend."""
        self._session = None


def devices() -> List[str]:
    """What ONNX Runtime was built for, best first; empty where it is not installed. CUDA may still not load."""
    try:
        providers = _library().get_available_providers()
    except UserError:
        return []
    return [name for name, provider in (("CUDA", _CUDA), ("CPU", _CPU)) if provider in providers]


def _library() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        if getattr(error, "name", None) not in (None, "onnxruntime"):
            raise refuse("onnxruntime", "cannot be loaded ({})".format(first_line(error)), "install it again") from None
        raise UserError("onnxruntime: not installed; pip install onnxruntime") from None
    return onnxruntime
