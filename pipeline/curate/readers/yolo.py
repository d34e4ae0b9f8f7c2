"""Reads photos with YOLO labels: a folder with data.yaml, or images/ and labels/ with classes.txt as labelImg writes.

All splits of data.yaml are read together, since curating splits anew. Options: `classes`, names separated by commas in
the order of their numbers, for a folder that has neither file; where there is one, the file counts.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.curate.annotations import Annotations
from pipeline.curate.readers.common import NewBox, collected, existing_folder
from pipeline.errors import refuse
from pipeline.photos import photo_size
from pipeline.yolo_folder import label_path, photos_in, read_label, read_layout

__all__ = ["read_yolo"]


def read_yolo(folder: Path, options: Mapping[str, str]) -> Annotations:
    """Read the photos below `folder`; the name of a photo without its suffix is its id.

    Raises:
        UserError: the file and line that cannot be read, and why; no photos.
    """
    existing_folder(folder, "give a folder with data.yaml, or with images/, labels/ and classes.txt")
    photos, names, about = _layout(folder, options)
    labels = [path for path in map(label_path, photos) if path.is_file()]
    files = [*about, *labels]
    place = {path: index for index, path in enumerate(files)}
    sizes, boxes = [], []
    for photo in photos:
        width, height = photo_size(photo)
        sizes.append((width, height))
        path = label_path(photo)
        if path in place:
            lines = _lines(path)
            rows = read_label(path, len(names), width, height)
            boxes += [
                NewBox(photo.stem, int(row[0]), row[1:] / [width, height, width, height], place[path], line)
                for line, row in zip(lines, rows, strict=True)
            ]
    return collected(files, names, photos, np.array(sizes, dtype=np.float64), boxes)


def _layout(folder: Path, options: Mapping[str, str]) -> tuple[list[Path], tuple[str, ...], list[Path]]:
    """Photos, class names, and the files that say which classes there are."""
    if (folder / "data.yaml").is_file():
        layout = read_layout(folder, needed=())
        photos = [photo for split in layout.photos.values() for photo in split]
        return sorted(set(photos)), layout.classes, [folder / "data.yaml"]
    photos = photos_in(folder / "images")
    if not photos:
        raise refuse(folder / "images", "no photos", "put the photos there, and their labels in labels/")
    names, about = _names(folder, options)
    return photos, tuple(names), about


def _names(folder: Path, options: Mapping[str, str]) -> tuple[Sequence[str], list[Path]]:
    for path in (folder / "classes.txt", folder / "labels" / "classes.txt"):
        if path.is_file():
            return _names_in(path), [path]
    if "classes" in options:
        return [name.strip() for name in options["classes"].split(",")], []
    raise refuse(
        folder, "neither data.yaml nor classes.txt", "add classes.txt with a name per line, or give the option classes"
    )


def _names_in(path: Path) -> list[str]:
    """A name per line; the number of a class is that of its line, so a gap or a repetition would change labels."""
    try:
        names = [name.strip() for name in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError:
        raise refuse(path, "not UTF-8 text", "save it as UTF-8") from None
    for number, name in enumerate(names, start=1):
        if not name or name in names[: number - 1]:
            found = f"{name!r} a second time" if name else "an empty line"
            raise refuse(f"{path} line {number}", found, "give each class one line of its own")
    return names


def _lines(path: Path) -> list[int]:
    """Numbers of the lines that hold a box."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return [number for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
