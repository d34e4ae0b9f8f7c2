"""Readers of other formats: against FiftyOne's importers, which share no code with them."""

import ast
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_source import draw_photo
from PIL import Image
from written_source import BOXES, DRAWN, NAMES, SIZE, WRITERS, Boxes, Scene, change, write_all, write_wheat

from pipeline.curate.annotations import FLAGS, Annotations, joined
from pipeline.curate.readers import OPTIONS, read_source
from pipeline.curate.readers.common import only_options
from pipeline.curate.recipe import read_recipe
from pipeline.errors import UserError

DATASETS = Path(__file__).resolve().parents[2] / "datasets"


FIFTYONE_READS = """
import json, sys
import fiftyone.utils.coco as coco, fiftyone.utils.kitti as kitti
import fiftyone.utils.voc as voc, fiftyone.utils.yolo as yolo

out, *roots = sys.argv[1:]
importers = {
    "coco": lambda root: coco.COCODetectionDatasetImporter(
        data_path=f"{root}/images", labels_path=f"{root}/annotations.json", label_types=["detections"]),
    "voc": lambda root: voc.VOCDetectionDatasetImporter(
        data_path=f"{root}/JPEGImages", labels_path=f"{root}/Annotations"),
    "kitti": lambda root: kitti.KITTIDetectionDatasetImporter(
        data_path=f"{root}/training/image_2", labels_path=f"{root}/training/label_2"),
    "yolo": lambda root: yolo.YOLOv5DatasetImporter(dataset_dir=root, yaml_path="data.yaml", split="train"),
}
found = {}
for root in roots:
    boxes = []
    importer = importers[root.split("/")[-1]](root)
    with importer:
        for path, _, label in importer:
            label = label.get("detections") if isinstance(label, dict) else label
            stem = path.split("/")[-1].rsplit(".", 1)[0]
            boxes += [[stem, d.label, *d.bounding_box] for d in (label.detections if label else ())]
    found["/".join(root.split("/")[-2:])] = boxes
json.dump(found, open(out, "w"))
"""


def _boxes(annotations: Annotations) -> list[list[Any]]:
    """Rows of image id, class and left, top, width, height as fractions, sorted."""
    rows = zip(annotations.image, annotations.label, annotations.boxes, strict=True)
    return sorted(
        [annotations.image_ids[image], annotations.class_names[label], *box[:2], *(box[2:] - box[:2])]
        for image, label, box in rows
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("sources"), DRAWN)


@pytest.fixture(scope="module")
def street(facades: Path) -> Scene:
    """Two dozen real street photos with their boxes in whole pixels, the classes renamed to those that KITTI knows."""
    found = read_source("open-images", facades, {})
    boxes: dict[str, Boxes] = {name: [] for name in found.image_ids[:24]}
    photos = {name: path for name, path in zip(boxes, found.paths, strict=False) if path is not None}
    sizes = {name: Image.open(path).size for name, path in photos.items()}
    for image, label, box in zip(found.image, found.label, found.boxes, strict=True):
        name = found.image_ids[image]
        if name in boxes:
            x1, y1, x2, y2 = (round(value) for value in box * np.tile(sizes[name], 2))
            if x1 < x2 and y1 < y2:
                boxes[name].append((NAMES[label % 3], x1, y1, x2, y2))
    return Scene(boxes, sizes, photos)


@pytest.fixture(scope="module")
def real(street: Scene, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The street photos in every format, and a drone team's own photos of a window as window/yolo."""
    root = tmp_path_factory.mktemp("real")
    (root / "window" / "yolo").mkdir(parents=True)
    for name in ("images", "labels"):
        (root / "window" / "yolo" / name).symlink_to(shared_data / "wpi_window" / name)
    (root / "window" / "yolo" / "data.yaml").write_text("train: images\nnames: [Window]\n")
    (root / "street").mkdir()
    write_all(root / "street", street)
    return root


@pytest.fixture(scope="module")
def by_fiftyone(sources: Path, real: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[Any]]]:
    """What FiftyOne's importers find, by folder; in a process of its own, since importing it changes much."""
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {"HOME": str(home), "FIFTYONE_DATABASE_DIR": str(home), "FIFTYONE_DO_NOT_TRACK": "1"}
    out = home / "found.json"
    folders = [str(root / name) for root in (sources, real / "street") for name in WRITERS]
    command = [sys.executable, "-c", FIFTYONE_READS, str(out), *folders, str(real / "window" / "yolo")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    found: dict[str, list[list[Any]]] = json.loads(out.read_text())
    return found


def _assert_same_as_fiftyone(own: list[list[Any]], other: list[list[Any]], tolerance: float) -> None:
    own, other = (
        sorted(rows, key=lambda row: (*row[:2], *(round(side, 2) for side in row[2:]))) for rows in (own, other)
    )
    assert [row[:2] for row in own] == [row[:2] for row in other]
    np.testing.assert_allclose([row[2:] for row in own], [row[2:] for row in other], atol=tolerance)


@pytest.mark.parametrize("name", list(WRITERS))
def test_boxes_are_those_that_fiftyone_finds(sources: Path, by_fiftyone: dict[str, list[list[Any]]], name: str) -> None:
    other = by_fiftyone[f"{sources.name}/{name}"]
    assert len(other) == 6
    # FiftyOne takes VOC's xmin as if it counted from 0, so it is a pixel off there
    tolerance = 1.01 / min(SIZE) if name == "voc" else 1e-6
    _assert_same_as_fiftyone(_boxes(read_source(name, sources / name, {})), other, tolerance)


@pytest.mark.parametrize("name", list(WRITERS))
def test_boxes_of_real_streets_are_those_that_fiftyone_finds(
    real: Path, street: Scene, by_fiftyone: dict[str, list[list[Any]]], name: str
) -> None:
    own = _boxes(read_source(name, real / "street" / name, {}))
    other = by_fiftyone[f"street/{name}"]
    assert len(own) == sum(map(len, street.boxes.values())) > 200
    if name == "voc":  # see above: put the pixel back
        other = [[stem, label, *_without_first_pixel(box, street.sizes[stem])] for stem, label, *box in other]
    _assert_same_as_fiftyone(own, other, 1e-6)


def _without_first_pixel(box: list[float], size: tuple[int, int]) -> list[float]:
    x, y, width, height = box
    return [x - 1 / size[0], y - 1 / size[1], width + 1 / size[0], height + 1 / size[1]]


def test_own_photos_are_read_as_fiftyone_reads_them(real: Path, by_fiftyone: dict[str, list[list[Any]]]) -> None:
    own = _boxes(read_source("yolo", real / "window" / "yolo", {}))
    assert len(own) > 20
    _assert_same_as_fiftyone(own, by_fiftyone["window/yolo"], 1e-6)


@pytest.mark.parametrize("name", list(WRITERS))
def test_boxes_are_those_that_were_written(sources: Path, name: str) -> None:
    found = read_source(name, sources / name, {})
    expected = sorted(
        [image, label, x1 / SIZE[0], y1 / SIZE[1], (x2 - x1) / SIZE[0], (y2 - y1) / SIZE[1]]
        for image, boxes in BOXES.items()
        for label, x1, y1, x2, y2 in boxes
    )
    assert [row[:2] for row in _boxes(found)] == [row[:2] for row in expected]
    sides = np.array([row[2:] for row in expected], dtype=np.float64)
    np.testing.assert_allclose([row[2:] for row in _boxes(found)], sides, atol=1e-8)
    assert found.image_ids == tuple(BOXES)
    assert found.sizes.tolist() == [list(SIZE)] * 4
    assert all(path is not None and path.is_file() for path in found.paths)


def _flags(found: Annotations, flag: str) -> dict[str, set[int]]:
    result: dict[str, set[int]] = {}
    for label, value in zip(found.label, found.flags[:, FLAGS.index(flag)], strict=True):
        result.setdefault(found.class_names[label], set()).add(int(value))
    return result


def test_flags_are_kept_and_what_a_format_does_not_say_is_unknown(sources: Path) -> None:
    coco, voc, kitti = (read_source(name, sources / name, {}) for name in ("coco", "voc", "kitti"))
    assert _flags(coco, "IsGroupOf") == {"Car": {-1}, "Cyclist": {1}, "Pedestrian": {-1}}
    assert _flags(voc, "IsTruncated") == {"Car": {1}, "Cyclist": {0}, "Pedestrian": {0}}
    assert _flags(voc, "IsOccluded") == {name: {-1} for name in NAMES}
    assert _flags(kitti, "IsTruncated") == {"Car": {1}, "Cyclist": {0}, "Pedestrian": {0}}
    assert _flags(kitti, "IsOccluded") == {"Car": {1}, "Cyclist": {1}, "Pedestrian": {-1}}


def test_dont_care_regions_are_group_boxes_of_their_own_class(tmp_path: Path) -> None:
    WRITERS["kitti"](tmp_path)
    label = tmp_path / "training" / "label_2" / "d.txt"
    label.write_text("DontCare -1 -1 -10 1 2 30 40 -1 -1 -1 -1000 -1000 -1000 -10\n")
    found = read_source("kitti", tmp_path, {})
    assert _flags(found, "IsGroupOf")["DontCare"] == {1}


def test_rows_are_lines_or_places_in_the_list(sources: Path) -> None:
    assert read_source("coco", sources / "coco", {}).row.tolist() == [1, 2, 3, 4, 5, 6]
    yolo = read_source("yolo", sources / "yolo", {})
    assert [(yolo.files[file].name, row) for file, row in zip(yolo.file, yolo.row, strict=True)] == [
        ("a.txt", 1),
        ("a.txt", 2),
        ("b.txt", 1),
        ("c.txt", 1),
        ("c.txt", 2),
        ("c.txt", 3),
    ]


def test_wheat_of_the_competition(shared_data: Path) -> None:
    found = read_source("wheat", shared_data / "wheat", {})
    with (shared_data / "wheat" / "train.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(found.row) == len(rows) == 761
    assert len(found.image_ids) == 23
    assert found.class_names == ("wheat_head",)
    corners = np.array([ast.literal_eval(row["bbox"]) for row in rows])
    corners[:, 2:] += corners[:, :2]
    np.testing.assert_allclose(found.boxes * 1024, corners)
    named = [(found.image_ids[image], annotator) for image, annotator in zip(found.image, found.annotator, strict=True)]
    assert named == [(row["image_id"], row["source"]) for row in rows]
    assert found.row.tolist() == list(range(2, 763))


def test_own_photos_with_yolo_labels(shared_data: Path) -> None:
    folder = shared_data / "wpi_window"
    found = read_source("yolo", folder, {"classes": "Window"})
    assert len(found.image_ids) == len(list((folder / "images").iterdir()))
    assert len(found.row) == sum(len(path.read_text().split()) // 5 for path in (folder / "labels").glob("*.txt"))
    with pytest.raises(UserError, match=r"neither data\.yaml nor classes\.txt"):
        read_source("yolo", folder, {})


def test_a_list_of_classes_counts_before_the_option_and_has_no_gaps(tmp_path: Path) -> None:
    WRITERS["yolo"](tmp_path)
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_text("\n".join(NAMES) + "\n\n")
    assert read_source("yolo", tmp_path, {"classes": "A,B,C"}).class_names == NAMES
    for text, found in (("a\n\nb\nc\n", "line 2: an empty line"), ("a\nb\na\n", "line 3: 'a' a second time")):
        (tmp_path / "classes.txt").write_text(text)
        with pytest.raises(UserError, match=rf"classes\.txt {found}"):
            read_source("yolo", tmp_path, {})
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"classes\.txt: not UTF-8"):
        read_source("yolo", tmp_path, {})


def test_box_over_the_edge_by_less_than_a_pixel_is_clipped_and_one_without_area_stays(tmp_path: Path) -> None:
    WRITERS["coco"](tmp_path)
    change("annotations.json", '"bbox": [10, 20, 100, 70]', '"bbox": [-0.5, 20, 321.2, 70]')(tmp_path)
    change("annotations.json", '"bbox": [200, 40, 40, 120]', '"bbox": [200, 40, 0, 0]')(tmp_path)
    found = read_source("coco", tmp_path, {})
    np.testing.assert_allclose(found.boxes[0], [0, 0.1, 1, 0.45])
    np.testing.assert_allclose(found.boxes[1], [0.625, 0.2, 0.625, 0.2])


@pytest.mark.parametrize("name", ["coco", "voc"])
def test_photo_turned_against_the_size_in_the_file_is_refused(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path)
    photo = tmp_path / {"coco": "images", "voc": "JPEGImages"}[name] / "a.jpg"
    draw_photo(photo, 0, SIZE, exif_orientation=3)
    read_source(name, tmp_path, {})
    draw_photo(photo, 0, SIZE, exif_orientation=6)
    with pytest.raises(UserError, match="but the photo is seen as 200 x 320"):
        read_source(name, tmp_path, {})


def test_voc_without_a_size_goes_by_the_photo(tmp_path: Path) -> None:
    WRITERS["voc"](tmp_path)
    change("Annotations/a.xml", "<width>320</width><height>200</height>", "<width>0</width><height>0</height>")(
        tmp_path
    )
    assert len(read_source("voc", tmp_path, {}).row) == 6


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_document_type_is_refused_in_any_encoding_before_its_entities_grow(tmp_path: Path, encoding: str) -> None:
    WRITERS["voc"](tmp_path)
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY e0 "x">{entities}]><annotation>&e9;'
    (tmp_path / "Annotations" / "a.xml").write_bytes(f"{text}</annotation>".encode(encoding))
    with pytest.raises(UserError, match=r"a\.xml: a document type"):
        read_source("voc", tmp_path, {})


@pytest.mark.parametrize("path", sorted(DATASETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_options_of_the_shipped_recipes_are_those_of_their_format(path: Path) -> None:
    source = read_recipe(path).source
    if source.format in OPTIONS:
        only_options(source.options, OPTIONS[source.format], source.format)


def test_sources_are_joined_by_the_names_of_their_classes(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "wheat").mkdir()
    write_wheat(tmp_path / "wheat")
    one, other = read_source("coco", sources / "coco", {}), read_source("wheat", tmp_path / "wheat", {})
    with pytest.raises(UserError, match=r"image a: in .*annotations\.json and in .*train\.csv"):
        joined([one, other])
    for path in sorted((tmp_path / "wheat" / "train").iterdir()):
        path.rename(path.with_name(f"0{path.name}"))
    text = (tmp_path / "wheat" / "train.csv").read_text()
    for name in BOXES:
        text = text.replace(f"\n{name},", f"\n0{name},")
    (tmp_path / "wheat" / "train.csv").write_text(text)
    both = joined([one, read_source("wheat", tmp_path / "wheat", {})])
    assert both.image_ids == ("0a", "0b", "0c", "0d", "a", "b", "c", "d")
    assert both.class_names == (*NAMES, "wheat_head")
    assert [row for row in _boxes(both) if row[1] != "wheat_head"] == _boxes(one)
    assert len(both.row) == 12
    assert [both.files[file].name for file in both.file] == ["annotations.json"] * 6 + ["train.csv"] * 6
