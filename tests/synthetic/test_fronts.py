"""The drawn set: the same from the same seed, labelled where things are, complete or not there."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.synthetic.catalogue import CLASSES, TARGET, label_name
from pipeline.synthetic.fronts import COLUMNS, draw_fronts


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fronts") / "set"
    draw_fronts(out, 80, seed=3)
    return out


@pytest.fixture(scope="module")
def rows(fronts: Path) -> list[dict[str, str]]:
    with (fronts / "labels" / "detections.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        return list(reader)


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None, path
    return image


def test_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        draw_fronts(tmp_path / name, 4, seed=seed, width=96, height=64)
    assert _files(tmp_path / "a") == _files(tmp_path / "b")
    assert set(_files(tmp_path / "a")) != set(_files(tmp_path / "c"))


def test_pictures_have_the_size_asked_for(fronts):
    pictures = sorted((fronts / "data").iterdir())
    assert len(pictures) == 80
    assert {_read(path).shape for path in pictures} == {(240, 320, 3)}


def test_every_class_occurs_and_boxes_lie_inside(fronts, rows):
    assert {row["LabelName"] for row in rows} == {label_name(name) for name in CLASSES}
    names = {path.stem for path in (fronts / "data").iterdir()}
    for row in rows:
        x0, x1, y0, y1 = (float(row[key]) for key in ("XMin", "XMax", "YMin", "YMax"))
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
        assert row["ImageID"] in names


def test_curation_has_something_to_do(rows):
    for flag in ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction"):
        assert {row[flag] for row in rows} == {"0", "1"}, flag


def test_share_of_pictures_with_a_target_is_about_as_asked(rows):
    with_target = {row["ImageID"] for row in rows if row["LabelName"] == label_name(TARGET)}
    assert 20 <= len(with_target) <= 30


def test_target_boxes_hold_the_targets_teal(fronts, rows):
    """Teal and ochre inside each large, open target box; elsewhere they are rarer."""
    shares = []
    for row in rows:
        is_open = row["IsOccluded"] == row["IsTruncated"] == row["IsDepiction"] == row["IsGroupOf"] == "0"
        if row["LabelName"] != label_name(TARGET) or not is_open:
            continue
        image = _read(fronts / "data" / f"{row['ImageID']}.jpg")
        height, width = image.shape[:2]
        x0, x1 = (round(float(row[key]) * width) for key in ("XMin", "XMax"))
        y0, y1 = (round(float(row[key]) * height) for key in ("YMin", "YMax"))
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        is_teal = (abs(hsv[:, :, 0].astype(int) - 92) < 12) & (hsv[:, :, 1] > 90)
        shares.append((is_teal[y0:y1, x0:x1].mean(), is_teal.mean()))
    assert len(shares) > 8
    inside, everywhere = np.median(np.array(shares), axis=0)
    assert inside > 0.08
    assert inside > 4 * everywhere


def test_interrupted_drawing_leaves_nothing(tmp_path):
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_fronts(tmp_path / "set", 3, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"images": 0}, {"images": 3, "width": 0}, {"images": 3, "target_share": 1.5}])
def test_wrong_arguments_are_refused(tmp_path, wrong):
    with pytest.raises(UserError) as caught:
        draw_fronts(tmp_path / "set", **wrong)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
