"""Readers of other formats: against FiftyOne's importers, which share no code with them, and on bad input."""

import ast
import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_source import draw_photo
from PIL import Image

from pipeline.curate.annotations import FLAGS, Annotations, joined
from pipeline.curate.readers import OPTIONS, read_source
from pipeline.curate.readers.common import only_options
from pipeline.curate.recipe import read_recipe
from pipeline.errors import UserError

Boxes = list[tuple[str, int, int, int, int]]
SIZE = (320, 200)
# Boxes in whole pixels, which every format can say exactly, by photo; the last photo has none.
BOXES: dict[str, Boxes] = {
    "a": [("Car", 10, 20, 110, 90), ("Cyclist", 200, 40, 240, 160)],
    "b": [("Pedestrian", 0, 0, 320, 200)],
    "c": [("Car", 300, 150, 320, 200), ("Car", 5, 5, 25, 25), ("Pedestrian", 50, 60, 70, 110)],
    "d": [],
}
NAMES = ("Car", "Cyclist", "Pedestrian")
DATASETS = Path(__file__).resolve().parents[2] / "datasets"


@dataclass(frozen=True)
class Scene:
    """What a writer writes: boxes by photo, the size of each photo, and the photo, drawn where there is none."""

    boxes: Mapping[str, Boxes]
    sizes: Mapping[str, tuple[int, int]]
    photos: Mapping[str, Path]


DRAWN = Scene(BOXES, dict.fromkeys(BOXES, SIZE), {})

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


def _photos(folder: Path, scene: Scene) -> None:
    folder.mkdir(parents=True)
    for seed, (name, size) in enumerate(scene.sizes.items()):
        if name in scene.photos:
            (folder / f"{name}.jpg").symlink_to(scene.photos[name])
        else:
            draw_photo(folder / f"{name}.jpg", seed, size)


def _write_coco(root: Path, scene: Scene = DRAWN) -> None:
    _photos(root / "images", scene)
    images = [
        {"id": 7 + place, "file_name": f"{name}.jpg", "width": width, "height": height}
        for place, (name, (width, height)) in enumerate(scene.sizes.items())
    ]
    annotations = [
        {
            "id": 1000 * place + number,
            "image_id": 7 + place,
            "category_id": 3 * NAMES.index(label) + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": int(label == "Cyclist"),
        }
        for place, name in enumerate(scene.sizes)
        for number, (label, x1, y1, x2, y2) in enumerate(scene.boxes[name])
    ]
    categories = [{"id": 3 * place + 1, "name": name} for place, name in enumerate(NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(content))


def _write_voc(root: Path, scene: Scene = DRAWN) -> None:
    _photos(root / "JPEGImages", scene)
    (root / "Annotations").mkdir()
    for name, (width, height) in scene.sizes.items():
        objects = "".join(
            f"<object><name>{label}</name><truncated>{int(label == 'Car')}</truncated><difficult>1</difficult>"
            f"<bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for label, x1, y1, x2, y2 in scene.boxes[name]
        )
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        text = f"<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(text)


def _write_kitti(root: Path, scene: Scene = DRAWN) -> None:
    _photos(root / "training" / "image_2", scene)
    (root / "training" / "label_2").mkdir()
    for name, boxes in scene.boxes.items():
        rows = "".join(
            f"{label} {0.5 if label == 'Car' else 0.15} {NAMES.index(label) + 1} 0 {x1} {y1} {x2} {y2} 1 1 1 1 1 1 0\n"
            for label, x1, y1, x2, y2 in boxes
        )
        (root / "training" / "label_2" / f"{name}.txt").write_text(rows)


def _write_yolo(root: Path, scene: Scene = DRAWN) -> None:
    _photos(root / "images", scene)
    (root / "labels").mkdir()
    for name, (width, height) in scene.sizes.items():
        rows = "".join(
            f"{NAMES.index(label)} {(x1 + x2) / 2 / width:.9f} {(y1 + y2) / 2 / height:.9f} "
            f"{(x2 - x1) / width:.9f} {(y2 - y1) / height:.9f}\n"
            for label, x1, y1, x2, y2 in scene.boxes[name]
        )
        if rows:
            (root / "labels" / f"{name}.txt").write_text(rows)
    (root / "data.yaml").write_text(f"train: images\nnames: [{', '.join(NAMES)}]\n")


WRITERS: dict[str, Callable[..., None]] = {
    "coco": _write_coco,
    "voc": _write_voc,
    "kitti": _write_kitti,
    "yolo": _write_yolo,
}


def _write_wheat(root: Path) -> None:
    _photos(root / "train", DRAWN)
    lines = [
        f'{name},{SIZE[0]},{SIZE[1]},"[{x1}.0, {y1}.0, {x2 - x1}.0, {y2 - y1}.0]",lab_{name}'
        for name, boxes in BOXES.items()
        for _, x1, y1, x2, y2 in boxes
    ]
    (root / "train.csv").write_text("image_id,width,height,bbox,source\n" + "\n".join(lines) + "\n")


def _boxes(annotations: Annotations) -> list[list[Any]]:
    """Rows of image id, class and left, top, width, height as fractions, sorted."""
    rows = zip(annotations.image, annotations.label, annotations.boxes, strict=True)
    return sorted(
        [annotations.image_ids[image], annotations.class_names[label], *box[:2], *(box[2:] - box[:2])]
        for image, label, box in rows
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_all(tmp_path_factory.mktemp("sources"), DRAWN)


def _write_all(root: Path, scene: Scene) -> Path:
    for name, write in WRITERS.items():
        (root / name).mkdir()
        write(root / name, scene)
    return root


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
    _write_all(root / "street", street)
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
    _write_kitti(tmp_path)
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
    _write_yolo(tmp_path)
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
    _write_coco(tmp_path)
    _change("annotations.json", '"bbox": [10, 20, 100, 70]', '"bbox": [-0.5, 20, 321.2, 70]')(tmp_path)
    _change("annotations.json", '"bbox": [200, 40, 40, 120]', '"bbox": [200, 40, 0, 0]')(tmp_path)
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
    _write_voc(tmp_path)
    _change("Annotations/a.xml", "<width>320</width><height>200</height>", "<width>0</width><height>0</height>")(
        tmp_path
    )
    assert len(read_source("voc", tmp_path, {}).row) == 6


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_document_type_is_refused_in_any_encoding_before_its_entities_grow(tmp_path: Path, encoding: str) -> None:
    _write_voc(tmp_path)
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
    _write_wheat(tmp_path / "wheat")
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


def _change(path: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new, 1))

    return change


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
    ("coco", _change("annotations.json", '"bbox": [10, 20, 100', '"bbox": [10, 20, -100'), r"entry 1: a box -100 wide"),
    ("coco", _change("annotations.json", '"bbox": [10, 20', '"bbox": [NaN, 20'), r"entry 1: box nan"),
    ("coco", _change("annotations.json", '"bbox": [10, 20, 100, 70]', '"bbox": [10]'), r"entry 1: bbox \[10\]"),
    ("coco", _change("annotations.json", '"bbox": [10, 20', '"bbox": [230, 20'), r"entry 1: .*outside the photo"),
    ("coco", _change("annotations.json", '"image_id": 7', '"image_id": 99'), r"entry 1: image_id 99"),
    ("coco", _change("annotations.json", '"category_id": 1', '"category_id": 2'), r"entry 1: category_id 2"),
    ("coco", _change("annotations.json", '"id": 8', '"id": 7'), r"images, entry 2: id 7 a second time"),
    (
        "coco",
        _change("annotations.json", '"a.jpg"', '"../a.jpg"'),
        r"images, entry 1: file_name '\.\./a\.jpg'; it must lie below",
    ),
    ("coco", _change("annotations.json", '"width": 320', '"width": 200'), r"images, entry 1: 200 x 200, but"),
    ("coco", _change("annotations.json", '"categories"', '"cats"'), r"annotations\.json: no list categories"),
    ("coco", _change("annotations.json", "]}", ""), r"annotations\.json: no JSON"),
    ("coco", _remove("annotations.json"), r"annotations\.json: no such file"),
    ("coco", _remove("images/a.jpg"), r"entry 1: file_name 'a\.jpg', and no such photo"),
    ("coco", _change("annotations.json", '"id": 1,', '"id": 0,'), r"annotations, entry 2: id 0 a second time"),
    ("coco", _change("annotations.json", '"iscrowd": 0', '"iscrowd": 7'), r"entry 1: iscrowd 7"),
    ("coco", _change("annotations.json", '"id": 7', '"id": null'), r"images, entry 1: id None"),
    ("coco", _change("annotations.json", '"bbox": [10', f'"bbox": [1{"0" * 400}'), r"entry 1: bbox \[1000"),
    ("coco", _change("annotations.json", '"a.jpg"', f'"{"a" * 5000}"'), r"images, entry 1: file_name 'aaa"),
    ("coco", _change("annotations.json", '"images": [', '"images": [], "x": ['), r"json: an empty list images"),
    ("coco", _write("annotations.json", b"[" * 200_000), r"annotations\.json: brackets"),
    ("voc", _change("Annotations/a.xml", "</annotation>", ""), r"a\.xml: no XML"),
    ("voc", _write("Annotations/a.xml", b'<?xml version="1.0" encoding="x"?><annotation/>'), r"a\.xml: no XML"),
    ("voc", _write("Annotations/a.xml", b"<html/>"), r"a\.xml: the element 'html'"),
    ("voc", _change("Annotations/a.xml", "<truncated>1", "<truncated>yes"), r"a\.xml: object 1: truncated 'yes'"),
    ("voc", _change("Annotations/a.xml", "<name>Car", "<name> "), r"a\.xml: an object with an empty name"),
    ("voc", _change("Annotations/a.xml", "<width>320", "<width>640"), r"a\.xml: size '640 x 200'"),
    ("voc", _change("Annotations/a.xml", "<annotation>", "<!DOCTYPE a><annotation>"), r"a\.xml: a document type"),
    ("voc", _change("Annotations/a.xml", "<xmin>11", "<xmin>x"), r"a\.xml: object 1: bndbox"),
    ("voc", _change("Annotations/a.xml", "<xmin>11", "<xmin>300"), r"a\.xml: object 1: a box -"),
    ("voc", _change("Annotations/a.xml", "<name>Car</name>", ""), r"a\.xml: an object without name"),
    ("voc", _change("Annotations/a.xml", "a.jpg", "../a.jpg"), r"a\.xml: filename '\.\./a\.jpg'; it must lie below"),
    ("voc", _remove("JPEGImages/a.jpg"), r"a\.xml: filename 'a\.jpg', and no such photo"),
    ("kitti", _change("training/label_2/a.txt", " 1 1 0\n", "\n"), r"a\.txt line 1: 13 words|a\.txt line 1: 12 words"),
    ("kitti", _change("training/label_2/a.txt", "Car", "Auto"), r"a\.txt line 1: class 'Auto'"),
    ("kitti", _change("training/label_2/a.txt", " 10 20 ", " ten 20 "), r"a\.txt line 1: found"),
    ("kitti", _remove("training/image_2/a.jpg"), r"a\.txt: no photo a"),
    ("kitti", _change("training/label_2/a.txt", "0.5 1 ", "0.5 inf "), r"a\.txt line 1: occluded inf"),
    ("kitti", _change("training/label_2/a.txt", "0.5 1 ", "nan 1 "), r"a\.txt line 1: truncated nan"),
    ("kitti", _change("training/label_2/a.txt", " 10 20 ", " nan 20 "), r"a\.txt line 1: box nan"),
    ("yolo", _class_names(b"\xff\xfe\x00"), r"classes\.txt: not UTF-8 text"),
    ("yolo", _class_names(b"Car\n\nPedestrian\n"), r"classes\.txt line 2: an empty line"),
    ("yolo", _class_names(b"Car\nCar\nPedestrian\n"), r"classes\.txt line 2: .Car. a second time"),
    ("yolo", _change("labels/a.txt", "\n1 ", "\n9 "), r"a\.txt line 2: class 9"),
    ("yolo", _change("data.yaml", "names", "nams"), r"data\.yaml: names: found None"),
    ("wheat", _change("train.csv", "[10.0", "[ten"), r"train\.csv line 2: bbox"),
    ("wheat", _change("train.csv", "[10.0", "[" * 100_000), r"train\.csv line 2: bbox"),
    ("wheat", _change("train.csv", "[10.0", "[1" + "0" * 200_000), r"train\.csv line 2: no row of a CSV file"),
    ("wheat", _change("train.csv", "a,320", "zz,320"), r"train\.csv line 2: image_id 'zz'"),
    ("wheat", _change("train.csv", "a,320", "a,321"), r"train\.csv line 2: 321 x 200"),
    ("wheat", _change("train.csv", "bbox,source", "source"), r"train\.csv line 1: no column bbox"),
    ("wheat", _change("train.csv", ",lab_a", ""), r"train\.csv line 2: another number of values"),
    ("wheat", _remove("train.csv"), r"train\.csv: no such file"),
]


@pytest.mark.parametrize(("name", "spoil", "message"), BAD, ids=[f"{place}-{row[0]}" for place, row in enumerate(BAD)])
def test_bad_input_is_one_line_that_names_file_and_place(
    tmp_path: Path, name: str, spoil: Callable[[Path], None], message: str
) -> None:
    (WRITERS | {"wheat": _write_wheat})[name](tmp_path)
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
