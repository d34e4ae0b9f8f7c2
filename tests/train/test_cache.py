"""Frozen layers run once per stored view, wherever their features lie, and nothing else changes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.darknet import DarknetNetwork, adapted, network_cfg
from pipeline.experiment import Augment
from pipeline.networks.darknet import DarknetDetector
from pipeline.train import cache as module
from pipeline.train.cache import open_cache
from pipeline.train.dataset import ImageTensors
from pipeline.train.feed import Feed
from pipeline.train.schedule import Schedule

COUNT, SIZE, VIEWS = 10, 64, 3


@pytest.fixture
def detector() -> DarknetDetector:
    found = DarknetDetector(DarknetNetwork(adapted(network_cfg("yolov3-tiny"), SIZE, SIZE, 1)))
    found.freeze([index for index in found.weighted_layers if index < 13])
    return found


def _feed(options: Augment) -> Feed:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (COUNT, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    truth = torch.rand((COUNT, 2, 5), generator=generator) * 0.3 + 0.3
    truth[..., 4] = 0
    return Feed(ImageTensors(images, truth, (), ()), options, 5, torch.device("cpu"))


def _counting(detector: DarknetDetector, seen: list[int]) -> Callable[[Tensor], tuple[Tensor, ...]]:
    def run(pixels: Tensor) -> tuple[Tensor, ...]:
        seen.append(len(pixels))
        return detector.trunk(pixels)

    return run


@pytest.mark.parametrize("options", [Augment(), Augment(mosaic=0.5)], ids=["plain", "mosaic"])
@pytest.mark.parametrize("place", ["memory", "disk"])
def test_features_and_boxes_are_those_of_the_frozen_layers_run_each_time(
    detector: DarknetDetector,
    options: Augment,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if place == "disk":
        monkeypatch.setattr(module, "available_memory", lambda: 1000)  # as if there were no room
    seen: list[int] = []
    feed = _feed(options)
    cache = open_cache(detector, feed, VIEWS, 32, _counting(detector, seen), tmp_path)
    assert cache is not None
    assert cache.place == place
    assert bool(list(tmp_path.iterdir())) == (place == "disk")
    seen.clear()
    schedule = Schedule(COUNT, 4, 1, VIEWS)
    for iteration in range(20):
        batch = schedule.batch(iteration)
        features, truth = cache.get(batch)
        pixels, expected_truth = feed.augmented(feed.raw(batch))
        for found, expected in zip(features, detector.trunk(pixels), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(truth, expected_truth)
    assert sum(seen) == VIEWS * COUNT
    assert cache.size == VIEWS * COUNT * 4 * (256 * 4 * 4 + 1024 * 2 * 2)
    cache.close()
    assert not list(tmp_path.iterdir())


def test_where_nothing_fits_nothing_is_kept(
    detector: DarknetDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = _feed(Augment())
    assert open_cache(detector, feed, VIEWS, 32, detector.trunk, tmp_path, most=1000) is None
    monkeypatch.setattr(module, "available_memory", lambda: 1000)
    assert open_cache(detector, feed, VIEWS, 32, detector.trunk, None) is None
    assert open_cache(detector, feed, 10**9, 32, detector.trunk, tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_the_order_in_which_views_are_asked_for_changes_nothing(detector: DarknetDetector) -> None:
    """A resumed trial asks for other views first than an unbroken one did."""
    schedule = Schedule(COUNT, 4, 1, VIEWS)
    batches = [schedule.batch(iteration) for iteration in range(6)]
    found = []
    for order in (batches, batches[::-1]):
        cache = open_cache(detector, _feed(Augment()), VIEWS, 32, detector.trunk, None)
        assert cache is not None
        rows = {id(batch): cache.get(batch) for batch in order}
        found.append([rows[id(batch)] for batch in batches])
    for one, other in zip(*found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))
