"""A plain YOLO folder: data.yaml, images/ and labels/, as Ultralytics reads it and many tools write it.

The one place that knows where the label of a photo lies and what a row of it means. It knows no curated sets.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.errors import refuse

__all__ = ["SPLITS", "YoloLayout", "label_path", "photos_in", "read_label", "read_layout", "yolo_rows"]

SPLITS = ("train", "val", "test")
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}
_ROUNDING = 0.5  # pixels that a box may reach over the edge: what rounding to whole pixels does


@dataclass(frozen=True)
class YoloLayout:
    """What data.yaml says: class names, and the photos of each split, sorted."""

    classes: tuple[str, ...]
    photos: dict[str, tuple[Path, ...]]


def read_layout(root: Path, needed: Sequence[str] = ("train", "val"), only: str | None = None) -> YoloLayout:
    """Read data.yaml of `root` and find the photos of every split; each of `needed` must have some.

    only: the one split to look for; the others are left empty, wherever data.yaml says they are.

    Raises:
        UserError: no such folder, no data.yaml, or a key of it that names no photos or no classes.
    """
    if not root.is_dir():
        raise refuse(root, "no such folder", "give a folder with data.yaml, images/ and labels/")
    if not any(root.iterdir()):
        raise refuse(root, "empty folder", "give a folder with data.yaml, images/ and labels/")
    path = root / "data.yaml"
    if not path.is_file():
        raise refuse(root, "no data.yaml", "add one with train, val and names, as Ultralytics reads it")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError):  # ValueError: no UTF-8, or a date that there is not
        raise refuse(path, "no valid YAML", "correct the syntax") from None
    if not isinstance(content, dict):
        raise refuse(path, "no keys found", "it needs train, val and names")
    classes = _class_names(path, content)
    photos: dict[str, tuple[Path, ...]] = dict.fromkeys(SPLITS, ())
    for split in SPLITS if only is None else (only,):
        photos[split] = _photos_of(path, content, split, split in needed or split == only)
    return YoloLayout(classes, photos)


def _class_names(path: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    """The names, given as a list or as a mapping from index to name."""
    names = content.get("names")
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise refuse(f"{path}: names", f"found {names!r}", "give a list of class names, or 0: name, 1: name, ...")
    repeated = [name for name, count in Counter(map(str, names)).items() if count > 1]
    if repeated:
        raise refuse(f"{path}: names", f"{repeated[0]!r} is there twice", "give every class its own name")
    if content.get("nc", len(names)) != len(names):
        raise refuse(f"{path}: nc", f"{content['nc']!r} for {len(names)} names", "correct it or leave it out")
    return tuple(map(str, names))


def _photos_of(path: Path, content: Mapping[str, Any], split: str, is_needed: bool) -> tuple[Path, ...]:
    """Photos that data.yaml names for a split: folders (searched in depth) or list files, one or several."""
    entries = content.get(split)
    if entries is None and not is_needed:
        return ()
    entries = [entries] if isinstance(entries, str) else entries
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise refuse(f"{path}: {split}", f"found {entries!r}", f"give a folder, as in {split}: images/{split}")
    base = path.parent / str(content.get("path") or "")
    found: list[Path] = []
    for entry in entries:
        place = base / entry
        if not place.exists() and entry.startswith("../"):  # as Roboflow writes it and Ultralytics reads it
            place = base / entry[3:]
        if place.is_dir():
            found += photos_in(place)
        elif place.is_file():
            try:
                lines = place.read_text(encoding="utf-8").split("\n")
            except UnicodeDecodeError:
                raise refuse(f"{path}: {split}", f"{place} is no list of photos", "give one path per line") from None
            found += (place.parent / line.strip() for line in lines if line.strip())
        else:
            raise refuse(f"{path}: {split}", f"there is no {place}", "correct the path")
    if not found and is_needed:
        raise refuse(f"{path}: {split}", "no photos", f"put {', '.join(sorted(_SUFFIXES))} files there")
    labels = Counter(label_path(photo) for photo in found)
    for label, count in labels.items():
        if count > 1:
            raise refuse(label.with_suffix(""), f"{count} photos of this name", "give every photo its own name")
    return tuple(sorted(found))


def photos_in(folder: Path) -> list[Path]:
    """Every photo in `folder` and below, sorted."""
    return sorted(photo for photo in folder.rglob("*") if photo.suffix.lower() in _SUFFIXES and photo.is_file())


def label_path(photo: Path) -> Path:
    """Ultralytics' rule: the last folder called images becomes labels; where there is none, beside the photo."""
    parts = list(photo.with_suffix(".txt").parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts)


def read_label(path: Path, class_count: int, width: int, height: int) -> np.ndarray:
    """Rows of class, x1, y1, x2, y2 in pixels of a photo `width` by `height`: (N, 5) float64, boxes clipped to it.

    Raises UserError naming the line: not five numbers, no such class, no area, outside the photo by more than rounding.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise refuse(path, "not text", "give rows of class cx cy w h") from None
    rows = [
        _parse_row(line, f"{path} line {number}", class_count, width, height)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    boxes = np.array(rows, dtype=np.float64).reshape(-1, 5)
    boxes[:, 1:] = boxes[:, 1:].clip(0, [width, height, width, height])
    return boxes


def _parse_row(line: str, where: str, class_count: int, width: int, height: int) -> tuple[float, ...]:
    words = line.split()
    try:
        label, cx, cy, w, h = map(float, words)
    except ValueError:
        raise refuse(where, f"found {line.strip()!r}", "a row is five numbers: class cx cy w h") from None
    if not all(map(math.isfinite, (label, cx, cy, w, h))):
        raise refuse(where, f"found {line.strip()!r}", "a row is five numbers: class cx cy w h")
    if label != int(label) or not 0 <= label < class_count:
        raise refuse(where, f"class {words[0]}", f"classes go from 0 to {class_count - 1}")
    if w <= 0 or h <= 0:
        raise refuse(where, f"a box {w:g} wide and {h:g} high", "width and height must be above 0")
    x1, y1, x2, y2 = (cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height
    if min(x1, y1) < -_ROUNDING or x2 > width + _ROUNDING or y2 > height + _ROUNDING:
        found = f"box {line.strip()!r} reaches outside the image"
        raise refuse(where, found, "cx cy w h are fractions of the image, and cx ± w/2, cy ± h/2 lie within 0 to 1")
    return label, x1, y1, x2, y2


def yolo_rows(boxes: np.ndarray, classes: np.ndarray) -> str:
    """Text of a label file for boxes, (N, 4) xyxy as fractions of the photo, and classes, (N,) integers."""
    x1, y1, x2, y2 = boxes.T
    rows = zip(classes, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, strict=True)
    return "".join(f"{c:d} {cx:.7f} {cy:.7f} {w:.7f} {h:.7f}\n" for c, cx, cy, w, h in rows)
