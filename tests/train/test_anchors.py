"""Anchors by k-means on 1 - IoU: planted clusters, plain Lloyd as the reference, real street photos, the command."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from drawn import SMALL_CFG, assert_refused, draw_set
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import cli
from pipeline.curated import read_curated_set
from pipeline.darknet import DarknetNetwork, network_cfg, read_cfg
from pipeline.errors import UserError
from pipeline.train.anchors import anchors_of, average_iou, box_sizes, possible_recall
from pipeline.train.fit_anchors import anchors_line, cfg_anchors, fit_anchors

CENTRES = np.array([[12.0, 30.0], [60.0, 20.0], [50.0, 90.0], [200.0, 150.0]])


def _planted(rng: np.random.Generator, spread: float, each: int = 60) -> np.ndarray:
    """(4 * each, 2) sizes around CENTRES, shuffled."""
    sizes = np.repeat(CENTRES, each, axis=0) * np.exp(rng.normal(0, spread, (4 * each, 2)))
    return rng.permutation(sizes)


def _slow_iou(size: np.ndarray, anchor: np.ndarray) -> float:
    overlap = min(size[0], anchor[0]) * min(size[1], anchor[1])
    return float(overlap / (size[0] * size[1] + anchor[0] * anchor[1] - overlap))


def _plain_lloyd(sizes: np.ndarray, count: int, seed: int) -> float:
    """As the YOLOv2 paper and its many scripts: a random start, means until nothing changes; the average IoU."""
    anchors = sizes[np.random.default_rng(seed).choice(len(sizes), count, replace=False)]
    before = None
    for _ in range(300):
        nearest = np.array([np.argmax([_slow_iou(size, anchor) for anchor in anchors]) for size in sizes])
        if before is not None and (nearest == before).all():
            break
        before = nearest
        anchors = np.array(
            [sizes[nearest == k].mean(axis=0) if (nearest == k).any() else a for k, a in enumerate(anchors)]
        )
    return float(np.mean([max(_slow_iou(size, anchor) for anchor in anchors) for size in sizes]))


def test_planted_sizes_are_found_exactly():
    found = anchors_of(_planted(np.random.default_rng(0), 0.0), 4, seed=0)
    order = np.argsort(CENTRES.prod(axis=1))
    np.testing.assert_allclose(found.values, CENTRES[order], rtol=1e-12)
    assert found.average_iou == pytest.approx(1.0)


def test_planted_clusters_are_found():
    found = anchors_of(_planted(np.random.default_rng(1), 0.08), 4, seed=0)
    np.testing.assert_allclose(found.values, CENTRES[np.argsort(CENTRES.prod(axis=1))], rtol=0.05)


def test_figures_are_those_of_a_plain_loop():
    rng = np.random.default_rng(2)
    sizes, anchors = rng.uniform(5, 200, (40, 2)), rng.uniform(5, 200, (5, 2))
    best = [max(_slow_iou(size, anchor) for anchor in anchors) for size in sizes]
    assert average_iou(sizes, anchors) == pytest.approx(np.mean(best), rel=1e-12)
    assert possible_recall(sizes, anchors) == np.mean([value > 0.5 for value in best])
    found = anchors_of(sizes, 5, seed=0)
    assert found.average_iou == pytest.approx(average_iou(sizes, found.values), rel=1e-12)


def test_a_size_counts_as_often_as_it_is_there():
    sizes = np.concatenate([np.full((97, 2), 50.0), [[10.0, 10.0], [12.0, 12.0], [90.0, 90.0]]])
    found = anchors_of(sizes, 1, seed=0)
    np.testing.assert_allclose(found.values, [[50, 50]], rtol=0.01)
    assert found.average_iou == pytest.approx(average_iou(sizes, found.values), rel=1e-12)


def test_same_seed_same_anchors_whatever_the_order_of_the_boxes():
    rng = np.random.default_rng(3)
    sizes = rng.lognormal(4, 0.8, (300, 2))
    first = anchors_of(sizes, 6, seed=5)
    for again in (anchors_of(sizes, 6, seed=5), anchors_of(rng.permutation(sizes), 6, seed=5)):
        assert again.values.tobytes() == first.values.tobytes()
        assert again.average_iou == first.average_iou
    assert (np.diff(first.values.prod(axis=1)) > 0).all()


@pytest.mark.parametrize("seed", range(6))
def test_no_plain_run_from_a_random_start_is_better(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.lognormal(4, 0.7, (80, 2))
    found = anchors_of(sizes, 5, seed=0).average_iou
    assert found >= max(_plain_lloyd(sizes, 5, start) for start in range(4)) - 1e-9, seed


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(8, 60))
def test_average_iou_is_a_share_and_grows_with_the_number_of_anchors(seed, count, boxes):
    sizes = np.random.default_rng(seed).lognormal(4, 1, (boxes, 2))
    fewer, more = (anchors_of(sizes, number, seed=0).average_iou for number in (count, count + 1))
    assert 0 < fewer <= 1
    assert 0 < more <= 1
    assert more >= fewer - 0.005


def test_as_many_anchors_as_kinds_fit_all_and_more_are_refused():
    sizes = np.array([[10.0, 20.0], [30.0, 30.0], [10.0, 20.0]])
    assert anchors_of(sizes, 2, seed=0).average_iou == 1.0
    with pytest.raises(UserError, match="3 anchors: only 2 different box sizes; add photos or give a lower count"):
        anchors_of(sizes, 3, seed=0)
    with pytest.raises(UserError, match="1 anchors: only 0 different box sizes"):
        anchors_of(np.empty((0, 2)), 1, seed=0)


def test_boxes_are_measured_in_the_input_of_the_network(tmp_path):
    (image, *_) = read_curated_set(draw_set(tmp_path / "s", train=1, val=1)).splits["train"]
    assert (image.width, image.height) == (96, 80)
    size = image.boxes[:, 2:] - image.boxes[:, :2]
    np.testing.assert_allclose(box_sizes([image], 192, 80, "stretch"), size * [2, 1], rtol=1e-5)
    np.testing.assert_allclose(box_sizes([image], 48, 48, "letterbox"), size / 2, rtol=1e-5)


@pytest.fixture(scope="module")
def windows(facades: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 real street photos with their windows, as a YOLO folder that has a train split alone."""
    root = tmp_path_factory.mktemp("windows")
    for kind in ("images", "labels"):
        (root / kind / "train").mkdir(parents=True)
    names = dict(csv.reader((facades / "metadata/classes.csv").open()))
    rows: dict[str, list[str]] = {}
    for row in csv.DictReader((facades / "truth/detections.csv").open()):
        if names.get(row["LabelName"]) == "Window":
            x1, x2, y1, y2 = (float(row[key]) for key in ("XMin", "XMax", "YMin", "YMax"))
            box = f"0 {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}"
            rows.setdefault(row["ImageID"], []).append(box)
    for image in sorted(rows)[:80]:
        (root / f"images/train/{image}.jpg").symlink_to(facades / f"data/{image}.jpg")
        (root / f"labels/train/{image}.txt").write_text("\n".join(rows[image]))
    (root / "data.yaml").write_text(yaml.safe_dump({"train": "images/train", "names": ["Window"]}))
    return root


def test_real_windows_fit_better_than_the_anchors_of_coco(windows, skylight):
    done = skylight("anchors", windows, "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    found, before = content["found"], content["before"]
    assert content["boxes"] > 400
    assert (content["width"], content["height"], content["cfg"]) == (416, 416, "yolov3-tiny")
    assert before["anchors"] == [[10, 14], [23, 27], [37, 58], [81, 82], [135, 169], [344, 319]]
    assert found["average_iou"] > before["average_iou"] + 0.02
    assert found["possible_recall"] >= before["possible_recall"]
    sizes = box_sizes(read_curated_set(windows, only="train").splits["train"], 416, 416, "stretch")
    assert found["average_iou"] == pytest.approx(average_iou(sizes, np.array(found["anchors"])))
    assert found["average_iou"] == pytest.approx(anchors_of(sizes, 6, seed=0).average_iou, abs=2e-3)


def test_command_prints_the_line_of_the_cfg_and_writes_a_new_one(windows, skylight, tmp_path):
    target = tmp_path / "windows.cfg"
    done = skylight("anchors", windows, "--size", "224x160", "--write", target)
    assert done.returncode == 0, done.stderr
    assert "at 224 x 160 pixels, resize stretch" in done.stdout
    assert "heads must start anew" in done.stdout
    cfg, old = read_cfg(target), network_cfg("yolov3-tiny")
    assert anchors_line(cfg_anchors(cfg)) in done.stdout
    assert (cfg.net.integer("width"), cfg.net.integer("height")) == (224, 160)
    heads = [section for section in cfg.layers if section.kind == "yolo"]
    assert [head.integers("mask") for head in heads] == [(3, 4, 5), (0, 1, 2)]
    changed = [new for was, new in zip(old.text.splitlines(), cfg.text.splitlines(), strict=True) if was != new]
    assert {line.split("=")[0].strip() for line in changed} == {"width", "height", "anchors"}
    DarknetNetwork(cfg)
    before = target.read_bytes()
    assert_refused(skylight("anchors", windows, "--write", target), "windows.cfg", "is there already")
    assert target.read_bytes() == before
    assert old.text == network_cfg("yolov3-tiny").text


def test_new_anchors_take_the_places_that_the_old_ones_had_by_size(windows, tmp_path):
    (tmp_path / "down.cfg").write_text(SMALL_CFG.replace("8,8, 14,14, 24,24, 40,40", "40,40, 24,24, 14,14, 8,8"))
    fitted = fit_anchors(windows, 4, None, "stretch", "train", 0, str(tmp_path / "down.cfg"), tmp_path / "new.cfg")
    np.testing.assert_array_equal(cfg_anchors(read_cfg(tmp_path / "new.cfg")), fitted.found.anchors[::-1])
    assert (fitted.width, fitted.height) == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--count", "7000"), ("7000 anchors: only", "different box sizes")),
        (("--cfg", "darknet19"), ("has no [yolo] layer",)),
        (("--cfg", "yolov3", "--write", "new.cfg"), ("has 9 anchors, not 6", "--count 9")),
        (("--write", "new.txt"), ("new.txt", "new.cfg")),
        (("--split", "val"), ("data.yaml: val",)),
        (("--size", "huge"), ("--size huge",)),
    ],
)
def test_wrong_wishes_are_refused(windows, monkeypatch, tmp_path, arguments, parts):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        cli.app(["anchors", str(windows), *arguments], standalone_mode=False)
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in parts)
    assert not list(tmp_path.iterdir())


def test_no_anchors_is_a_wrong_number_of_them(windows, skylight):
    assert_refused(skylight("anchors", windows, "--count", "0"), "--count", "greater than or equal to 1")


def test_set_with_too_few_boxes_is_refused(tmp_path, skylight):
    root = draw_set(tmp_path / "s", train=1, val=1)
    assert_refused(skylight("anchors", root), "6 anchors", "different box sizes")


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("anchors=8,8, 14,14, 24,24, 40,40", "anchors=8,8, 14", r"anchors=8,8,14; give pairs"),
        ("anchors=8,8,", "anchors=0,8,", "give pairs of width and height above 0"),
    ],
)
def test_cfg_with_broken_anchors_is_refused(windows, tmp_path, old, new, found):
    (tmp_path / "bad.cfg").write_text(SMALL_CFG.replace(old, new))
    with pytest.raises(UserError, match=found):
        fit_anchors(windows, 4, None, "stretch", "train", 0, str(tmp_path / "bad.cfg"))
    (tmp_path / "bad.cfg").write_text(SMALL_CFG.replace("anchors=8,8,", "anchors=9,9,", 1))
    with pytest.raises(UserError, match="name different anchors"):
        fit_anchors(windows, 4, None, "stretch", "train", 0, str(tmp_path / "bad.cfg"))
