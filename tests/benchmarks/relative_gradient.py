"""How strongly a target pulls at each layer of a start, before anything is learned: gradients over weights.

Knows nothing about how a start was made.
"""

import torch
from torch import Tensor

from pipeline.experiment import Augment
from pipeline.networks.detector import Detector
from pipeline.train.augment import augment, draw_views
from pipeline.train.dataset import ImageTensors

__all__ = ["relative_gradients"]


def relative_gradients(
    detector: Detector, data: ImageTensors, batch: int, batches: int, seed: int = 0
) -> dict[int, float]:
    """Norm of the mean gradient over that of the weights, by number of every layer with weights.

    Args:
        detector: with the start's weights; nothing frozen. Its statistics of batch norm are used and left alone.
        batch, batches: augmented pictures to take the gradient of, in so many parts; pictures are reused if need be.
    """
    detector.freeze(())
    detector.eval()
    generator = torch.Generator().manual_seed(seed)
    device = next(detector.parameters()).device
    for parameter in detector.parameters():
        parameter.grad = None
    for _ in range(batches):
        chosen = torch.randint(len(data), (batch,), generator=generator)
        views = draw_views(Augment(), batch, generator)[:, None]
        pixels, truth = augment(data.images[chosen, None], data.truth[chosen, None], views, Augment())
        losses = detector.losses((pixels.to(device),), truth.to(device))
        (torch.stack(list(losses.values())).sum() / batches).backward()
    return {
        layer.index: _norm([p.grad for p in layer.module.parameters()]) / _norm(list(layer.module.parameters()))
        for layer in detector.network_layers
        if layer.has_weights
    }


def _norm(tensors: list[Tensor | None] | list[torch.nn.Parameter]) -> float:
    squares = [tensor.detach().double().square().sum() for tensor in tensors if tensor is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
