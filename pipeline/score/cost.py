"""What an iteration costs with some layers frozen, in iterations with none frozen: by counting, without a clock."""

from collections.abc import Collection

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipeline.networks.detector import Detector
from pipeline.networks.families import Architecture

__all__ = ["iteration_cost"]

_USES = 8  # of what the frozen layers made of a view, while it is kept (see train/schedule.py)


def iteration_cost(network: Architecture, frozen: Collection[int]) -> float:
    """Multiplications of an iteration with these layers frozen, over those of one that trains every layer.

    Forward and backward through what learns; what comes before it runs once per stored view, and so counts an eighth.
    """
    detector = network.build()
    whole = _flops(detector)
    detector.freeze(frozen)
    return _flops(detector) / whole


def _flops(detector: Detector) -> float:
    images = torch.rand((1, 3, detector.height, detector.width))
    truth = torch.tensor([[[0.5, 0.5, 0.3, 0.3, 0.0]]])
    detector.train()
    with FlopCounterMode(display=False) as trunk:
        features: tuple[Tensor, ...] = detector.trunk(images)
    with FlopCounterMode(display=False) as rest:
        torch.stack(list(detector.losses(features, truth).values())).sum().backward()
    return float(trunk.get_total_flops() / _USES + rest.get_total_flops())
