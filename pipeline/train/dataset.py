"""A split as tensors of the network's size, held as uint8; knows nothing about training."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deploy.resize import Placement, boxes_to_network, place, resize_image
from pipeline.errors import refuse
from pipeline.files import new_file

if TYPE_CHECKING:
    from pipeline.curated import LabelledImage

__all__ = ["ImageTensors", "Progress", "load_images"]

_LONG_AGO = 24 * 3600  # seconds; nobody decodes for a day

Progress = Callable[[int], None]  # pictures decoded


@dataclass(frozen=True)
class ImageTensors:
    """Images of one split, resized once.

    Attributes:
        images: (N, 3, height, width) uint8, RGB; in memory, or a file mapped into it.
        truth: (N, most boxes, 5) float32: centre x, centre y, width, height relative to the network's input, class;
            rows of zeros are padding.
        placements: where each source picture lies in the input.
        sources: the labelled pictures themselves, boxes in pixels of the source.
    """

    images: Tensor
    truth: Tensor
    placements: tuple[Placement, ...]
    sources: tuple["LabelledImage", ...]

    def __len__(self) -> int:
        return len(self.truth)


def load_images(
    sources: Sequence["LabelledImage"],
    width: int,
    height: int,
    resize: str,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> ImageTensors:
    """Decode and resize every picture, as the drone would; a picture that cannot be decoded is an error.

    cache: folder for the resized pictures. They are mapped into memory from there, so that they need not fit into it,
    and decoded once for all processes and runs.

    Raises:
        UserError: a picture that cannot be decoded.
    """
    shape = (len(sources), 3, height, width)
    if cache is None:
        images = torch.empty(shape, dtype=torch.uint8)
        _decode(sources, images, resize, progress)
    else:
        path = cache / f"{_key(sources, width, height, resize)}.u8"
        if not path.is_file():
            _remove_leftovers(cache)
            with new_file(path) as part:
                with part.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)))  # a full disk shows here, not later
                _decode(sources, _mapped(part, shape), resize, progress)
        images = _mapped(path, shape)
    placements = tuple(place(source.width, source.height, width, height, resize) for source in sources)
    return ImageTensors(images, _truth(sources, placements, width, height), placements, tuple(sources))


def _remove_leftovers(cache: Path) -> None:
    """Remove what processes left that were killed while they decoded, if that was long ago."""
    for leftover in cache.glob(".*.u8"):
        if time.time() - leftover.stat().st_mtime > _LONG_AGO:
            leftover.unlink(missing_ok=True)


def _mapped(path: Path, shape: tuple[int, ...]) -> Tensor:
    return torch.from_file(str(path), shared=True, size=int(np.prod(shape)), dtype=torch.uint8).view(shape)


def _key(sources: Sequence["LabelledImage"], width: int, height: int, resize: str) -> str:
    """A name for these pictures at this size: a file that changed has another time or length."""
    files = [(str(source.path.resolve()), *_stamp(source.path)) for source in sources]
    return hashlib.sha256(json.dumps([width, height, resize, files]).encode()).hexdigest()[:24]


def _stamp(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def _decode(sources: Sequence["LabelledImage"], images: Tensor, resize: str, progress: Progress | None) -> None:
    height, width = images.shape[2:]

    def load(index: int) -> None:
        source = sources[index]
        image, placement = resize_image(_read_rgb(source.path), width, height, resize)
        if (placement.width, placement.height) != (source.width, source.height):
            found = f"{placement.width} x {placement.height} pixels, its labels were read for {source.width} x"
            raise refuse(source.path, f"{found} {source.height}", "save it without rotation, with its labels")
        images[index] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

    with ThreadPoolExecutor() as pool:
        for done, _ in enumerate(pool.map(load, range(len(sources))), start=1):
            if progress:
                progress(done)


def _truth(sources: Sequence["LabelledImage"], placements: Sequence[Placement], width: int, height: int) -> Tensor:
    truth = torch.zeros((len(sources), max((len(source.boxes) for source in sources), default=0), 5))
    for index, (source, placement) in enumerate(zip(sources, placements, strict=True)):
        boxes = boxes_to_network(source.boxes, placement) / np.array([width, height] * 2, np.float32)
        rows = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
        truth[index, : len(rows), :4] = torch.from_numpy(rows)
        truth[index, : len(rows), 4] = torch.from_numpy(source.classes).float()
    return truth


def _read_rgb(path: Path) -> np.ndarray:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise refuse(path, "cannot be decoded as a picture", "replace or remove it, with its label")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
