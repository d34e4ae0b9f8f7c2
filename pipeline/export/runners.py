"""Who computes the same detector: PyTorch, ONNX Runtime, and OpenCV, which reads Darknet's files by itself.

Each takes one picture and gives what its heads give, the boxes and the scores. Knows nothing of how they are compared.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from deploy.backends import OnnxRuntimeBackend
from deploy.calibrate import Calibration
from deploy.cuda import Cuda
from deploy.engine import build_engine
from deploy.tensorrt_backend import TensorRtBackend
from pipeline.darknet import DarknetNetwork, Header, save_weights, with_options
from pipeline.darknet.batch_norm import BATCH_NORM_EPS
from pipeline.errors import refuse
from pipeline.export.onnx import Exported, taps_of, watch
from pipeline.networks.darknet import DarknetDetector
from pipeline.networks.detector import Detector

__all__ = ["OnnxRuntimeRunner", "OpenCvRunner", "Outputs", "Runner", "TensorRtRunner", "TorchRunner"]

_OPENCV_EPS = 1e-6  # that OpenCV's Darknet reader adds to the variance, darknet_io.cpp setBatchNorm
_OPENCV_LEAST = "1e-9"  # score below which it gives 0, else 0.2


@dataclass(frozen=True)
class Outputs:
    """What one picture gives, before NMS.

    Attributes:
        heads: (channels, height, width) float32 each, from which the boxes are decoded; empty if not asked for.
        boxes: (M, 4) float32, xyxy in pixels of the input. scores: (M, classes) float32, 0 to 1.
    """

    heads: tuple[np.ndarray, ...]
    boxes: np.ndarray
    scores: np.ndarray


class Runner(Protocol):
    """Something that runs the detector."""

    name: str

    def run(self, image: np.ndarray, with_heads: bool = False) -> Outputs:
        """Run one picture, (1, 3, H, W) float32, RGB, 0 to 1."""

    def taps(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """What every layer with weights gives, (1, channels, H, W) each, in order; nothing where it cannot be told."""


class TorchRunner:
    """The detector itself."""

    def __init__(self, detector: Detector) -> None:
        self.name = f"PyTorch {torch.__version__.partition('+')[0]}"
        self._detector = detector.eval()
        self._taps = taps_of(detector)

    def run(self, image: np.ndarray, with_heads: bool = False) -> Outputs:
        """See `Runner`."""
        heads: dict[str, Tensor] = {}
        taps = tuple(tap for tap in self._taps if with_heads and tap.name.startswith("head "))
        with watch(taps, heads):
            boxes, scores = self._detector.predict(torch.from_numpy(image))
        return Outputs(tuple(head[0].numpy() for head in heads.values()), boxes[0].numpy(), scores[0].numpy())

    def taps(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """See `Runner`."""
        found: dict[str, Tensor] = {}
        with watch(self._taps, found):
            self._detector.predict(torch.from_numpy(image))
        return {tap.name: found[tap.name][0].numpy() for tap in self._taps if tap.name in found}


class OnnxRuntimeRunner:
    """The exported model in what flies. tapped: the same with all taps; of it only they are taken."""

    def __init__(self, exported: Exported) -> None:
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(exported.model)
            self._backend = OnnxRuntimeBackend(path)
        self.name = self._backend.name
        self._exported = exported
        self._session = onnxruntime.InferenceSession(exported.tapped, providers=["CPUExecutionProvider"])

    def run(self, image: np.ndarray, with_heads: bool = False) -> Outputs:
        """See `Runner`."""
        boxes, scores = self._backend.infer(image)
        return Outputs(tuple(self._outputs(image, self._exported.heads)) if with_heads else (), boxes, scores)

    def taps(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """See `Runner`."""
        return dict(zip(self._exported.taps, self._outputs(image, self._exported.taps), strict=True))

    def _outputs(self, image: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
        return [values[0] for values in self._session.run(list(names), {"images": image})]


class TensorRtRunner:
    """An engine built of the exported model for this machine's GPU; its heads and layers cannot be looked at.

    Raises:
        UserError: no GPU or TensorRT here, or it builds no engine for this GPU.
    """

    def __init__(self, exported: Exported, precision: str, folder: Path, calibration: Calibration | None) -> None:
        cuda = Cuda()
        path = folder / f"model-{precision}.onnx"
        path.write_bytes(exported.model)
        self._backend = TensorRtBackend(
            build_engine(path, folder, precision, calibration=calibration, cuda=cuda), cuda=cuda
        )
        self.name = self._backend.name

    def close(self) -> None:
        """Give the GPU's memory back."""
        self._backend.close()

    def run(self, image: np.ndarray, with_heads: bool = False) -> Outputs:
        """See `Runner`."""
        return Outputs((), *self._backend.infer(image))

    def taps(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Nothing: its layers are fused."""
        return {}


class OpenCvRunner:
    """OpenCV's own reader of cfg and .weights.

    It adds 1e-6 to the variance where Darknet adds 1e-5, so that it is given variances larger by the difference; and a
    threshold in the cfg, below which it would leave scores out.

    Raises:
        UserError: it cannot read this cfg.
    """

    def __init__(self, detector: DarknetDetector) -> None:
        network = detector.network
        self.name = f"OpenCV {cv2.__version__} DNN"
        self._order = _order(network)
        self._heads = [f"conv_{index - 1}" for index in network.spec.yolo_layers]
        self._size = np.array([detector.width, detector.height] * 2, np.float32)
        with tempfile.TemporaryDirectory() as folder:
            cfg, weights = Path(folder) / "network.cfg", Path(folder) / "network.weights"
            yolo = {index: {"thresh": _OPENCV_LEAST} for index in network.spec.yolo_layers}
            cfg.write_text(with_options(network.cfg, yolo).text)
            _save_for_opencv(network, weights)
            try:
                self._net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
                self._names = list(self._net.getUnconnectedOutLayersNames())
                self.run(np.zeros((1, 3, detector.height, detector.width), np.float32), with_heads=True)
            except cv2.error as error:
                reason = " ".join(str(error.err).split())[:120]
                raise refuse("OpenCV", f"does not read this cfg ({reason})", "compare without it") from None

    def run(self, image: np.ndarray, with_heads: bool = False) -> Outputs:
        """See `Runner`."""
        self._net.setInput(image)
        heads = self._heads if with_heads else []
        found = self._net.forward([*self._names, *heads])
        rows = np.concatenate(found[: len(self._names)])[self._order]
        centre, half = rows[:, :2] * self._size[:2], rows[:, 2:4] * self._size[:2] / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)
        return Outputs(tuple(head[0] for head in found[len(self._names) :]), boxes, rows[:, 5:])

    def taps(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Nothing: its layers are fused."""
        return {}


def _save_for_opencv(network: DarknetNetwork, path: Path) -> None:
    norms = [norm for index in network.spec.weighted_layers if (norm := network.weighted(index).norm) is not None]
    before = [norm.rolling_variance.clone() for norm in norms]
    try:
        for norm in norms:
            norm.rolling_variance += BATCH_NORM_EPS - _OPENCV_EPS
        save_weights(network, path, Header(seen=0))
    finally:
        for norm, variance in zip(norms, before, strict=True):
            norm.rolling_variance.copy_(variance)


def _order(network: DarknetNetwork) -> np.ndarray:
    """Rows of OpenCV in the order of our boxes: it counts cell by cell and in each the anchors, we the other way."""
    orders, start = [], 0
    for index, layer in zip(network.spec.yolo_layers, network.spec.heads, strict=True):
        shape = network.spec.shapes[index]
        cells, anchors = shape.height * shape.width, len(layer.mask)
        orders.append(start + np.arange(cells * anchors).reshape(cells, anchors).T.ravel())
        start += cells * anchors
    return np.concatenate(orders)
