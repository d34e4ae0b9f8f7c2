"""One network with its weights, measured on one split of a set, as `darknet detector map` does.

What goes with what is found in `pairing.py`, how good is judged in `metrics.py`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deploy.frame import Detections
from pipeline.curated import CuratedSet, LabelledImage
from pipeline.download import BytesProgress
from pipeline.files import file_sha256
from pipeline.networks.detector import Detector
from pipeline.train.dataset import load_images
from pipeline.train.metrics import COUNTED, Scores, detect, score
from pipeline.train.pairing import Wish, read_pair
from pipeline.workspace import Workspace

__all__ = ["Evaluated", "Progress", "evaluate_network"]

Progress = Callable[[int, int], None]  # pictures done, pictures in all

_PICTURES_AT_ONCE = 32  # in memory, and in a batch


@dataclass(frozen=True)
class Evaluated:
    """What was measured on what.

    Attributes:
        data_hash: of the photos and labels of the split.
        device: what it ran on.
        seconds: from the first picture to the last, with decoding and NMS.
    """

    network: str
    weights: Path
    weights_sha256: str
    data: CuratedSet
    data_hash: str
    split: str
    width: int
    height: int
    resize: str
    device: str
    seconds: float
    scores: Scores

    @property
    def images(self) -> tuple[LabelledImage, ...]:
        """The pictures that were measured on."""
        return self.data.splits[self.split]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        scores = self.scores.as_dict()
        per_class = zip(self.data.classes, scores.pop("ap50_per_class"), scores.pop("counts_per_class"), strict=True)
        del scores["loss"]  # not computed
        return {
            "network": self.network,
            "weights": str(self.weights),
            "weights_sha256": self.weights_sha256,
            "data": str(self.data.root),
            "data_hash": self.data_hash,
            "split": self.split,
            "images": len(self.images),
            "width": self.width,
            "height": self.height,
            "resize": self.resize,
            "device": self.device,
            "seconds": self.seconds,
            **scores,
            "darknet_map": self.scores.darknet_map,
            "counted_above": COUNTED,
            "classes": [{"name": name, "ap50": ap, **counts} for name, ap, counts in per_class],
        }


def evaluate_network(
    wish: Wish,
    workspace: Workspace,
    progress: Progress | None = None,
    download_progress: BytesProgress | None = None,
) -> Evaluated:
    """Measure one network.

    Raises:
        UserError: see `read_pair`.
    """
    pair = read_pair(wish, workspace, download_progress)
    detector = pair.detector.to("cuda" if torch.cuda.is_available() else "cpu")
    begin = time.perf_counter()
    found = _detect_all(detector, pair.images, pair.resize, progress)
    seconds = time.perf_counter() - begin
    return Evaluated(
        network=pair.network,
        weights=pair.weights,
        weights_sha256=file_sha256(pair.weights),
        data=pair.data,
        data_hash=pair.data_hash,
        split=pair.split,
        width=detector.width,
        height=detector.height,
        resize=pair.resize,
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        seconds=seconds,
        scores=score(found, pair.images, len(pair.data.classes)),
    )


def _detect_all(
    detector: Detector, images: Sequence[LabelledImage], resize: str, progress: Progress | None
) -> list[Detections]:
    """Detections of every picture; few pictures are in memory at a time."""
    found: list[Detections] = []
    for start in range(0, len(images), _PICTURES_AT_ONCE):
        part = load_images(images[start : start + _PICTURES_AT_ONCE], detector.width, detector.height, resize)
        found += detect(detector, part, _PICTURES_AT_ONCE)
        if progress:
            progress(len(found), len(images))
    return found
