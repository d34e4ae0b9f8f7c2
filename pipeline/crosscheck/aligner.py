"""A small network that looks at a box and says how far the object lies beside it, and whether there is one at all.

It learns from the given boxes themselves: each is shown moved and scaled at random, and the answer is the way back.
Where most boxes are right, the way back from a box that nobody moved is an error of the annotator. It knows nothing
about detectors, folds or what follows from its answers.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from pipeline.crosscheck.patches import CONTEXT

__all__ = ["judge", "train_aligner"]

_INPUT = 48  # pixels
_VIEW = 1.7  # the input shows this many times the box
_MOST_SHIFT, _MOST_SCALE = 0.3, 0.25  # of the box, and of its logarithm: more is another object, or none
_ALIGNED, _BACKGROUND = 96, 48  # patches of each kind in a batch
_OBJECT_WEIGHT = 0.05  # of the question whether there is an object, against that of where it lies
_RATE, _DECAY = 3e-3, 1e-2


class _Aligner(nn.Module):
    """(N, 3, 48, 48) to (N, 5): shift x and y in box sides, log of the scale in x and y, log odds of an object."""

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        channels = 3
        for filters, stride in ((24, 1), (32, 2), (48, 2), (64, 2), (96, 2)):
            parts += [
                nn.Conv2d(channels, filters, 3, stride, 1, bias=False),
                nn.BatchNorm2d(filters),
                nn.LeakyReLU(0.1),
            ]
            channels = filters
        parts += [nn.Flatten(), nn.Dropout(0.3), nn.Linear(96 * 9, 128), nn.LeakyReLU(0.1), nn.Linear(128, 5)]
        self.layers = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.layers(x)
        return answer


def train_aligner(
    aligned: Tensor, background: Tensor, iterations: int, seed: int, on_step: Callable[[int], None] | None = None
) -> nn.Module:
    """Train on patches, (N, 3, 96, 96) uint8 each: `aligned` around boxes, `background` where no box is.

    on_step: called with the number of iterations done; what it raises ends the training.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Aligner()
        optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=iterations + 1)
        for iteration in range(iterations):
            patches = torch.cat([_sample(aligned, _ALIGNED), _sample(background, _BACKGROUND)])
            is_object = torch.zeros(len(patches))
            is_object[:_ALIGNED] = 1
            moves = _random_moves(len(patches))
            answer = network(_view(_vary(_as_floats(patches)), moves))
            way_back = functional.smooth_l1_loss(answer[:_ALIGNED, :4], moves[:_ALIGNED], beta=0.1)
            there = functional.binary_cross_entropy_with_logits(answer[:, 4], is_object)
            optimizer.zero_grad()
            (way_back + _OBJECT_WEIGHT * there).backward()
            optimizer.step()
            schedule.step()
            if on_step:
                on_step(iteration + 1)
    return network.eval()


@torch.no_grad()
def judge(network: nn.Module, patches: Tensor, batch: int = 512) -> np.ndarray:
    """What `network` says about patches, (N, 3, 96, 96) uint8: (N, 5) float64.

    Columns: how far the box lies to the right of and below the object, in box sides; log of how much wider and higher
    it is; log odds that there is an object. The mean of what is said of the patch and of its mirror image.
    """
    answers = [np.empty((0, 5))]
    for start in range(0, len(patches), batch):
        x = _as_floats(patches[start : start + batch])
        still = torch.zeros(len(x), 4)
        straight, mirrored = network(_view(x, still)), network(_view(x.flip(3), still))
        mirrored[:, 0] *= -1
        answers.append(((straight + mirrored) / 2).double().numpy())
    return np.concatenate(answers)


def _sample(patches: Tensor, count: int) -> Tensor:
    return patches[torch.randint(len(patches), (count,))] if len(patches) else patches


def _random_moves(count: int) -> Tensor:
    shift = torch.empty(count, 2).uniform_(-_MOST_SHIFT, _MOST_SHIFT)
    scale = torch.empty(count, 2).uniform_(-_MOST_SCALE, _MOST_SCALE)
    return torch.cat([shift, scale], dim=1)


def _as_floats(patches: Tensor) -> Tensor:
    return patches.float() / 255 - 0.45


def _vary(x: Tensor) -> Tensor:
    """Mirror every second patch and change its contrast."""
    is_mirrored = torch.rand(len(x)) < 0.5
    return torch.where(is_mirrored[:, None, None, None], x.flip(3), x) * torch.empty(len(x), 1, 1, 1).uniform_(0.7, 1.4)


def _view(x: Tensor, moves: Tensor) -> Tensor:
    """What lies around the boxes after `moves`, (N, 4) as in the network's answer: (N, 3, 48, 48)."""
    matrix = torch.zeros(len(x), 2, 3)
    for axis in range(2):
        matrix[:, axis, axis] = _VIEW / CONTEXT * moves[:, 2 + axis].exp()
        matrix[:, axis, 2] = moves[:, axis] * 2 / CONTEXT
    grid = functional.affine_grid(matrix, [len(x), 3, _INPUT, _INPUT], align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)
