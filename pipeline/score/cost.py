"""What training costs with some layers frozen, in iterations with none frozen: by counting, without a clock."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipeline.networks.detector import Detector
from pipeline.networks.families import Architecture
from pipeline.train.schedule import view_count

__all__ = ["Cost", "training_cost"]


@dataclass(frozen=True)
class Cost:
    """Multiplications for one picture, over those of an iteration's picture that trains every layer.

    Attributes:
        learning: forward and backward through what learns, at every iteration.
        trunk: through what is frozen before it, once for each stored view of a picture.
    """

    learning: float
    trunk: float

    def of(self, iterations: int, batch: int, photos: int) -> float:
        """Of a whole training, in iterations that train every layer.

        Every view that is used is made of all photos, also where a few batches ask for some of them only.
        """
        views = view_count(iterations, batch, photos)
        return iterations * self.learning + self.trunk * views * photos / batch


def training_cost(network: Architecture, frozen: Collection[int]) -> Cost:
    """Count for a network with these layers frozen."""
    detector = network.build()
    whole = sum(_flops(detector))
    detector.freeze(frozen)
    trunk, learning = _flops(detector)
    return Cost(learning / whole, trunk / whole)


def _flops(detector: Detector) -> tuple[float, float]:
    """Of one picture: through the trunk, and through the rest and back."""
    images = torch.rand((1, 3, detector.height, detector.width))
    truth = torch.tensor([[[0.5, 0.5, 0.3, 0.3, 0.0]]])
    detector.train()
    with FlopCounterMode(display=False) as trunk:
        features: tuple[Tensor, ...] = detector.trunk(images)
    with FlopCounterMode(display=False) as rest:
        torch.stack(list(detector.losses(features, truth).values())).sum().backward()
    return float(trunk.get_total_flops()), float(rest.get_total_flops())
