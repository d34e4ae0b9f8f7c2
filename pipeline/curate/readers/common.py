"""What the readers of small formats share: from boxes one by one to `Annotations`. It knows no format."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.curate.annotations import FLAGS, UNKNOWN, Annotations
from pipeline.errors import refuse

__all__ = [
    "NewBox",
    "collected",
    "existing_folder",
    "existing_photo",
    "inside",
    "only_options",
    "shown",
    "xywh_corners",
]

_LONGEST = 60  # characters of a value that a message repeats


@dataclass(frozen=True)
class NewBox:
    """A box as a reader finds it.

    box: (4,) xyxy as fractions of the photo as it is seen. file: index of the annotation file, row: place in it, from
    1. flags: by name; what is not named is unknown.
    """

    image_id: str
    label: int
    box: np.ndarray
    file: int
    row: int
    flags: Mapping[str, int] = field(default_factory=dict)
    annotator: str = ""


def existing_folder(folder: Path, remedy: str) -> None:
    """Refuse a folder that is not there."""
    if not folder.is_dir():
        raise refuse(folder, "no such folder", remedy)


def only_options(options: Mapping[str, str], known: Sequence[str], format_name: str) -> None:
    """Refuse an option that the format does not have."""
    for name in options:
        if name not in known:
            allowed = ", ".join(known) or "none"
            raise refuse(f"source.options: {name}", f"no option of the format {format_name}", f"it has: {allowed}")


def shown(value: object) -> str:
    """A value as a message repeats it: on one line, and not endlessly."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def existing_photo(where: str, key: str, name: str, folder: Path) -> Path:
    """The photo `name` below `folder`, as `key` of an annotation file says; refused outside of it, or if not there."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise refuse(where, f"{key} {shown(name)}", f"it must lie below {folder}")
    try:
        is_there = (folder / name).is_file()
    except OSError:  # a name that no file can have
        is_there = False
    if not is_there:
        raise refuse(where, f"{key} {shown(name)}, and no such photo in {folder}", "add the photo or correct the name")
    return folder / name


def xywh_corners(where: str, box: Any) -> np.ndarray:
    """A box as JSON gives it, [x, y, width, height] in pixels, as (4,) float64 xyxy in pixels.

    Raises:
        UserError: it is no such list.
    """
    is_four = isinstance(box, list) and len(box) == 4 and all(type(value) in (int, float) for value in box)
    try:
        x, y, width, height = map(float, box if is_four else ())
    except (ValueError, OverflowError):
        raise refuse(where, f"bbox {shown(box)}", "give [x, y, width, height] in pixels") from None
    return np.array([x, y, x + width, y + height])


def inside(where: str, box: np.ndarray, width: float, height: float, tolerance: float = 1.0) -> np.ndarray:
    """A box, (4,) xyxy in pixels, as fractions of its photo: (4,) float64.

    What reaches over the edge by less than `tolerance` pixels is clipped, what reaches further is refused, and so is a
    box that ends before it begins.
    """
    x1, y1, x2, y2 = (float(value) for value in box)
    if not np.isfinite(box).all():
        raise refuse(where, f"box {x1:g}, {y1:g}, {x2:g}, {y2:g}", "give four numbers")
    if x2 < x1 or y2 < y1:
        raise refuse(where, f"a box {x2 - x1:g} wide and {y2 - y1:g} high", "width and height must not be negative")
    if min(x1, y1) < -tolerance or x2 > width + tolerance or y2 > height + tolerance:
        found = f"box {x1:g}, {y1:g} to {x2:g}, {y2:g} reaches outside the photo of {width:g} x {height:g} pixels"
        raise refuse(where, found, "correct the box or the photo")
    return np.clip([x1 / width, y1 / height, x2 / width, y2 / height], 0, 1)


def collected(
    files: Sequence[Path],
    class_names: Sequence[str],
    photos: Sequence[Path],
    sizes: np.ndarray,
    boxes: Sequence[NewBox],
) -> Annotations:
    """Everything that a reader found, in the order of `files` and their rows.

    photos: whose names without suffix are the image ids. sizes: (M, 2) float64, as seen, in the order of `photos`; NaN
    where the annotations do not say.

    Raises:
        UserError: two photos of one name.
    """
    ids = [photo.stem for photo in photos]
    twice = [image_id for image_id, count in Counter(ids).items() if count > 1]
    if twice:
        where = ", ".join(str(photo) for photo in photos if photo.stem == twice[0])
        raise refuse(f"photo {twice[0]}", f"{len(where.split(', '))} of this name: {where}", "give each its own name")
    order = sorted(range(len(ids)), key=ids.__getitem__)
    place = {ids[index]: rank for rank, index in enumerate(order)}
    flags = np.full((len(boxes), len(FLAGS)), UNKNOWN, dtype=np.int8)
    for row, box in enumerate(boxes):
        for name, value in box.flags.items():
            flags[row, FLAGS.index(name)] = value
    return Annotations(
        image_ids=tuple(ids[index] for index in order),
        paths=tuple(photos[index] for index in order),
        sizes=sizes.reshape(-1, 2)[order],
        class_names=tuple(class_names),
        files=tuple(files),
        file=np.array([box.file for box in boxes], dtype=np.int64),
        row=np.array([box.row for box in boxes], dtype=np.int64),
        image=np.array([place[box.image_id] for box in boxes], dtype=np.int64),
        label=np.array([box.label for box in boxes], dtype=np.int64),
        boxes=np.array([box.box for box in boxes], dtype=np.float64).reshape(-1, 4),
        flags=flags,
        annotator=np.array([box.annotator for box in boxes], dtype=object),
        confidence=np.ones(len(boxes)),
        fetch={},
    )
