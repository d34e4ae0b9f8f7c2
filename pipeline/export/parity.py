"""Whether the exported model gives what the trained one gives: same pictures through both, compared and judged."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from deploy.backends import OnnxRuntimeBackend
from deploy.decode import detections_from_network
from deploy.frame import Detections
from deploy.nms import iou
from pipeline.darknet import DarknetNetwork
from pipeline.errors import refuse
from pipeline.networks.darknet import DarknetDetector
from pipeline.train.dataset import ImageTensors
from pipeline.train.metrics import NMS_THRESHOLD, SCORE_THRESHOLD, average_precision, detect

__all__ = ["LIMITS", "Parity", "check_parity"]


@dataclass(frozen=True)
class Parity:
    """The largest differences found between PyTorch and ONNX Runtime over `pictures` pictures.

    Attributes:
        score: of any score, 0 to 1.
        box: of any corner of a box that scores above 0.005, in pixels of the network's input.
        ap50: of AP at IoU 0.5 on these pictures.
        unmatched: detections above 0.25 that have no partner of their class at IoU 0.9 on the other side.
    """

    pictures: int
    score: float
    box: float
    ap50: float
    unmatched: int

    def as_dict(self) -> dict[str, float]:
        """For JSON, rounded so that the noise of the last digit does not change a bundle."""
        return {key: value if isinstance(value, int) else float(f"{value:.2g}") for key, value in asdict(self).items()}


# What float32 rounding explains, with room; a swapped channel or a wrong anchor is a thousand times larger.
LIMITS = Parity(pictures=1, score=1e-4, box=0.05, ap50=0.001, unmatched=0)


def check_parity(network: DarknetNetwork, model: bytes, data: ImageTensors, classes: Sequence[str]) -> Parity:
    """Run every picture of `data` through both and compare.

    Raises:
        UserError: a limit is passed; the message names it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        backend = OnnxRuntimeBackend(path)
        boxes, scores, exported = _run_exported(backend, data)
    expected_boxes, expected_scores = _run_trained(network, data)
    trained = detect(DarknetDetector(network), data)
    matters = expected_scores.max(axis=2) > SCORE_THRESHOLD
    before = average_precision(trained, data.sources, len(classes))
    after = average_precision(exported, data.sources, len(classes))
    found = Parity(
        pictures=len(data),
        score=float(np.abs(scores - expected_scores).max()),
        box=float(np.abs(boxes - expected_boxes)[matters].max(initial=0.0)),
        ap50=float(np.nanmax(np.abs(np.array(before) - np.array(after)), initial=0.0)),
        unmatched=sum(_unmatched(a, b) + _unmatched(b, a) for a, b in zip(trained, exported, strict=True)),
    )
    for name in ("score", "box", "ap50", "unmatched"):
        value, limit = getattr(found, name), getattr(LIMITS, name)
        if not value <= limit:
            raise refuse("export", f"PyTorch and ONNX Runtime differ: {name} {value:.3g}", f"the limit is {limit:g}")
    return found


def _run_exported(backend: OnnxRuntimeBackend, data: ImageTensors) -> tuple[np.ndarray, np.ndarray, list[Detections]]:
    outputs = [backend.infer((data.images[i : i + 1].float() / 255).numpy()) for i in range(len(data))]
    found = [
        detections_from_network(boxes, scores, SCORE_THRESHOLD, NMS_THRESHOLD, placement)
        for (boxes, scores), placement in zip(outputs, data.placements, strict=True)
    ]
    return np.stack([boxes for boxes, _ in outputs]), np.stack([scores for _, scores in outputs]), found


def _run_trained(network: DarknetNetwork, data: ImageTensors) -> tuple[np.ndarray, np.ndarray]:
    import torch

    network.eval()
    with torch.no_grad():
        parts = [network.decode(network(data.images[i : i + 1].float() / 255)) for i in range(len(data))]
    return torch.cat([b for b, _ in parts]).numpy(), torch.cat([s for _, s in parts]).numpy()


def _unmatched(detections: Detections, others: Detections) -> int:
    """Detections that fly (above 0.25) without a partner."""
    count = 0
    for box, score, index in zip(*detections, strict=True):
        partners = others.boxes[(others.classes == index) & (others.scores > 0.2)]
        if score > 0.25 and not (iou(box[None], partners) > 0.9).any():
            count += 1
    return count
