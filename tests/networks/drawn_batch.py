"""Drawn pictures as a batch for a detector, and a few steps of training on them."""

import cv2
import numpy as np
import torch
from drawn import draw_picture
from torch import Tensor

from pipeline.networks.detector import Detector


def drawn_batch(count: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images (count, 3, size, size) RGB 0 to 1, and truth (count, 2, 5) with rows of zeros as padding."""
    rng = np.random.default_rng(seed)
    images, truth = torch.zeros(count, 3, size, size), torch.zeros(count, 2, 5)
    for index in range(count):
        picture, boxes = draw_picture(rng, size, size)
        images[index] = torch.from_numpy(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)).permute(2, 0, 1) / 255
        fractions = torch.from_numpy(boxes) / size
        truth[index, : len(boxes), :2] = (fractions[:, :2] + fractions[:, 2:]) / 2
        truth[index, : len(boxes), 2:4] = fractions[:, 2:] - fractions[:, :2]
    return images, truth


def train_steps(detector: Detector, images: Tensor, truth: Tensor, steps: int, rate: float) -> None:
    """Steps of SGD with momentum and a weight decay that nothing unfrozen survives unchanged."""
    optimizer = torch.optim.SGD(detector.parameters(), lr=rate, momentum=0.9, weight_decay=0.01)
    detector.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.stack(list(detector.losses(detector.trunk(images), truth).values())).sum()
        loss.backward()
        optimizer.step()


def tensors_of(detector: Detector, index: int) -> dict[str, Tensor]:
    """Copies of the weights and statistics of a layer."""
    return {key: value.clone() for key, value in detector.network_layers[index].module.state_dict().items()}


def changed_layers(detector: Detector, before: list[dict[str, Tensor]]) -> list[int]:
    """Numbers of the layers of which any tensor is not what it was, to the bit."""
    return [
        index
        for index, old in enumerate(before)
        if any(not torch.equal(value, old[key]) for key, value in tensors_of(detector, index).items())
    ]


def overlap(boxes: Tensor, truth: Tensor, size: int) -> Tensor:
    """IoU of boxes (N, 4) xyxy pixels with one row of truth."""
    centre, half = truth[:2] * size, truth[2:4] * size / 2
    left_top, right_bottom = centre - half, centre + half
    shared = (boxes[:, 2:].minimum(right_bottom) - boxes[:, :2].maximum(left_top)).clamp(0).prod(1)
    return shared / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + (2 * half).prod() - shared)
