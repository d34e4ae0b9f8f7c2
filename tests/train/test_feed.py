"""Batches are the same wherever the pictures lie, and the next one is read while this one is used."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from drawn import draw_set

from pipeline.curated import read_curated_set
from pipeline.experiment import Augment
from pipeline.train.dataset import load_images
from pipeline.train.feed import Feed
from pipeline.train.schedule import Schedule


def test_pictures_from_the_file_are_those_decoded_and_are_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = read_curated_set(draw_set(tmp_path / "set")).splits["train"]
    plain = load_images(photos, 64, 96, "letterbox")
    cached = load_images(photos, 64, 96, "letterbox", tmp_path / "cache")
    assert torch.equal(plain.images, cached.images)
    assert torch.equal(plain.truth, cached.truth)
    assert plain.placements == cached.placements
    monkeypatch.setattr(cv2, "imread", lambda *_: pytest.fail("decoded again"))
    again = load_images(photos, 64, 96, "letterbox", tmp_path / "cache")
    assert torch.equal(plain.images, again.images)


def test_a_photo_that_changed_is_decoded_again(tmp_path: Path) -> None:
    photos = read_curated_set(draw_set(tmp_path / "set")).splits["train"]
    before = load_images(photos, 64, 64, "stretch", tmp_path / "cache").images.clone()
    cv2.imwrite(str(photos[0].path), np.zeros((80, 96, 3), np.uint8))
    after = load_images(photos, 64, 64, "stretch", tmp_path / "cache").images
    assert not after[0].any()
    assert torch.equal(before[1:], after[1:])


@pytest.mark.parametrize("options", [Augment(), Augment(mosaic=0.5)], ids=["plain", "mosaic"])
def test_batches_read_in_the_background_are_the_same(tmp_path: Path, options: Augment) -> None:
    data = load_images(read_curated_set(draw_set(tmp_path / "set")).splits["train"], 64, 64, "stretch")
    schedule = Schedule(len(data), 8, 0, 0)
    cpu = torch.device("cpu")
    resident, streamed = (Feed(data, options, 0, cpu, is_resident=flag) for flag in (True, False))
    for iteration in range(7):
        batch, following = schedule.batch(iteration), schedule.batch(iteration + 1)
        expected, found = resident.raw(batch), streamed.raw(batch, following)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert streamed.hits == 6
    streamed.close()
