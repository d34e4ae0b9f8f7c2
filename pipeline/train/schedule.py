"""Which pictures, in which view and at which learning rate: a function of the seed and the iteration's number alone.

So a resumed trial ends with the same numbers. Knows nothing about pictures or networks.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Batch", "Schedule", "generator", "learning_rate", "rounds", "view_count"]

_LEAST_VIEWS = 4  # fewer would be learned by heart
_USES = 8  # of each view, where there are more than enough rounds: the frozen layers then cost an eighth


@dataclass(frozen=True)
class Batch:
    """images, views: (batch,) int64, the number of each picture and of its augmented view."""

    images: Tensor
    views: Tensor

    def part(self, chosen: slice) -> "Batch":
        """Some of it."""
        return Batch(self.images[chosen], self.views[chosen])


class Schedule:
    """The pictures in a new random order per round, the rounds one after the other.

    count: pictures. views: how many views of a picture there are, used in turn; 0 for a new one in every round.
    """

    def __init__(self, count: int, batch: int, seed: int, views: int) -> None:
        self.count, self.size, self.seed, self.views = count, batch, seed, views
        self._orders: dict[int, Tensor] = {}

    def batch(self, iteration: int) -> Batch:
        """The batch of `iteration`, counted from 0."""
        position = torch.arange(iteration * self.size, (iteration + 1) * self.size)
        number = position // self.count
        first, last = int(number[0]), int(number[-1])
        self._orders = {r: self._order(r) for r in range(first, last + 1)}  # the next needs the last
        images = torch.stack(list(self._orders.values()))[number - first, position % self.count]
        return Batch(images, number % self.views if self.views else number)

    def _order(self, number: int) -> Tensor:
        if number in self._orders:
            return self._orders[number]
        return torch.randperm(self.count, generator=generator(self.seed, number, "order"))


def view_count(iterations: int, batch: int, count: int) -> int:
    """How many views of each of `count` pictures to keep where frozen layers run once per view."""
    most = rounds(iterations, batch, count)
    return min(most, max(_LEAST_VIEWS, math.ceil(most / _USES)))


def rounds(iterations: int, batch: int, count: int) -> int:
    """How often each of `count` pictures is seen, the last time perhaps not by all."""
    return math.ceil(iterations * batch / count)


def learning_rate(rate: float, burn_in: int, steps: Mapping[int, float], iteration: int) -> float:
    """network.c get_current_rate: in burn-in it grows with the fourth power, then it changes by `steps`."""
    if iteration < burn_in:
        return float(rate * ((iteration + 1) / burn_in) ** 4)
    return float(rate * math.prod(factor for step, factor in steps.items() if iteration >= step))


def generator(seed: int, number: int, purpose: str) -> torch.Generator:
    """A generator that depends on its three arguments alone."""
    digest = hashlib.sha256(f"{purpose} {seed} {number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
