"""Augmented batches on the training device, made there from pictures held as uint8; nothing runs per picture.

Knows nothing about networks.
"""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from pipeline.experiment import Augment
from pipeline.train.augment import augment, draw_views, sources
from pipeline.train.dataset import ImageTensors
from pipeline.train.memory import FREE_SHARE
from pipeline.train.schedule import Batch, generator

__all__ = ["Feed", "Raw", "sent"]

Raw = tuple[Tensor, Tensor, Tensor]  # images, truth and views of a batch, as `augment` takes them


class Feed:
    """The pictures of a split, augmented on `device`.

    Pictures are moved to the device once where they fit. Where they do not, the next batch is read and sent in the
    background while this one is trained on.

    Attributes:
        is_resident: whether they all lie on the device.
        boxes: rows of truth that a batch has per picture.
        hits: batches that had been read before they were asked for.
    """

    def __init__(
        self,
        data: ImageTensors,
        options: Augment,
        seed: int,
        device: torch.device,
        share: float = 1.0,
        is_resident: bool | None = None,
    ) -> None:
        """share: of the device's memory, what this process may take. is_resident: by default, whether they fit."""
        self._options, self._seed, self._device = options, seed, device
        self.hits = 0
        self.is_resident = _fits(data.images, device, share) if is_resident is None else is_resident
        self._images = data.images.to(device) if self.is_resident else data.images
        self._truth = data.truth.to(device) if self.is_resident else data.truth
        self.boxes = self._truth.shape[1] * (4 if options.mosaic else 1)
        self._views: dict[int, Tensor] = {}
        self._reader = None if self.is_resident else ThreadPoolExecutor(1)
        self._coming: dict[tuple[int, ...], Future[Raw]] = {}

    def __len__(self) -> int:
        return len(self._truth)

    def close(self) -> None:
        """End the background reader."""
        if self._reader:
            self._reader.shutdown(cancel_futures=True)

    def raw(self, batch: Batch, following: Batch | None = None) -> Raw:
        """What `augment` needs for a batch, on the device. following: the batch after it, read in the background."""
        if not self._reader:
            return self._gather(batch)
        key = tuple(batch.images.tolist())
        coming = self._coming.pop(key, None)
        self.hits += coming is not None
        ready = coming.result() if coming else self._reader.submit(self._gather, batch).result()
        if following is not None:
            self._coming = {tuple(following.images.tolist()): self._reader.submit(self._gather, following)}
        return ready

    def augmented(self, raw: Raw) -> tuple[Tensor, Tensor]:
        """Images (batch, 3, height, width) float32, 0 to 1, and truth (batch, boxes, 5)."""
        return augment(*raw, self._options)

    def _gather(self, batch: Batch) -> Raw:
        own = self._rows(batch.images, batch.views)
        chosen = sources(batch.images, own, self._options)
        views = self._rows(chosen.flatten(), batch.views.repeat_interleave(chosen.shape[1])).view(*chosen.shape, -1)
        if self.is_resident:
            chosen, views = sent((chosen, views), self._device)
            return self._images[chosen], self._truth[chosen], views
        images, truth, views = sent((self._images[chosen], self._truth[chosen], views), self._device)
        return images, truth, views

    def _rows(self, images: Tensor, views: Tensor) -> Tensor:
        """(batch, 14) what is random about these views of these pictures."""
        wanted = views.unique().tolist()
        if not all(number in self._views for number in wanted):
            self._views = {number: self._drawn(number) for number in wanted}
        rows = torch.empty((len(images), self._views[wanted[0]].shape[1]))
        for number in wanted:
            is_of = views == number
            rows[is_of] = self._views[number][images[is_of]]
        return rows

    def _drawn(self, view: int) -> Tensor:
        if view in self._views:
            return self._views[view]
        return draw_views(self._options, len(self), generator(self._seed, view, "augment"))


def sent(tensors: Iterable[Tensor], device: torch.device) -> list[Tensor]:
    """Copies on the device, from pinned memory, so that nobody waits for them."""
    if device.type == "cpu":
        return list(tensors)
    return [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]


def _fits(images: Tensor, device: torch.device, share: float) -> bool:
    if device.type == "cpu":  # where they lie already
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return images.numel() < FREE_SHARE * share * free
