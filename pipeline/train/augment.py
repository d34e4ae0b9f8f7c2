"""Darknet's augmentation for a whole batch at once, on its device: jitter, flip, hue, saturation, exposure, mosaic.

What is random about a view of a picture is drawn beforehand, so that a view can be made again. Knows nothing about
files or networks.
"""

import torch
import torch.nn.functional as functional
from torch import Tensor

from pipeline.experiment import Augment
from pipeline.tensors import constant

__all__ = ["augment", "distort_colours", "draw_views", "sources"]

# data.c fill_truth_detection drops boxes whose width or height falls below this part of the picture
_SMALLEST = 0.001
# image.c, blend_truth_mosaic's caller: the cut between the four pictures keeps this distance from the edges
_LEAST_CUT = 0.2

_SIDES, _FLIP, _HUE, _SATURATION, _EXPOSURE, _MOSAIC, _CUT, _PARTNERS = slice(0, 4), 4, 5, 6, 7, 8, slice(9, 11), 11
_COLUMNS = 14


def draw_views(options: Augment, count: int, generator: torch.Generator) -> Tensor:
    """Draw what is random about one view of each of `count` pictures.

    Returns:
        (count, 14) float32: left, top, right and bottom of the crop as parts of the picture, 1 to flip, hue as part of
        the circle, factors for saturation and exposure, 1 for a mosaic, the x and y of its cut, and the numbers of the
        three other pictures in it.
    """

    def uniform(low: float, high: float, columns: int = 1) -> Tensor:
        return torch.rand((count, columns), generator=generator) * (high - low) + low

    def scale(most: float) -> Tensor:
        """utils.c rand_scale: a factor from 1 to `most`, or its inverse, evenly."""
        factor = uniform(1.0, most)
        return torch.where(uniform(0, 1) < 0.5, factor, 1 / factor)

    # Each side of the crop moves in or out on its own (data.c load_data_detection: pleft, pright, ptop, pbot).
    sides = uniform(-options.jitter, options.jitter, 4) + torch.tensor([0.0, 0.0, 1.0, 1.0])
    return torch.cat(
        (
            sides,
            (uniform(0, 1) < (0.5 if options.flip else 0.0)).float(),
            uniform(-options.hue, options.hue),
            scale(options.saturation),
            scale(options.exposure),
            (uniform(0, 1) < options.mosaic).float(),
            uniform(_LEAST_CUT, 1 - _LEAST_CUT, 2),
            torch.randint(count, (count, 3), generator=generator).float(),
        ),
        dim=1,
    )


def sources(images: Tensor, views: Tensor, options: Augment) -> Tensor:
    """Numbers of the pictures that each of a batch is made of: (batch, 1) int64, or (batch, 4) where mosaics are made.

    images: (batch,) numbers of the pictures. views: (batch, 14), their rows of `draw_views`.
    """
    if not options.mosaic:
        return images[:, None]
    return torch.cat((images[:, None], views[:, _PARTNERS:].long()), dim=1)


def augment(images: Tensor, truth: Tensor, views: Tensor, options: Augment) -> tuple[Tensor, Tensor]:
    """Make the views of a batch.

    Args:
        images: (batch, parts, 3, height, width) uint8, RGB, parts as `sources` says.
        truth: (batch, parts, boxes, 5) float32: centre x, centre y, width, height relative, class; zero rows are
            padding.
        views: (batch, parts, 14) float32, of every part its own.

    Returns:
        Images (batch, 3, height, width) float32 from 0 to 1, and the boxes moved with them, (batch, parts * boxes, 5),
        clipped to the picture; what left it is zeroed.
    """
    batch, parts = images.shape[:2]
    flat = views.flatten(0, 1)
    pixels, boxes = images.flatten(0, 1).float() / 255, truth.flatten(0, 1)
    if options.hue or options.saturation > 1 or options.exposure > 1:
        pixels = distort_colours(pixels, flat[:, _HUE], flat[:, _SATURATION], flat[:, _EXPOSURE])
    if options.jitter or options.flip:
        pixels = _crop(pixels, flat)
        boxes = _crop_boxes(boxes, flat)
    if parts == 1:
        return pixels, boxes
    return _mosaic(pixels.view(batch, parts, *pixels.shape[1:]), boxes.view(batch, parts, -1, 5), views[:, 0])


def distort_colours(images: Tensor, hue: Tensor, saturation: Tensor, exposure: Tensor) -> Tensor:
    """Shift hue and scale saturation and value in HSV (image.c distort_image).

    Args:
        images: (batch, 3, height, width) float32, RGB, 0 to 1.
        hue: (batch,) parts of the circle. saturation, exposure: (batch,) factors.
    """
    red, green, blue = images.unbind(dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    safe = chroma.clamp(min=1e-6)
    sector = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    strength = (chroma / value.clamp(min=1e-6)).mul_(saturation[:, None, None]).clamp_(max=1)
    bright = (value * exposure[:, None, None]).clamp_(max=1)
    shifted = sector.add_(6 * hue[:, None, None])
    channels = []
    for offset in (5.0, 3.0, 1.0):
        k = torch.remainder(shifted + offset, 6)
        weight = torch.minimum(k, 4 - k).clamp_(0, 1)
        channels.append(bright * (1 - strength * weight))
    return torch.stack(channels, dim=1)


def _crop(images: Tensor, views: Tensor) -> Tensor:
    """Sample the crop (parts of the picture) to the full size; outside is mid-grey."""
    left, top, right, bottom = views[:, _SIDES].unbind(dim=1)
    width, height = right - left, bottom - top
    zero = torch.zeros_like(width)
    rows = [
        torch.stack(((1 - 2 * views[:, _FLIP]) * width, zero, left + right - 1), dim=1),
        torch.stack((zero, height, top + bottom - 1), dim=1),
    ]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images - 0.5, grid, align_corners=False).add_(0.5)


def _crop_boxes(truth: Tensor, views: Tensor) -> Tensor:
    """Move relative boxes into the crop."""
    left, top, right, bottom = views[:, _SIDES].unbind(dim=1)
    origin = torch.stack((left, top), dim=1)[:, None]
    size = torch.stack((right - left, bottom - top), dim=1)[:, None]
    low = ((truth[..., :2] - truth[..., 2:4] / 2 - origin) / size).clamp(0, 1)
    high = ((truth[..., :2] + truth[..., 2:4] / 2 - origin) / size).clamp(0, 1)
    is_flipped = views[:, _FLIP, None] > 0
    x_low = torch.where(is_flipped, 1 - high[..., 0], low[..., 0])
    x_high = torch.where(is_flipped, 1 - low[..., 0], high[..., 0])
    corners = torch.stack((x_low, low[..., 1], x_high, high[..., 1]), dim=-1)
    return _rows(corners, truth)


def _mosaic(pixels: Tensor, truth: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
    """Put the four parts together around the cut; where there is no mosaic the first part is the picture.

    Every part shows through its quarter what it has there, at its own size, as a window would.
    """
    height, width = pixels.shape[-2:]
    is_mosaic = views[:, _MOSAIC, None, None] > 0
    cut = (views[:, _CUT] * constant((width, height), views)).round()  # on the pixel, so that boxes end where it does
    is_right = torch.arange(width, device=pixels.device)[None, None, :] >= cut[:, 0, None, None]
    is_low = torch.arange(height, device=pixels.device)[None, :, None] >= cut[:, 1, None, None]
    number = ((is_right + 2 * is_low) * is_mosaic)[:, None, None].expand(-1, 1, 3, -1, -1)
    picture = pixels.gather(1, number)[:, 0]

    x, y = (cut / constant((width, height), views)).unbind(dim=1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    quarters = torch.stack(
        [
            torch.stack(side, dim=1)
            for side in ((zero, zero, x, y), (x, zero, one, y), (zero, y, x, one), (x, y, one, one))
        ],
        dim=1,
    )
    whole = torch.stack((zero, zero, one, one), dim=1)[:, None]
    nothing = torch.zeros_like(whole).expand(-1, 3, -1)
    shown = torch.where(is_mosaic, quarters, torch.cat((whole, nothing), dim=1))[:, :, None]  # (batch, 4, 1, 4)
    low = torch.maximum(truth[..., :2] - truth[..., 2:4] / 2, shown[..., :2])
    high = torch.minimum(truth[..., :2] + truth[..., 2:4] / 2, shown[..., 2:])
    return picture, _rows(torch.cat((low, high), dim=-1), truth).flatten(1, 2)


def _rows(corners: Tensor, truth: Tensor) -> Tensor:
    """Rows of truth from relative corners; what has become too small is zeroed."""
    extent = corners[..., 2:] - corners[..., :2]
    centre = (corners[..., 2:] + corners[..., :2]) / 2
    is_kept = (truth[..., 2] > 0) & (extent.amin(dim=-1) >= _SMALLEST)
    return torch.cat((centre, extent, truth[..., 4:]), dim=-1) * is_kept[..., None]
