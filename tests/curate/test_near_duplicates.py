import csv
from pathlib import Path

import numpy as np
import pytest
from drawn_source import draw_photo
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from pipeline.curate.duplicates import near_duplicate_clusters, perceptual_hash, weaker_twins
from pipeline.curate.recipe import Recipe, Split
from pipeline.curate.splits import assign_splits
from pipeline.errors import UserError

DISTANCE: int = Recipe.model_fields["near_duplicate_distance"].default


def _hashes(paths: list[Path]) -> np.ndarray:
    return np.array([perceptual_hash(path) for path in paths], dtype=np.uint64)


def _clusters_by_search(hashes: list[int], distance: int) -> list[int]:
    """Flood fill, as a reference: the smallest index that can be reached."""
    cluster = [-1] * len(hashes)
    for start in range(len(hashes)):
        queue = [start] if cluster[start] < 0 else []
        while queue:
            one = queue.pop()
            cluster[one] = start
            near = ((hashes[one] ^ value).bit_count() <= distance for value in hashes)
            queue += [index for index, yes in enumerate(near) if yes and cluster[index] < 0]
    return cluster


@given(st.lists(st.integers(0, 2**12 - 1), min_size=1, max_size=40), st.integers(0, 4))
def test_clusters_are_what_a_search_along_neighbours_reaches(hashes: list[int], distance: int) -> None:
    cluster, nearest = near_duplicate_clusters(np.array(hashes, dtype=np.uint64), distance)
    assert cluster.tolist() == _clusters_by_search(hashes, distance)
    for index, value in enumerate(hashes):
        others = [(value ^ other).bit_count() for place, other in enumerate(hashes) if place != index]
        assert nearest[index] == min(others, default=64)


def test_clusters_do_not_depend_on_the_block_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = np.random.default_rng(1).integers(0, 2**16, 200, dtype=np.uint64)
    whole = near_duplicate_clusters(hashes, 2)
    monkeypatch.setattr("pipeline.curate.duplicates._BLOCK", 7)
    for one, other in zip(whole, near_duplicate_clusters(hashes, 2), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_smaller_darker_rotated_by_exif_copy_is_near_and_another_photo_is_not(tmp_path: Path) -> None:
    draw_photo(tmp_path / "a.jpg", 1, (640, 480))
    draw_photo(tmp_path / "b.jpg", 2, (640, 480))
    image = Image.open(tmp_path / "a.jpg")
    ImageEnhance.Brightness(image.resize((320, 240))).enhance(0.7).save(tmp_path / "dark.jpg", quality=60)
    exif = Image.Exif()
    exif[274] = 6  # to be seen upright it has to be turned clockwise
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif)
    hashes = _hashes([tmp_path / f"{name}.jpg" for name in ("a", "b", "dark", "turned")])
    cluster, _ = near_duplicate_clusters(hashes, DISTANCE)
    assert cluster.tolist() == [0, 1, 0, 0]


def test_broken_photo_is_refused_by_name(tmp_path: Path) -> None:
    draw_photo(tmp_path / "a.jpg", 1, (640, 480))
    content = (tmp_path / "a.jpg").read_bytes()
    for broken in (content[: len(content) // 2], b"no photo", b""):
        (tmp_path / "a.jpg").write_bytes(broken)
        with pytest.raises(UserError, match=r"a\.jpg: cannot be read as an image") as caught:
            perceptual_hash(tmp_path / "a.jpg")
        assert "\n" not in str(caught.value)


def test_planted_near_duplicates_of_the_facades_are_found(facades: Path) -> None:
    paths = sorted((facades / "data").glob("*.jpg"))
    place = {path.stem: index for index, path in enumerate(paths)}
    cluster, _ = near_duplicate_clusters(_hashes(paths), DISTANCE)
    with (facades / "truth" / "defects.csv").open() as file:
        pairs = [
            (line["ImageID"], line["defect"].removeprefix("duplicate_of:"))
            for line in csv.DictReader(file)
            if line["defect"].startswith("duplicate_of:")
        ]
    found = sum(cluster[place[one]] == cluster[place[other]] for one, other in pairs)
    print(f"{found} of {len(pairs)} planted near-duplicates found at {DISTANCE} bits")
    assert found == len(pairs)
    assert len(np.unique(cluster)) >= len(paths) - 2 * len(pairs), "unrelated photos are lumped together"


def _split(count: int, seed: int = 0, **shares: float) -> np.ndarray:
    names = [f"{index:04d}" for index in range(count)]
    split = Split(**shares) if shares else Split()
    return assign_splits(np.arange(count), names, np.ones(count, dtype=bool), split, seed)


def test_split_has_the_shares_asked_for() -> None:
    counts = np.bincount(_split(10_000))
    np.testing.assert_allclose(counts / 10_000, [0.7, 0.15, 0.15], atol=0.015)


def test_more_photos_move_no_other_photo_and_another_seed_moves_many() -> None:
    np.testing.assert_array_equal(_split(1000)[:600], _split(600))
    assert (_split(600, seed=1) != _split(600)).mean() > 0.3


@pytest.mark.parametrize("count", [3, 4, 5, 8])
@pytest.mark.parametrize("seed", range(5))
def test_no_split_is_empty_where_three_photos_differ(count: int, seed: int) -> None:
    assert np.bincount(_split(count, seed), minlength=3).min() >= 1


def test_test_share_of_zero_gives_no_test_photos() -> None:
    assert np.bincount(_split(50, train=0.8, val=0.2, test=0), minlength=3)[2] == 0


def test_too_few_different_photos_are_refused() -> None:
    with pytest.raises(UserError, match="2 different photos"):
        _split(2)


def test_a_cluster_stays_together_and_a_large_one_goes_to_train() -> None:
    cluster = np.concatenate([np.zeros(50, dtype=int), np.repeat(np.arange(50, 150, 2), 2)])
    names = [f"{index:04d}" for index in range(150)]
    for seed in range(10):
        split = assign_splits(cluster, names, np.ones(150, dtype=bool), Split(), seed)
        assert set(split[:50].tolist()) == {0}
        np.testing.assert_array_equal(split[50::2], split[51::2])


@given(st.lists(st.integers(0, 2**12 - 1), min_size=1, max_size=40), st.integers(0, 4))
def test_of_twins_the_better_stays_and_nothing_unlike_goes(hashes: list[int], distance: int) -> None:
    is_weaker, bits = weaker_twins(np.array(hashes, dtype=np.uint64), np.arange(len(hashes)), distance)
    stayed: list[int] = []
    for index, value in enumerate(hashes):
        nearest = min(((value ^ other).bit_count() for other in stayed), default=64)
        assert (bits[index], is_weaker[index]) == (nearest, nearest <= distance)
        if nearest > distance:
            stayed.append(value)
