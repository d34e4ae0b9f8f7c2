"""Readers of other formats on bad input: one line that names the file, the place in it and what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
from written_source import WRITERS, change, write_wheat

from pipeline.curate.readers import OPTIONS, read_source
from pipeline.errors import UserError


def _write(path: str, content: bytes) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        (root / path).write_bytes(content)

    return write


def _class_names(content: bytes) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        (root / "data.yaml").unlink()
        (root / "classes.txt").write_bytes(content)

    return write


def _remove(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


BAD: list[tuple[str, Callable[[Path], None], str]] = [
    ("coco", change("annotations.json", '"bbox": [10, 20, 100', '"bbox": [10, 20, -100'), r"entry 1: a box -100 wide"),
    ("coco", change("annotations.json", '"bbox": [10, 20', '"bbox": [NaN, 20'), r"entry 1: box nan"),
    ("coco", change("annotations.json", '"bbox": [10, 20, 100, 70]', '"bbox": [10]'), r"entry 1: bbox \[10\]"),
    ("coco", change("annotations.json", '"bbox": [10, 20', '"bbox": [230, 20'), r"entry 1: .*outside the photo"),
    ("coco", change("annotations.json", '"image_id": 7', '"image_id": 99'), r"entry 1: image_id 99"),
    ("coco", change("annotations.json", '"category_id": 1', '"category_id": 2'), r"entry 1: category_id 2"),
    ("coco", change("annotations.json", '"id": 8', '"id": 7'), r"images, entry 2: id 7 a second time"),
    (
        "coco",
        change("annotations.json", '"a.jpg"', '"../a.jpg"'),
        r"images, entry 1: file_name '\.\./a\.jpg'; it must lie below",
    ),
    ("coco", change("annotations.json", '"width": 320', '"width": 200'), r"images, entry 1: 200 x 200, but"),
    ("coco", change("annotations.json", '"categories"', '"cats"'), r"annotations\.json: no list categories"),
    ("coco", change("annotations.json", "]}", ""), r"annotations\.json: no JSON"),
    ("coco", _remove("annotations.json"), r"annotations\.json: no such file"),
    ("coco", _remove("images/a.jpg"), r"entry 1: file_name 'a\.jpg', and no such photo"),
    ("coco", change("annotations.json", '"id": 1,', '"id": 0,'), r"annotations, entry 2: id 0 a second time"),
    ("coco", change("annotations.json", '"iscrowd": 0', '"iscrowd": 7'), r"entry 1: iscrowd 7"),
    ("coco", change("annotations.json", '"id": 7', '"id": null'), r"images, entry 1: id None"),
    ("coco", change("annotations.json", '"bbox": [10', f'"bbox": [1{"0" * 400}'), r"entry 1: bbox \[1000"),
    ("coco", change("annotations.json", '"a.jpg"', f'"{"a" * 5000}"'), r"images, entry 1: file_name 'aaa"),
    ("coco", change("annotations.json", '"images": [', '"images": [], "x": ['), r"json: an empty list images"),
    ("coco", _write("annotations.json", b"[" * 200_000), r"annotations\.json: brackets"),
    ("voc", change("Annotations/a.xml", "</annotation>", ""), r"a\.xml: no XML"),
    ("voc", _write("Annotations/a.xml", b'<?xml version="1.0" encoding="x"?><annotation/>'), r"a\.xml: no XML"),
    ("voc", _write("Annotations/a.xml", b"<html/>"), r"a\.xml: the element 'html'"),
    ("voc", change("Annotations/a.xml", "<truncated>1", "<truncated>yes"), r"a\.xml: object 1: truncated 'yes'"),
    ("voc", change("Annotations/a.xml", "<name>Car", "<name> "), r"a\.xml: an object with an empty name"),
    ("voc", change("Annotations/a.xml", "<width>320", "<width>640"), r"a\.xml: size '640 x 200'"),
    ("voc", change("Annotations/a.xml", "<annotation>", "<!DOCTYPE a><annotation>"), r"a\.xml: a document type"),
    ("voc", change("Annotations/a.xml", "<xmin>11", "<xmin>x"), r"a\.xml: object 1: bndbox"),
    ("voc", change("Annotations/a.xml", "<xmin>11", "<xmin>300"), r"a\.xml: object 1: a box -"),
    ("voc", change("Annotations/a.xml", "<name>Car</name>", ""), r"a\.xml: an object without name"),
    ("voc", change("Annotations/a.xml", "a.jpg", "../a.jpg"), r"a\.xml: filename '\.\./a\.jpg'; it must lie below"),
    ("voc", _remove("JPEGImages/a.jpg"), r"a\.xml: filename 'a\.jpg', and no such photo"),
    ("kitti", change("training/label_2/a.txt", " 1 1 0\n", "\n"), r"a\.txt line 1: 13 words|a\.txt line 1: 12 words"),
    ("kitti", change("training/label_2/a.txt", "Car", "Auto"), r"a\.txt line 1: class 'Auto'"),
    ("kitti", change("training/label_2/a.txt", " 10 20 ", " ten 20 "), r"a\.txt line 1: found"),
    ("kitti", _remove("training/image_2/a.jpg"), r"a\.txt: no photo a"),
    ("kitti", change("training/label_2/a.txt", "0.5 1 ", "0.5 inf "), r"a\.txt line 1: occluded inf"),
    ("kitti", change("training/label_2/a.txt", "0.5 1 ", "nan 1 "), r"a\.txt line 1: truncated nan"),
    ("kitti", change("training/label_2/a.txt", " 10 20 ", " nan 20 "), r"a\.txt line 1: box nan"),
    ("yolo", _class_names(b"\xff\xfe\x00"), r"classes\.txt: not UTF-8 text"),
    ("yolo", _class_names(b"Car\n\nPedestrian\n"), r"classes\.txt line 2: an empty line"),
    ("yolo", _class_names(b"Car\nCar\nPedestrian\n"), r"classes\.txt line 2: .Car. a second time"),
    ("yolo", change("labels/a.txt", "\n1 ", "\n9 "), r"a\.txt line 2: class 9"),
    ("yolo", change("data.yaml", "names", "nams"), r"data\.yaml: names: found None"),
    ("wheat", change("train.csv", "[10.0", "[ten"), r"train\.csv line 2: bbox"),
    ("wheat", change("train.csv", "[10.0", "[" * 100_000), r"train\.csv line 2: bbox"),
    ("wheat", change("train.csv", "[10.0", "[1" + "0" * 200_000), r"train\.csv line 2: no row of a CSV file"),
    ("wheat", change("train.csv", "a,320", "zz,320"), r"train\.csv line 2: image_id 'zz'"),
    ("wheat", change("train.csv", "a,320", "a,321"), r"train\.csv line 2: 321 x 200"),
    ("wheat", change("train.csv", "bbox,source", "source"), r"train\.csv line 1: no column bbox"),
    ("wheat", change("train.csv", ",lab_a", ""), r"train\.csv line 2: another number of values"),
    ("wheat", _remove("train.csv"), r"train\.csv: no such file"),
]


@pytest.mark.parametrize(("name", "spoil", "message"), BAD, ids=[f"{place}-{row[0]}" for place, row in enumerate(BAD)])
def test_bad_input_is_one_line_that_names_file_and_place(
    tmp_path: Path, name: str, spoil: Callable[[Path], None], message: str
) -> None:
    (WRITERS | {"wheat": write_wheat})[name](tmp_path)
    read_source(name, tmp_path, {})
    spoil(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        read_source(name, tmp_path, {})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", list(OPTIONS))
def test_unknown_options_and_missing_folders_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"source.options: colour: no option of the format {name}"):
        read_source(name, tmp_path, {"colour": "red"})
    with pytest.raises(UserError, match="no such folder"):
        read_source(name, tmp_path / "none", {})
