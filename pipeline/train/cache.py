"""What frozen layers make of every stored view, computed once: only what is trained runs at each iteration.

In memory where there is room, else in a file mapped into it, else not at all. Knows nothing about training.
"""

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from pipeline.files import own_folder
from pipeline.networks.detector import Detector
from pipeline.train.feed import Feed, sent
from pipeline.train.memory import FREE_SHARE, available_memory
from pipeline.train.schedule import Batch

__all__ = ["FeatureCache", "Place", "open_cache"]

Place = Literal["device", "memory", "disk"]


class FeatureCache:
    """Features and boxes of every view of every picture; a view is computed when it is first asked for.

    Attributes:
        place: where the features lie.
        size: bytes of the features.
    """

    def __init__(
        self,
        detector: Detector,
        feed: Feed,
        views: int,
        at_once: int,
        place: Place,
        run: Callable[[Tensor], tuple[Tensor, ...]],
        folder: Path | None = None,
    ) -> None:
        """at_once: most pictures that the frozen layers see at once. The rest as in `open_cache`."""
        self._feed, self._run, self._at_once, self.place = feed, run, at_once, place
        self._device = next(detector.parameters()).device
        self._truth = torch.zeros(views, len(feed), feed.boxes, 5, device=self._device)
        self._filled: set[int] = set()
        self._folder = own_folder(folder, "features") if folder and place == "disk" else None
        shapes = _shapes(detector, feed, run)
        self.size = _bytes(shapes, views, len(feed))
        self._features = [self._storage((views, len(feed), *shape), kind, n) for n, (shape, kind) in enumerate(shapes)]

    def close(self) -> None:
        """Remove the files."""
        self._features = []
        if self._folder:
            self._folder.cleanup()

    def get(self, batch: Batch) -> tuple[tuple[Tensor, ...], Tensor]:
        """Features of a batch, batch first, and its truth, (batch, boxes, 5) as in `Detector.losses`; on the device."""
        for view in batch.views.unique().tolist():
            if view not in self._filled:
                self._fill(view)
                self._filled.add(view)
        places = batch.views * len(self._feed) + batch.images
        (there,) = sent((places,), self._device)
        if self.place == "device":
            features = [stored.flatten(0, 1)[there] for stored in self._features]
        else:
            features = sent([stored.flatten(0, 1)[places] for stored in self._features], self._device)
        return tuple(map(_channels_first, features)), self._truth.flatten(0, 1)[there]

    def _fill(self, view: int) -> None:
        for start in range(0, len(self._feed), self._at_once):
            images = torch.arange(start, min(start + self._at_once, len(self._feed)))
            pixels, truth = self._feed.augmented(self._feed.raw(Batch(images, torch.full_like(images, view))))
            for stored, feature in zip(self._features, self._run(pixels), strict=True):
                stored[view, start : start + len(images)] = _channels_last(feature).to(stored.device)
            self._truth[view, start : start + len(images)] = truth

    def _storage(self, shape: tuple[int, ...], kind: torch.dtype, number: int) -> Tensor:
        if self._folder is None:
            return torch.empty(shape, dtype=kind, device=self._device if self.place == "device" else "cpu")
        path = Path(self._folder.name) / f"{number}.bin"
        with path.open("wb") as file:  # or a full disk would end the process later, without a word
            os.posix_fallocate(file.fileno(), 0, math.prod(shape) * kind.itemsize)
        return torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=kind).view(shape)


def open_cache(
    detector: Detector,
    feed: Feed,
    views: int,
    at_once: int,
    run: Callable[[Tensor], tuple[Tensor, ...]],
    folder: Path | None,
    most: int | None = None,
    host_share: float = 1.0,
    device_share: float = 1.0,
) -> FeatureCache | None:
    """A cache where the features of `views` views fit, or None: then the frozen layers run at every iteration.

    at_once: most pictures that the frozen layers see at once. run: the detector's trunk, in the precision that is
    trained in. folder: for files, where memory is short. most: bytes that it may take; by default a share of what is
    free, of the device, of the memory or of the disk. host_share, device_share: of what is free, what this process may
    count on.
    """
    device = next(detector.parameters()).device
    size = _bytes(_shapes(detector, feed, run), views, len(feed))
    if most is not None and size > most:
        return None
    if device.type == "cuda" and size < FREE_SHARE * device_share * torch.cuda.mem_get_info(device)[0]:
        return FeatureCache(detector, feed, views, at_once, "device", run)
    if size < FREE_SHARE * host_share * available_memory():
        return FeatureCache(detector, feed, views, at_once, "memory", run)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if size < FREE_SHARE * host_share * shutil.disk_usage(folder).free:
            return FeatureCache(detector, feed, views, at_once, "disk", run, folder)
    return None


def _shapes(
    detector: Detector, feed: Feed, run: Callable[[Tensor], tuple[Tensor, ...]]
) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Shape of one picture's features as they are stored, and their type."""
    device = next(detector.parameters()).device
    return [
        (tuple(_channels_last(part).shape[1:]), part.dtype)
        for part in run(torch.zeros(1, 3, detector.height, detector.width, device=device))
    ]


def _bytes(shapes: list[tuple[tuple[int, ...], torch.dtype]], views: int, count: int) -> int:
    return sum(math.prod(shape) * kind.itemsize for shape, kind in shapes) * views * count


def _channels_last(feature: Tensor) -> Tensor:
    """Pictures lie as (height, width, channels), which is how convolutions read them fastest."""
    return feature.permute(0, 2, 3, 1) if feature.dim() == 4 else feature


def _channels_first(stored: Tensor) -> Tensor:
    return stored.permute(0, 3, 1, 2) if stored.dim() == 4 else stored
