from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from drawn_source import draw_photo

from pipeline.curate.select import Backbone, farthest_points, quality
from pipeline.photos import read_rgb


def test_quality_is_the_mean_place_among_those_that_are_left() -> None:
    among = np.array([True, True, True, False])
    found = quality({"a": np.array([1.0, 2, 3, 99]), "b": np.array([5.0, 5, 9, 0])}, among)
    assert found[:3].tolist() == pytest.approx([(0 + 0.25) / 2, (0.5 + 0.25) / 2, 1])
    assert np.isnan(found[3])


def test_an_unknown_score_takes_the_middle() -> None:
    assert quality({"a": np.array([np.nan, 1.0, 2])}, np.ones(3, bool)).tolist() == [0.5, 0, 1]
    assert quality({}, np.ones(2, bool)).tolist() == [0.5, 0.5]


def test_farthest_points_cover_every_group_before_any_twice() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(0, 10, (6, 4))
    features = np.concatenate([centre + random.normal(0, 0.1, (20, 4)) for centre in centres])
    chosen = farthest_points(features, [0], 6)
    assert chosen[0] == 0
    assert sorted(index // 20 for index in chosen) == list(range(6))
    assert len(set(farthest_points(features, [3, 4], 200))) == len(features)


def test_features_tell_photos_apart_and_do_not_depend_on_the_global_seed(tmp_path: Path) -> None:
    import torch

    for name, seed in (("a", 1), ("b", 2)):
        draw_photo(tmp_path / f"{name}.jpg", seed, (300, 200))
    first = Backbone(None).features(read_rgb(tmp_path / "a.jpg"))
    torch.manual_seed(99)
    network = Backbone(None)
    np.testing.assert_array_equal(network.features(read_rgb(tmp_path / "a.jpg")), first)
    assert first.shape == (1024,)
    other = network.features(read_rgb(tmp_path / "b.jpg"))
    assert np.linalg.norm(other - first) > 0.01 * np.linalg.norm(first)


def test_features_are_the_same_from_many_threads_at_once(tmp_path: Path) -> None:
    photos = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    alone = [Backbone(None).features(photo) for photo in photos]
    for _ in range(3):
        network = Backbone(None)
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(network.features, photos))
        np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_weights_of_a_trained_network_change_the_features(tmp_path: Path) -> None:
    import torch

    from pipeline.darknet import DarknetNetwork, adapted, network_cfg, save_weights

    torch.manual_seed(7)
    save_weights(DarknetNetwork(adapted(network_cfg("yolov3-tiny"), 96, 96, 3)), tmp_path / "some.weights")
    draw_photo(tmp_path / "a.jpg", 1)
    photo = read_rgb(tmp_path / "a.jpg")
    trained = Backbone(tmp_path / "some.weights")
    assert trained.version != Backbone(None).version
    assert not np.allclose(trained.features(photo), Backbone(None).features(photo))
