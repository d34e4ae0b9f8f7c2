"""A split as tensors of the network's size, held as uint8; knows nothing about training."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from deploy.resize import Placement, boxes_to_network, resize_image
from pipeline.curated import LabelledImage
from pipeline.errors import refuse

__all__ = ["ImageTensors", "load_images"]


@dataclass(frozen=True)
class ImageTensors:
    """Images of one split, resized once.

    Attributes:
        images: (N, 3, height, width) uint8, RGB.
        truth: (N, most boxes, 5) float32: centre x, centre y, width, height relative to the network's input, class;
            rows of zeros are padding.
        placements: where each source picture lies in the input.
        sources: the labelled pictures themselves, boxes in pixels of the source.
    """

    images: Tensor
    truth: Tensor
    placements: tuple[Placement, ...]
    sources: tuple[LabelledImage, ...]

    def __len__(self) -> int:
        return len(self.sources)


def load_images(sources: Sequence[LabelledImage], width: int, height: int, resize: str) -> ImageTensors:
    """Decode and resize every picture, as the drone would; a picture that cannot be decoded is an error."""

    def load(source: LabelledImage) -> tuple[np.ndarray, Placement]:
        return resize_image(_read_rgb(source.path), width, height, resize)

    with ThreadPoolExecutor() as pool:
        loaded = list(pool.map(load, sources))
    images = torch.empty((len(loaded), 3, height, width), dtype=torch.uint8)
    truth = torch.zeros((len(loaded), max((len(source.boxes) for source in sources), default=0), 5))
    for index, ((image, placement), source) in enumerate(zip(loaded, sources, strict=True)):
        images[index] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        boxes = boxes_to_network(source.boxes, placement) / np.array([width, height] * 2, np.float32)
        rows = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
        truth[index, : len(rows), :4] = torch.from_numpy(rows)
        truth[index, : len(rows), 4] = torch.from_numpy(source.classes).float()
    return ImageTensors(images, truth, tuple(placement for _, placement in loaded), tuple(sources))


def _read_rgb(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise refuse(path, "cannot be decoded as a picture", "replace or remove it, with its label")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
