"""Objects cut out of photos along their boxes, as uint8 of one size. Knows nothing of what is done with them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deploy.resize import resize_image
from pipeline.photos import read_rgb

if TYPE_CHECKING:
    from pipeline.curated import LabelledImage

__all__ = ["Crops", "cut_crops", "large_enough"]


@dataclass(frozen=True)
class Crops:
    """Objects of several photos, photo after photo, in the order of the labels.

    Attributes:
        pixels: (N, 3, height, width) uint8, RGB, in memory.
        labels: (N,) int64, number of the class.
        image_ids: of the photo that each was cut from.
        boxes: (N, 4) float32, xyxy, pixels of the photo, as labelled.
        too_small: how many objects were left out.
    """

    pixels: Tensor
    labels: Tensor
    image_ids: tuple[str, ...]
    boxes: np.ndarray
    too_small: int

    def __len__(self) -> int:
        return len(self.labels)


def large_enough(image: "LabelledImage", smallest: float) -> np.ndarray:
    """(boxes,) bool: which objects of a photo have both sides of at least `smallest` pixels, and cover a pixel."""
    sides = image.boxes[:, 2:] - image.boxes[:, :2]
    corners = _whole_pixels(image)
    covered = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    return np.asarray((sides >= smallest).all(axis=1) & covered)


def cut_crops(
    images: Sequence["LabelledImage"],
    width: int,
    height: int,
    smallest: float,
    progress: Callable[[int], None] | None = None,
) -> Crops:
    """Cut every object out of its photo and stretch it to width x height pixels, as the drone resizes.

    A photo is decoded once for all its objects. Boxes are clipped to the photo when labels are read.

    Args:
        smallest: side in pixels of the photo; objects with a shorter one are left out and counted.
        progress: called with the number of photos done.

    Raises:
        UserError: a photo that cannot be decoded.
    """
    kept = [large_enough(image, smallest) for image in images]
    starts = np.cumsum([0, *(int(mask.sum()) for mask in kept)])
    pixels = torch.empty((int(starts[-1]), 3, height, width), dtype=torch.uint8)

    def cut(index: int) -> None:
        if not kept[index].any():
            return
        photo = read_rgb(images[index].path)
        for place, (x1, y1, x2, y2) in enumerate(_whole_pixels(images[index])[kept[index]], start=starts[index]):
            crop, _ = resize_image(np.ascontiguousarray(photo[y1:y2, x1:x2]), width, height, "stretch")
            pixels[place] = torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))

    with ThreadPoolExecutor() as pool:
        for done, _ in enumerate(pool.map(cut, range(len(images))), start=1):
            if progress:
                progress(done)
    pairs = list(zip(images, kept, strict=True))
    return Crops(
        pixels,
        torch.from_numpy(np.concatenate([np.empty(0, np.int64), *(image.classes[mask] for image, mask in pairs)])),
        tuple(image.image_id for image, mask in pairs for _ in range(int(mask.sum()))),
        np.concatenate([np.empty((0, 4), np.float32), *(image.boxes[mask] for image, mask in pairs)]),
        sum(int((~mask).sum()) for mask in kept),
    )


def _whole_pixels(image: "LabelledImage") -> np.ndarray:
    """(boxes, 4) int64: the corners, rounded, inside the photo."""
    corners = np.rint(image.boxes).astype(np.int64)
    return corners.clip(0, np.array([image.width, image.height] * 2))
