"""Chooses N images: the best by their scores first, and of those the ones that differ most. It knows no rule.

Diversity is farthest-point sampling on features of the project's own backbone: layers 0 to 12 of Tiny-YOLOv3, averaged
over the picture. With the weights of a trained network the features say what is seen; without any they are those of a
network at random, which still tell colours and textures apart, and need no download.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pipeline.darknet import DarknetNetwork

__all__ = ["Backbone", "farthest_points", "quality"]

_LAYER = 12  # the last of the backbone, see Facts: 13 layers are the whole of it
_SIDE = 224


def quality(scores: Mapping[str, np.ndarray], among: np.ndarray) -> np.ndarray:
    """How good each image is among its like, 0 worst to 1 best: (M,) float64, NaN outside `among`, (M,) bool.

    scores: (M,) float64 each, larger being better. The mean of the places that an image takes in each, so no score
    needs a unit or a weight; ties share their place, an unknown score takes the middle.
    """
    total = np.zeros(int(among.sum()))
    for values in scores.values():
        total += _places(values[among])
    result = np.full(len(among), np.nan)
    result[among] = total / max(len(scores), 1) if scores else 0.5
    return result


def _places(values: np.ndarray) -> np.ndarray:
    """Place of each value from 0 to 1, the largest being 1."""
    known = np.isfinite(values)
    places = np.full(len(values), 0.5)
    ordered = np.sort(values[known])
    low = np.searchsorted(ordered, values[known], side="left")
    high = np.searchsorted(ordered, values[known], side="right") - 1
    places[known] = (low + high) / 2 / max(len(ordered) - 1, 1)
    return places


def farthest_points(features: np.ndarray, first: Sequence[int], count: int) -> list[int]:
    """Indices of `count` rows of `features`, (M, D), in the order chosen: each the farthest from all chosen before.

    first: rows that are chosen already, at least one. Each feature is scaled to unit variance. Of rows equally far the
    one that comes first is chosen, so their order should say which is better.
    """
    scaled = features / np.where(features.std(axis=0) > 0, features.std(axis=0), 1)
    chosen = list(first)
    distance = np.full(len(scaled), np.inf)
    for index in chosen:
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[index], axis=1))
    distance[chosen] = -1
    while len(chosen) < min(count, len(scaled)):
        index = int(distance.argmax())
        chosen.append(index)
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[index], axis=1))
        distance[index] = -1
    return chosen


class Backbone:
    """Features of photos. weights: a Darknet file that reaches layer 12 at least; None for a network at random."""

    def __init__(self, weights: Path | None) -> None:
        from pipeline.files import file_sha256

        self._weights = weights
        self._network: DarknetNetwork | None = None
        self._loading = threading.Lock()  # several photos are looked at at once, and chance must fall but one way
        self.version = f"backbone-1 {file_sha256(weights) if weights else 'random'}"

    def features(self, photo: np.ndarray) -> np.ndarray:
        """(1024,) float64 of a photo, (H, W, 3) uint8 RGB."""
        import torch

        from deploy.resize import resize_image

        with self._loading:
            if self._network is None:
                self._network = self._load()
        image, _ = resize_image(photo, _SIDE, _SIDE, "stretch")
        batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))[None]).float() / 255
        with torch.no_grad():
            found = self._network.outputs(batch, [_LAYER])[_LAYER].mean(dim=(2, 3))[0]
        return np.asarray(found.double().numpy())

    def _load(self) -> "DarknetNetwork":
        import torch

        from pipeline.darknet import DarknetNetwork, adapted, load_weights, network_cfg

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = DarknetNetwork(adapted(network_cfg("yolov3-tiny"), _SIDE, _SIDE, 1)).eval()
        if self._weights is not None:
            load_weights(network, self._weights, up_to=_LAYER + 1)
        return network
