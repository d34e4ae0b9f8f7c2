"""Reads COCO's instances JSON. Crowd boxes are group boxes; COCO says nothing of the other flags.

Options: `annotations`, the JSON file, and `images`, the folder of the photos, both below the source folder. Boxes are
taken to belong to the photo as it is seen: one whose EXIF tag turns it against the size in the file is refused. Boxes
without area stay, for the rules to judge.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.curate.annotations import Annotations
from pipeline.curate.readers.common import (
    NewBox,
    collected,
    existing_folder,
    existing_photo,
    inside,
    shown,
    xywh_corners,
)
from pipeline.errors import refuse
from pipeline.photos import photo_size

__all__ = ["read_coco"]

_LISTS = ("images", "annotations", "categories")
_REMEDY = "give a file of COCO's instances, as in instances_train2017.json"


def read_coco(folder: Path, options: Mapping[str, str]) -> Annotations:
    """Read one JSON file and the photos it names; the name of a photo without its suffix is its id.

    Raises:
        UserError: the line or entry that cannot be read, and why.
    """
    existing_folder(folder, "give a folder with the JSON file and the photos")
    path = folder / options.get("annotations", "annotations.json")
    content = _content(path)
    classes, label_of = _categories(path, content["categories"])
    photos, sizes, place_of = _images(path, content["images"], folder / options.get("images", "images"))
    boxes = []
    seen: set[Any] = set()
    for number, entry in enumerate(content["annotations"], start=1):
        where = f"{path}: annotations, entry {number}"
        image, category = _value(where, entry, "image_id"), _value(where, entry, "category_id")
        if image not in place_of:
            found = f"image_id {shown(image)}"
            raise refuse(where, found, "there is no such image in the list: add it or remove the entry")
        if category not in label_of:
            raise refuse(where, f"category_id {shown(category)}", "there is no such category in the list")
        _refuse_repetition(where, _value(where, entry, "id"), seen, "annotation")
        place = place_of[image]
        box = inside(where, xywh_corners(where, _value(where, entry, "bbox")), *sizes[place])
        flags = _flags(where, entry)
        boxes.append(NewBox(photos[place].stem, label_of[category], box, 0, number, flags))
    return collected([path], classes, photos, np.array(sizes, dtype=np.float64), boxes)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, IsADirectoryError):
        raise refuse(path, "no such file", "name it with the option annotations") from None
    except ValueError as error:
        raise refuse(path, f"no JSON ({error})", "give a complete file") from None
    except RecursionError:
        raise refuse(path, "brackets nested without end", "give a complete file") from None
    for key in _LISTS:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise refuse(path, f"no list {key}", _REMEDY)
        if not content[key] and key != "annotations":
            raise refuse(path, f"an empty list {key}", _REMEDY)
    return content


def _refuse_repetition(where: str, key: Any, seen: set[Any], what: str) -> None:
    """Refuse an id that is among those `seen`, and add it."""
    if key in seen:
        raise refuse(where, f"id {shown(key)} a second time", f"give each {what} once")
    seen.add(key)


def _flags(where: str, entry: Mapping[str, Any]) -> dict[str, int]:
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise refuse(where, f"iscrowd {shown(crowd)}", "allowed are 0 and 1")
    return {"IsGroupOf": 1} if crowd else {}


def _categories(path: Path, entries: list[Any]) -> tuple[list[str], dict[Any, int]]:
    names: list[str] = []
    label_of: dict[Any, int] = {}
    for number, entry in enumerate(entries, start=1):
        where = f"{path}: categories, entry {number}"
        key, name = _value(where, entry, "id"), str(_value(where, entry, "name"))
        if key in label_of or name in names:
            raise refuse(where, f"{shown(name)} with id {shown(key)} a second time", "give each category once")
        label_of[key] = len(names)
        names.append(name)
    return names, label_of


def _images(
    path: Path, entries: list[Any], folder: Path
) -> tuple[list[Path], list[tuple[float, float]], dict[Any, int]]:
    photos: list[Path] = []
    sizes: list[tuple[float, float]] = []
    place_of: dict[Any, int] = {}
    for number, entry in enumerate(entries, start=1):
        where = f"{path}: images, entry {number}"
        key, name = _value(where, entry, "id"), str(_value(where, entry, "file_name"))
        if key in place_of:
            raise refuse(where, f"id {shown(key)} a second time", "give each image once")
        photo = existing_photo(where, "file_name", name, folder)
        size = (_value(where, entry, "width"), _value(where, entry, "height"))
        seen = photo_size(photo)
        if size != seen:
            found = f"{shown(size[0])} x {shown(size[1])}, but the photo is seen as {seen[0]} x {seen[1]}"
            raise refuse(where, found, "give the photo without EXIF rotation, as the annotator saw it")
        place_of[key] = len(photos)
        photos.append(photo)
        sizes.append((float(size[0]), float(size[1])))
    return photos, sizes, place_of


def _value(where: str, entry: Any, key: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise refuse(where, f"no key {key}", _REMEDY)
    value = entry[key]
    if key != "bbox" and (value is None or isinstance(value, list | dict)):
        raise refuse(where, f"{key} {shown(value)}", "give a number or a name")
    return value
