"""How near pictures are to those that a network was trained on, seen through the network's own batch norm.

Every batch norm keeps the mean and variance that each channel had on the pictures of training. What they are on other
pictures says how far those are, without a single picture of training. Knows nothing about labels.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.errors import refuse
from pipeline.experiment import Augment
from pipeline.networks.detector import Detector
from pipeline.train.augment import augment, draw_views

__all__ = ["Similarity", "measure_similarity", "scrambled"]

_AT_ONCE = 16  # pictures in a batch
_APART = 1.25  # times as far as the start's own pictures must scrambled ones lie
_OPTIONS = Augment()  # batch norm remembers pictures as training shows them: augmented


@dataclass(frozen=True)
class Similarity:
    """How near the target's pictures are to those of the start's training.

    Attributes:
        target: mean over the layers of how far the target's pictures are, in standard deviations of the channels.
        near: the same of pictures of the start's own set, which is not 0, since training augments them and its weights
            went on moving; None where there are none to measure: then half of `far` stands for it.
        far: the same of the target's pictures with their phases scrambled, which have its colours and frequencies, but
            nothing in them.
        by_layer: number of the layer, and how far the target's pictures are there.
    """

    target: float
    near: float | None
    far: float
    by_layer: tuple[tuple[int, float], ...]

    @property
    def is_telling(self) -> bool:
        """Whether scrambled pictures lie clearly farther than the start's own; else `value` is noise."""
        return self.near is None or self.far > _APART * self.near

    @property
    def value(self) -> float:
        """1 as near as the start's own pictures, 0 as far as scrambled ones, or beyond."""
        near = self.far / 2 if self.near is None else self.near
        span = self.far - near
        return min(1.0, max(0.0, 1 - (self.target - near) / span)) if span > 0 else 0.0


def measure_similarity(
    detector: Detector, layers: Sequence[int], target: Tensor, source: Tensor | None, seed: int = 0
) -> Similarity:
    """Compare pictures with what the batch norms in `layers` remember.

    Args:
        layers: numbers of layers that hold trained weights.
        target, source: (N, 3, height, width) uint8, RGB, of the network's size; source of the start's own set, if any.

    Raises:
        UserError: none of the layers has a batch norm.
    """
    norms = [
        (index, module)
        for index in layers
        for module in detector.network_layers[index].module.modules()
        if _memory(module) is not None
    ]
    if not norms:
        raise refuse("start", "its trained layers have no batch norm to compare with", "choose another start")
    by_layer = _distances(detector, norms, target)
    far = _distances(detector, norms, scrambled(target, seed))
    near = None if source is None else _mean(_distances(detector, norms, source))
    return Similarity(_mean(by_layer), near, _mean(far), tuple(by_layer.items()))


def scrambled(images: Tensor, seed: int = 0) -> Tensor:
    """The pictures with the amplitude of every frequency as it is, and a random phase: textures of the same colours.

    images: (N, 3, height, width) uint8. The three colours get the same phases, or their mixture would change too.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand((len(images), 1, *images.shape[2:]), generator=generator)
    turn = torch.exp(1j * torch.fft.fft2(noise).angle())
    turn[..., 0, 0] = 1  # the mean colour stays
    mixed = torch.fft.ifft2(torch.fft.fft2(images.float()) * turn).real
    return mixed.round().clamp(0, 255).to(torch.uint8)


def _distances(detector: Detector, norms: list[tuple[int, nn.Module]], images: Tensor) -> dict[int, float]:
    """By layer: the median over its channels of how far mean and deviation are from what is remembered.

    Of a channel it is the 2-Wasserstein distance of the two normal distributions, over the remembered deviation.
    """
    detector.eval()
    moments = [_Moments() for _ in norms]
    views = draw_views(_OPTIONS, len(images), torch.Generator().manual_seed(0))[:, None]
    nothing = torch.zeros((len(images), 1, 1, 5))
    with _watched([module for _, module in norms], [moment.add for moment in moments]):
        device = next(detector.parameters()).device
        for start in range(0, len(images), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            pixels, _ = augment(images[part, None], nothing[part], views[part], _OPTIONS)
            detector.predict(pixels.to(device))
    found: dict[int, list[float]] = {}
    for (index, module), moment in zip(norms, moments, strict=True):
        memory = _memory(module)
        assert memory is not None
        mean, deviation = memory[0].double().cpu(), memory[1].double().cpu().sqrt()
        apart = (moment.mean - mean).square() + (moment.deviation - deviation).square()
        found.setdefault(index, []).append(float((apart.sqrt() / deviation.clamp(min=1e-6)).median()))
    return {index: sum(values) / len(values) for index, values in found.items()}


class _Moments:
    """Mean and deviation of every channel over all batches, in float64."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = self._squares = torch.zeros(())

    def add(self, x: Tensor) -> None:
        """x: (batch, channels, height, width)."""
        values = x.detach().double()
        self._count += values.numel() // values.shape[1]
        self._sum = self._sum + values.sum(dim=(0, 2, 3)).cpu()
        self._squares = self._squares + values.square().sum(dim=(0, 2, 3)).cpu()

    @property
    def mean(self) -> Tensor:
        """(channels,)."""
        return self._sum / self._count

    @property
    def deviation(self) -> Tensor:
        """(channels,)."""
        return (self._squares / self._count - self.mean.square()).clamp(min=0).sqrt()


@contextmanager
def _watched(modules: Sequence[nn.Module], watch: Sequence[Callable[[Tensor], None]]) -> Iterator[None]:
    """Show each module's input to its watcher, inside the block."""

    def hook(see: Callable[[Tensor], None]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: see(inputs[0])

    handles = [module.register_forward_pre_hook(hook(see)) for module, see in zip(modules, watch, strict=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _memory(module: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Mean and variance that a batch norm keeps, Darknet's or PyTorch's; None of other modules."""
    for mean, variance in (("rolling_mean", "rolling_variance"), ("running_mean", "running_var")):
        if isinstance(getattr(module, mean, None), Tensor):
            return getattr(module, mean), getattr(module, variance)
    return None


def _mean(values: dict[int, float]) -> float:
    return sum(values.values()) / len(values)
