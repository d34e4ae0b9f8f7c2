"""How well a start's features tell a target's objects from what lies beside them: k-NN, leaving each photo out once.

The usual estimate of transferability without training: no weight is learned.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from deploy.nms import iou
from pipeline.curated import LabelledImage
from pipeline.networks.detector import Detector
from pipeline.score.crops import cut_crops

__all__ = ["knn_accuracy"]

_NEIGHBOURS, _SMALLEST, _TRIES = 5, 8, 30


def knn_accuracy(detector: Detector, images: Sequence[LabelledImage]) -> float:
    """Balanced accuracy, 0 to 1, of objects against as many boxes beside them, by the last layer of the backbone."""
    generator = np.random.default_rng(0)
    beside = [replace(image, boxes=_moved(image, generator)) for image in images]
    parts = [cut_crops(some, detector.width, detector.height, _SMALLEST) for some in (images, beside)]
    x = np.concatenate([_features(detector, part.pixels) for part in parts])
    y = np.concatenate([np.full(len(part), label) for label, part in zip((1, 0), parts, strict=True)])
    photos = [photo for part in parts for photo in part.image_ids]
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(_NEIGHBOURS))
    return float(balanced_accuracy_score(y, cross_val_predict(model, x, y, groups=photos, cv=LeaveOneGroupOut())))


def _moved(image: LabelledImage, generator: np.random.Generator) -> np.ndarray:
    """Each box somewhere else on the photo, on no object if that can be had."""
    moved = image.boxes.copy()
    for row, (x1, y1, x2, y2) in enumerate(image.boxes):
        for _ in range(_TRIES):
            left = generator.uniform(0, max(1e-3, image.width - (x2 - x1)))
            top = generator.uniform(0, max(1e-3, image.height - (y2 - y1)))
            moved[row] = left, top, left + x2 - x1, top + y2 - y1
            if iou(moved[row : row + 1], image.boxes).max() < 0.1:
                break
    return moved


@torch.no_grad()
def _features(detector: Detector, pixels: Tensor) -> np.ndarray:
    """(N, 3, H, W) uint8 to (N, channels) float32, the mean over the places."""
    found: list[Tensor] = []
    module = detector.output_module(detector.backbone - 1)
    handle = module.register_forward_hook(lambda _module, _inputs, output: found.append(output.mean(dim=(2, 3))))
    try:
        for start in range(0, len(pixels), 32):
            detector.eval().predict(pixels[start : start + 32].float() / 255)
    finally:
        handle.remove()
    return torch.cat(found).numpy()
