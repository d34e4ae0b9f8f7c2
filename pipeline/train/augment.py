"""Darknet's augmentation for a whole batch at once, on its device: jitter, flip, hue, saturation, exposure.

The same generator state gives the same batch. Knows nothing about files or networks.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor

from pipeline.experiment import Augment

__all__ = ["augment", "distort_colours"]

# data.c fill_truth_detection drops boxes whose width or height falls below this part of the picture
_SMALLEST = 0.001


def augment(images: Tensor, truth: Tensor, options: Augment, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Augment a batch.

    Args:
        images: (batch, 3, height, width) uint8, RGB.
        truth: (batch, boxes, 5) float32: centre x, centre y, width, height relative, class; zero rows are padding.
        generator: on the CPU.

    Returns:
        Images as float32 from 0 to 1, and the boxes moved with them, clipped to the picture; what left it is zeroed.
    """
    pixels = images.float() / 255
    batch = len(images)

    def uniform(low: float, high: float, columns: int = 1) -> Tensor:
        return (torch.rand((batch, columns), generator=generator) * (high - low) + low).to(images.device)

    # Each side of the crop moves in or out on its own (data.c load_data_detection: pleft, pright, ptop, pbot).
    sides = uniform(-options.jitter, options.jitter, 4)
    left, top, right, bottom = sides[:, 0], sides[:, 1], 1 - sides[:, 2], 1 - sides[:, 3]
    is_flipped = uniform(0, 1)[:, 0] < (0.5 if options.flip else 0.0)
    hue = uniform(-options.hue, options.hue)
    saturation, exposure = _scale(options.saturation, uniform), _scale(options.exposure, uniform)
    if options.hue or options.saturation > 1 or options.exposure > 1:
        pixels = distort_colours(pixels, hue[:, 0], saturation[:, 0], exposure[:, 0])
    if options.jitter or options.flip:
        pixels = _crop(pixels, left, top, right, bottom, is_flipped)
        truth = _crop_boxes(truth, left, top, right, bottom, is_flipped)
    return pixels, truth


def distort_colours(images: Tensor, hue: Tensor, saturation: Tensor, exposure: Tensor) -> Tensor:
    """Shift hue and scale saturation and value in HSV (image.c distort_image).

    Args:
        images: (batch, 3, height, width) float32, RGB, 0 to 1.
        hue: (batch,) parts of the circle. saturation, exposure: (batch,) factors.
    """
    value, _ = images.max(dim=1)
    chroma = value - images.amin(dim=1)
    red, green, blue = images.unbind(dim=1)
    safe = chroma.clamp(min=1e-6)
    sector = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    strength = (chroma / value.clamp(min=1e-6) * saturation[:, None, None]).clamp(max=1)
    bright = (value * exposure[:, None, None]).clamp(max=1)
    shifted = sector + 6 * hue[:, None, None]
    k = (shifted[:, None] + shifted.new_tensor([5.0, 3.0, 1.0])[None, :, None, None]) % 6
    weight = torch.minimum(k, 4 - k).clamp(0, 1)
    return bright[:, None] * (1 - strength[:, None] * weight)


def _scale(most: float, uniform: Callable[..., Tensor]) -> Tensor:
    """utils.c rand_scale: a factor from 1 to `most`, or its inverse, evenly."""
    factor = uniform(1.0, most)
    return torch.where(uniform(0, 1) < 0.5, factor, 1 / factor)


def _crop(images: Tensor, left: Tensor, top: Tensor, right: Tensor, bottom: Tensor, is_flipped: Tensor) -> Tensor:
    """Sample the crop (parts of the picture) to the full size; outside is mid-grey."""
    width, height = right - left, bottom - top
    zero = torch.zeros_like(width)
    sign = torch.where(is_flipped, -1.0, 1.0)
    rows = [
        torch.stack((sign * width, zero, left + right - 1), dim=1),
        torch.stack((zero, height, top + bottom - 1), dim=1),
    ]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images - 0.5, grid, align_corners=False) + 0.5


def _crop_boxes(truth: Tensor, left: Tensor, top: Tensor, right: Tensor, bottom: Tensor, is_flipped: Tensor) -> Tensor:
    """Move relative boxes into the crop."""
    origin = torch.stack((left, top), dim=1)[:, None]
    size = torch.stack((right - left, bottom - top), dim=1)[:, None]
    low = ((truth[..., :2] - truth[..., 2:4] / 2 - origin) / size).clamp(0, 1)
    high = ((truth[..., :2] + truth[..., 2:4] / 2 - origin) / size).clamp(0, 1)
    flipped = is_flipped[:, None]
    x_low = torch.where(flipped, 1 - high[..., 0], low[..., 0])
    x_high = torch.where(flipped, 1 - low[..., 0], high[..., 0])
    extent = torch.stack((x_high - x_low, high[..., 1] - low[..., 1]), dim=-1)
    centre = torch.stack(((x_low + x_high) / 2, (low[..., 1] + high[..., 1]) / 2), dim=-1)
    moved = torch.cat((centre, extent, truth[..., 4:]), dim=-1)
    is_kept = (truth[..., 2] > 0) & (extent.amin(dim=-1) >= _SMALLEST)
    return moved * is_kept[..., None]
