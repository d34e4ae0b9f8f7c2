"""The same boxes written in every format that sources come in; a helper of the tests of their readers."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from drawn_source import draw_photo

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


@dataclass(frozen=True)
class Scene:
    """What a writer writes: boxes by photo, the size of each photo, and the photo, drawn where there is none."""

    boxes: Mapping[str, Boxes]
    sizes: Mapping[str, tuple[int, int]]
    photos: Mapping[str, Path]


DRAWN = Scene(BOXES, dict.fromkeys(BOXES, SIZE), {})


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


def write_wheat(root: Path) -> None:
    _photos(root / "train", DRAWN)
    lines = [
        f'{name},{SIZE[0]},{SIZE[1]},"[{x1}.0, {y1}.0, {x2 - x1}.0, {y2 - y1}.0]",lab_{name}'
        for name, boxes in BOXES.items()
        for _, x1, y1, x2, y2 in boxes
    ]
    (root / "train.csv").write_text("image_id,width,height,bbox,source\n" + "\n".join(lines) + "\n")


def write_all(root: Path, scene: Scene) -> Path:
    for name, write in WRITERS.items():
        (root / name).mkdir()
        write(root / name, scene)
    return root


def change(path: str, old: str, new: str) -> Callable[[Path], None]:
    """Replace the first `old` in a file of a source by `new`; called with the source's folder."""

    def apply(root: Path) -> None:
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new, 1))

    return apply
