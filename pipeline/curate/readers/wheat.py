"""Reads the Global Wheat Head Detection's train.csv, in the columns of its Kaggle competition.

Columns image_id, width, height, bbox ("[x, y, width, height]" in pixels) and source, the institute, which becomes the
annotator. Photos without a row are photos without wheat. Options: `annotations`, the CSV file, `images`, the folder.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.curate.annotations import Annotations
from pipeline.curate.readers.common import NewBox, collected, existing_folder, inside, shown, xywh_corners
from pipeline.errors import refuse
from pipeline.photos import photo_size
from pipeline.yolo_folder import photos_in

__all__ = ["read_wheat"]

_COLUMNS = ("image_id", "width", "height", "bbox", "source")


def read_wheat(folder: Path, options: Mapping[str, str]) -> Annotations:
    """Read the CSV file and the photos; every box is of the class wheat_head.

    Raises:
        UserError: the line that cannot be read, and why; no photos.
    """
    existing_folder(folder, "give a folder with train.csv and train/")
    path = folder / options.get("annotations", "train.csv")
    images = folder / options.get("images", "train")
    photos = photos_in(images) if images.is_dir() else []
    if not photos:
        raise refuse(images, "no photos", "put them there, or name their folder with the option images")
    sizes = {photo.stem: photo_size(photo) for photo in photos}
    boxes = []
    for number, row in _rows(path):
        where = f"{path} line {number}"
        if row["image_id"] not in sizes:
            raise refuse(where, f"image_id {shown(row['image_id'])}", f"there is no such photo in {images}")
        size = sizes[row["image_id"]]
        if [row["width"], row["height"]] != [str(side) for side in size]:
            found = f"{row['width']} x {row['height']}, but the photo has {size[0]} x {size[1]} pixels"
            raise refuse(where, found, "correct the row or the photo")
        box = inside(where, _corners(where, row["bbox"]), *size)
        boxes.append(NewBox(row["image_id"], 0, box, 0, number, {}, row["source"]))
    seen = np.array([sizes[photo.stem] for photo in photos], dtype=np.float64)
    return collected([path], ["wheat_head"], photos, seen, boxes)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise refuse(path, "no such file", "name it with the option annotations") from None
    except UnicodeDecodeError:
        raise refuse(path, "not UTF-8 text", "save it as UTF-8") from None
    if "\0" in text:
        raise refuse(path, "a zero byte", "give a CSV file")
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise refuse(f"{path} line 1", f"no column {', '.join(missing)}", f"the columns are {','.join(_COLUMNS)}")
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise refuse(f"{path} line {reader.line_num}", "another number of values", f"give {','.join(_COLUMNS)}")
            rows.append((reader.line_num, row))
    except csv.Error as error:
        raise refuse(f"{path} line {reader.line_num + 1}", f"no row of a CSV file ({error})", "correct it") from None
    return rows


def _corners(where: str, text: str) -> np.ndarray:
    try:
        return xywh_corners(where, json.loads(text))
    except (ValueError, RecursionError):
        raise refuse(where, f"bbox {shown(text)}", 'give "[x, y, width, height]" in pixels') from None
