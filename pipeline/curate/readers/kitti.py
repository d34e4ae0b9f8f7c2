"""Reads KITTI's label_2: a text file per photo, fifteen words per object.

Options: `labels` and `images`, folders below the source folder, training/label_2 and training/image_2 where not given.
Truncation is a share there; above 0.15 it counts as truncated, which is where KITTI's own evaluation draws the line for
easy objects; -1 is unknown. Occlusion 0 is no, 1 and 2 are yes, 3 is unknown. A DontCare region covers objects that
nobody labelled one by one: it is a box of the class DontCare, and a group box. A photo without a label file has no
objects.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.curate.annotations import UNKNOWN, Annotations
from pipeline.curate.readers.common import NewBox, collected, existing_folder, inside, shown
from pipeline.errors import refuse
from pipeline.photos import photo_size
from pipeline.yolo_folder import photos_in

__all__ = ["read_kitti"]

_CLASSES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc", "DontCare")
_TRUNCATED = 0.15  # devkit_object, readme.txt: easy objects are truncated by 15 % at most
_OCCLUDED: dict[float, int] = {0: 0, 1: 1, 2: 1, 3: UNKNOWN, -1: UNKNOWN}


def read_kitti(folder: Path, options: Mapping[str, str]) -> Annotations:
    """Read the photos and their label files; the name of a photo without its suffix is its id.

    Raises:
        UserError: the file or line that cannot be read, and why; no photos, or no label files.
    """
    existing_folder(folder, "give a folder with training/image_2 and training/label_2")
    images = folder / options.get("images", "training/image_2")
    labels = folder / options.get("labels", "training/label_2")
    photos = photos_in(images) if images.is_dir() else []
    if not photos:
        raise refuse(images, "no photos", "put them there, or name their folder with the option images")
    names = {photo.stem for photo in photos}
    files = sorted(labels.glob("*.txt"))
    for path in files:
        if path.stem not in names:
            raise refuse(path, f"no photo {path.stem} in {images}", "add the photo or remove the file")
    if not files:
        raise refuse(labels, "no label files", "put them there, or name their folder with the option labels")
    sizes = {photo.stem: photo_size(photo) for photo in photos}
    boxes = []
    for place, path in enumerate(files):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise refuse(path, "not text", "give rows of fifteen words") from None
        boxes += [
            _box(f"{path} line {number}", line, path.stem, sizes[path.stem], place, number)
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]
    seen = np.array([sizes[photo.stem] for photo in photos], dtype=np.float64)
    return collected(files, _CLASSES, photos, seen, boxes)


def _box(where: str, line: str, image_id: str, size: tuple[int, int], file: int, row: int) -> NewBox:
    words = line.split()
    if len(words) not in (15, 16):  # with a score, as a detector writes it
        raise refuse(where, f"{len(words)} words", "a row of label_2 has fifteen")
    if words[0] not in _CLASSES:
        raise refuse(where, f"class {shown(words[0])}", f"KITTI has {', '.join(_CLASSES)}")
    try:
        numbers = np.array(words[1:], dtype=np.float64)
    except ValueError:
        raise refuse(where, f"found {shown(line.strip())}", "all but the class must be numbers") from None
    truncated, occluded = numbers[:2]
    if not (0 <= truncated <= 1 or truncated == -1):
        raise refuse(where, f"truncated {words[1]}", "give a share from 0 to 1, or -1 for unknown")
    if occluded not in _OCCLUDED:
        raise refuse(where, f"occluded {words[2]}", "give 0, 1, 2 or 3")
    box = inside(where, numbers[3:7], *size)
    if words[0] == "DontCare":
        return NewBox(image_id, _CLASSES.index("DontCare"), box, file, row, {"IsGroupOf": 1})
    is_truncated = UNKNOWN if truncated < 0 else int(truncated > _TRUNCATED)
    flags = {"IsTruncated": is_truncated, "IsOccluded": _OCCLUDED[occluded], "IsGroupOf": 0}
    return NewBox(image_id, _CLASSES.index(words[0]), box, file, row, flags)
