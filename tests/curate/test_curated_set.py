import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_source import draw_photo, draw_yolo_folder
from PIL import Image

from pipeline.curated import NewImage, hash_curated_set, read_curated_set, write_curated_set
from pipeline.errors import UserError

BOXES = np.array([[0.1, 0.2, 0.5, 0.8], [0, 0, 1, 1]])


def _write(folder: Path, exif_orientation: int | None = None) -> Path:
    splits = {}
    for index, split in enumerate(("train", "val", "test")):
        draw_photo(folder / "source" / f"{split}.jpg", index, exif_orientation=exif_orientation)
        splits[split] = [NewImage(folder / "source" / f"{split}.jpg", split, BOXES, np.array([1, 0]))]
    write_curated_set(folder / "set", "set", ["Window", "Door"], splits, {"licences": ["CC0-1.0"]})
    return folder / "set"


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    root = _write(tmp_path)
    found = read_curated_set(root, verify=True)
    assert (found.name, found.classes) == ("set", ("Window", "Door"))
    for split in ("train", "val", "test"):
        (image,) = found.splits[split]
        assert (image.image_id, image.width, image.height) == (split, 96, 64)
        assert (image.boxes.dtype, image.classes.dtype) == (np.float32, np.int64)
        np.testing.assert_allclose(image.boxes, BOXES * [96, 64, 96, 64], atol=1e-4)
        assert image.classes.tolist() == [1, 0]
    assert found.content_hash == hash_curated_set(root)


def test_writing_twice_gives_the_same_bytes_and_leaves_nothing_else(tmp_path: Path) -> None:
    assert _content(_write(tmp_path / "one")) == _content(_write(tmp_path / "other"))
    before = _content(tmp_path / "one" / "set")
    assert _content(_write(tmp_path / "one")) == before
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["set", "source"]


def test_a_failure_while_writing_leaves_the_older_set_as_it_was(tmp_path: Path) -> None:
    root = _write(tmp_path)
    before = _content(root)
    broken = {"train": [NewImage(tmp_path / "none.jpg", "none", BOXES, np.array([0, 0]))]}
    with pytest.raises(UserError):
        write_curated_set(root, "set", ["Window"], broken, {})
    assert _content(root) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "source"]


@pytest.mark.parametrize("orientation", [3, 6])
def test_exif_rotation_is_applied_to_the_pixels(tmp_path: Path, orientation: int) -> None:
    root = _write(tmp_path, orientation)
    (image,) = read_curated_set(root).splits["train"]
    assert Image.open(image.path).getexif().get(274, 1) == 1
    as_seen = np.asarray(cv2.imread(str(tmp_path / "source" / "train.jpg")))
    written = np.asarray(cv2.imread(str(image.path)))
    assert (image.height, image.width) == written.shape[:2] == as_seen.shape[:2]
    assert np.abs(written.astype(int) - as_seen).mean() < 3


def test_size_of_a_photo_with_exif_rotation_is_that_of_the_photo_as_seen(tmp_path: Path) -> None:
    root = draw_yolo_folder(tmp_path / "set")
    draw_photo(root / "images" / "train" / "a.jpg", 7, exif_orientation=8)
    image = read_curated_set(root).splits["train"][0]
    assert (image.width, image.height) == (64, 96)
    assert np.asarray(cv2.imread(str(image.path))).shape == (96, 64, 3)


def test_hash_changes_with_a_label_a_photo_a_name_and_a_split(tmp_path: Path) -> None:
    root = draw_yolo_folder(tmp_path / "set")
    hashes = {hash_curated_set(root)}
    (root / "labels" / "train" / "b.txt").write_text("0 0.5 0.5 1 1\n")
    hashes.add(hash_curated_set(root))
    draw_photo(root / "images" / "val" / "c.jpg", 8)
    hashes.add(hash_curated_set(root))
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [Window, Gate]\n")
    hashes.add(hash_curated_set(root))
    (root / "images" / "train" / "a.jpg").rename(root / "images" / "val" / "a.jpg")
    (root / "labels" / "val").mkdir()
    (root / "labels" / "train" / "a.txt").rename(root / "labels" / "val" / "a.txt")
    hashes.add(hash_curated_set(root))
    assert len(hashes) == 5
    shutil.move(root, tmp_path / "moved")
    assert hash_curated_set(tmp_path / "moved") in hashes


def test_a_plain_yolo_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = draw_yolo_folder(tmp_path / "set")
    found = read_curated_set(root)
    assert found.classes == ("Window", "Door")
    assert found.content_hash == hash_curated_set(root)
    assert [len(found.splits[split]) for split in ("train", "val", "test")] == [2, 1, 0]
    np.testing.assert_allclose(found.splits["train"][0].boxes, [[36, 16, 60, 48], [0, 0, 48, 32]])
    assert found.splits["val"][0].boxes.shape == (0, 4)
    monkeypatch.chdir(root)
    inside = read_curated_set(Path())
    assert (inside.name, inside.content_hash) == ("set", found.content_hash)
    assert len(inside.splits["train"][0].boxes) == 2


@pytest.mark.parametrize(
    "yaml",
    [
        "path: set\ntrain: images/train\nval: [images/val]\nnames: {0: Window, 1: Door}\nnc: 2\n",
        "train: train.txt\nval: ../images/val\nnames: [Window, Door]\n",
    ],
    ids=["path and mapping", "list file and Roboflow"],
)
def test_ways_to_name_photos_and_classes(tmp_path: Path, yaml: str) -> None:
    root = draw_yolo_folder(tmp_path / "set")
    (root / "train.txt").write_text("./images/train/a.jpg\n./images/train/b.jpg\n")
    text = yaml.replace("path: set", f"path: {root}")
    (root / "data.yaml").write_text(text)
    found = read_curated_set(root)
    assert [len(found.splits[split]) for split in ("train", "val", "test")] == [2, 1, 0]
    assert [len(image.boxes) for image in found.splits["train"]] == [2, 1]


BAD_LABELS = {
    "five words": ("a row of five words\n", "five numbers"),
    "four numbers": ("0 0.5 0.5 0.2\n", "five numbers"),
    "six numbers": ("0 0.5 0.5 0.2 0.2 0.9\n", "five numbers"),
    "nan": ("0 nan 0.5 0.2 0.2\n", "five numbers"),
    "class too high": ("2 0.5 0.5 0.2 0.2\n", "class 2; classes go from 0 to 1"),
    "class negative": ("-1 0.5 0.5 0.2 0.2\n", "class -1"),
    "class a fraction": ("0.5 0.5 0.5 0.2 0.2\n", "class 0.5"),
    "outside": ("0 0.95 0.5 0.2 0.2\n", "outside the image"),
    "pixels": ("0 48 32 10 10\n", "outside the image"),
    "left": ("0 0.05 0.5 0.2 0.2\n", "outside the image"),
    "no width": ("0 0.5 0.5 0 0.2\n", "0 wide"),
}


@pytest.mark.parametrize(("line", "words"), BAD_LABELS.values(), ids=BAD_LABELS.keys())
def test_bad_label_row_is_refused_with_file_and_line(tmp_path: Path, line: str, words: str) -> None:
    root = draw_yolo_folder(tmp_path / "set")
    label = root / "labels" / "train" / "a.txt"
    label.write_text(f"0 0.5 0.5 0.2 0.2\n\n{line}")
    with pytest.raises(UserError, match=words) as caught:
        read_curated_set(root)
    assert f"{label} line 3: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_box_over_the_edge_by_rounding_is_clipped(tmp_path: Path) -> None:
    root = draw_yolo_folder(tmp_path / "set")
    (root / "labels" / "train" / "b.txt").write_text("0 0.500001 0.5 1.000002 1\n")
    np.testing.assert_allclose(read_curated_set(root).splits["train"][1].boxes, [[0, 0, 96, 64]], atol=1e-4)


BAD_YAMLS = {
    "no yaml": ("names: [", "no valid YAML"),
    "a list": ("[1]", "no keys"),
    "no names": ("train: images/train\nval: images/val\n", "names: found None"),
    "same names": ("train: images/train\nval: images/val\nnames: [A, A]\n", "'A' is there twice"),
    "wrong count": ("train: images/train\nval: images/val\nnames: [A, B]\nnc: 3\n", "3 for 2 names"),
    "gap in names": ("train: images/train\nval: images/val\nnames: {0: A, 2: B}\n", "names: found"),
    "no val": ("train: images/train\nnames: [A, B]\n", "val: found None"),
    "no folder": ("train: images/train\nval: images/none\nnames: [A, B]\n", "val: there is no"),
}


@pytest.mark.parametrize(("text", "words"), BAD_YAMLS.values(), ids=BAD_YAMLS.keys())
def test_bad_data_yaml_is_refused(tmp_path: Path, text: str, words: str) -> None:
    root = draw_yolo_folder(tmp_path / "set")
    (root / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_curated_set(root)
    assert "data.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: no such folder"):
        read_curated_set(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: empty folder"):
        read_curated_set(tmp_path / "empty")
    root = draw_yolo_folder(tmp_path / "set")
    (root / "images" / "val" / "c.jpg").unlink()
    with pytest.raises(UserError, match="val: no photos"):
        read_curated_set(root)
    (root / "data.yaml").unlink()
    with pytest.raises(UserError, match=r"no data\.yaml"):
        read_curated_set(root)


def test_unreadable_photo_is_refused(tmp_path: Path) -> None:
    root = draw_yolo_folder(tmp_path / "set")
    photo = root / "images" / "train" / "a.jpg"
    content = photo.read_bytes()
    photo.write_bytes(content[: len(content) // 2])
    read_curated_set(root)
    with pytest.raises(UserError, match=r"a\.jpg: cannot be read as an image"):
        read_curated_set(root, verify=True)
    photo.write_bytes(b"no photo")
    with pytest.raises(UserError, match=r"a\.jpg: cannot be read as an image") as caught:
        read_curated_set(root)
    assert "\n" not in str(caught.value)


def test_two_photos_of_one_name_and_a_photo_in_two_splits_are_refused(tmp_path: Path) -> None:
    root = draw_yolo_folder(tmp_path / "set")
    shutil.copy(root / "images" / "train" / "a.jpg", root / "images" / "val" / "d.jpg")
    with pytest.raises(UserError, match="the same photo as"):
        read_curated_set(root)
    (root / "images" / "val" / "d.jpg").unlink()
    draw_photo(root / "images" / "train" / "a.png", 9)
    with pytest.raises(UserError, match="2 photos of this name"):
        read_curated_set(root)


def test_a_lost_photo_of_a_curated_set_is_noticed(tmp_path: Path) -> None:
    root = _write(tmp_path)
    (root / "images" / "test" / "test.jpg").unlink()
    with pytest.raises(UserError, match="0 photos instead of 1"):
        read_curated_set(root)
    (root / "dataset.json").write_text(json.dumps({"name": "set"}))
    with pytest.raises(UserError, match="not what curating writes"):
        read_curated_set(root)


def test_darknet_finds_every_label_from_inside_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _write(tmp_path)
    root = root.rename(tmp_path / "moved")
    monkeypatch.chdir(root)
    options = dict(line.split(" = ") for line in Path("set.data").read_text().splitlines())
    assert Path(options["names"]).read_text().splitlines() == ["Window", "Door"]
    assert int(options["classes"]) == 2
    assert Path(options["backup"]).is_dir()
    for key, split in (("train", "train"), ("valid", "val")):
        (photo,) = Path(options[key]).read_text().splitlines()
        assert Path(photo).is_file()
        original = photo.replace("images", "labels", 1).replace(".jpg", ".txt", 1)
        alexeyab = os.path.splitext(photo)[0] + ".txt"  # noqa: PTH122 - as Darknet does it, on the string
        for label in (original, alexeyab):
            assert Path(label).read_text() == Path("labels", split, f"{split}.txt").read_text()
