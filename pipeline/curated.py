"""The curated set on disk, `data/<set>/`: the one definition of its layout, read and written here.

    images/{train,val,test}/*.jpg   photos as they are seen: no EXIF rotation is left to apply
    labels/{train,val,test}/*.txt   a row per box: class cx cy w h, as fractions of the photo
    data.yaml                       Ultralytics; without `path`, so that the folder may be moved
    <set>.data <set>.names {train,val,test}.txt     Darknet, to be run from inside the folder
    ledger.parquet                  why each annotation and image is here or not
    dataset.json                    name, classes, content hash, licences, counts, recipe

Ultralytics and the original Darknet look for labels/ where a path says images/. AlexeyAB's Darknet and its successor
look beside the photo (utils.c, replace_image_to_label: only COCO's own folder names are replaced). So beside every
photo lies a relative symbolic link to its label file; the list files name ./images/..., relative to the folder itself.
Darknet puts its weights into the folder above the set (`backup = ..`), which exists and outlives the set.

A plain YOLO folder with data.yaml is read too. This file knows nothing about recipes, rules or tensors.
"""

import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.errors import refuse
from pipeline.files import new_folder, write_json, write_text
from pipeline.photos import opened_photo, orientation, photo_size, read_rgb, upright

__all__ = [
    "SPLITS",
    "CuratedSet",
    "LabelledImage",
    "NewImage",
    "file_sha256",
    "hash_curated_set",
    "read_curated_set",
    "read_dataset_json",
    "write_curated_set",
    "yolo_rows",
]

SPLITS = ("train", "val", "test")
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}
_ROUNDING = 0.5  # pixels that a box may reach over the edge: what rounding to whole pixels does


@dataclass(frozen=True)
class LabelledImage:
    """A photo and its boxes.

    width, height: of the photo as it is seen, which is how OpenCV reads it.
    boxes: (N, 4) float32, xyxy, pixels of the photo, inside it. classes: (N,) int64.
    """

    path: Path
    image_id: str
    width: int
    height: int
    boxes: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class CuratedSet:
    """A set as it lies on disk; `splits` always has train, val and test, of which only test may be empty."""

    root: Path
    name: str
    classes: tuple[str, ...]
    splits: dict[str, tuple[LabelledImage, ...]]
    content_hash: str


@dataclass(frozen=True)
class NewImage:
    """A photo to be written. boxes: (N, 4) float64, xyxy, fractions of the photo as seen. classes: (N,) int64."""

    source: Path
    image_id: str
    boxes: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class _Layout:
    """What data.yaml says: class names, and the photos of each split, sorted."""

    classes: tuple[str, ...]
    photos: dict[str, tuple[Path, ...]]


def read_curated_set(root: Path, verify: bool = False) -> CuratedSet:
    """Read and check a curated set or a plain YOLO folder with data.yaml. A photo without label file is a background.

    Of the photos only the headers are read, unless `verify` asks to decode them all.

    >>> read_curated_set(Path("data/facades-arch")).classes
    ('Arch',)
    """
    layout = _read_layout(root)
    about = read_dataset_json(root)
    splits = {
        split: tuple(_read_image(photo, len(layout.classes), verify) for photo in photos)
        for split, photos in layout.photos.items()
    }
    if about is None:
        _refuse_leaks(layout)
        return CuratedSet(root, root.resolve().name, layout.classes, splits, hash_curated_set(root))
    for split, images in splits.items():
        expected = about["splits"][split]["images"]
        if len(images) != expected:
            raise refuse(root / "images" / split, f"{len(images)} photos instead of {expected}", "curate again")
    return CuratedSet(root, about["name"], layout.classes, splits, about["content_hash"])


def read_dataset_json(root: Path) -> dict[str, Any] | None:
    """Content of dataset.json, or None where there is none."""
    path = root / "dataset.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        about["name"], about["content_hash"], [about["splits"][split]["images"] for split in SPLITS]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise refuse(path, "not what curating writes", "delete the folder and curate again") from None
    return about


def hash_curated_set(root: Path) -> str:
    """SHA-256 over the class names and, sorted, split, path and SHA-256 of every photo and label file."""
    layout = _read_layout(root)
    entries = []
    for split, photos in layout.photos.items():
        for photo in photos:
            entries.append([split, _relative(photo, root), file_sha256(photo)])
            label = _label_path(photo)
            if label.is_file():
                entries.append([split, _relative(label, root), file_sha256(label)])
    text = json.dumps([list(layout.classes), sorted(entries)], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _read_layout(root: Path) -> _Layout:
    if not root.is_dir():
        raise refuse(root, "no such folder", "give a folder with data.yaml, images/ and labels/")
    if not any(root.iterdir()):
        raise refuse(root, "empty folder", "give a folder with data.yaml, images/ and labels/")
    path = root / "data.yaml"
    if not path.is_file():
        raise refuse(root, "no data.yaml", "add one with train, val and names, as Ultralytics reads it")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise refuse(path, "no valid YAML", "correct the syntax") from None
    if not isinstance(content, dict):
        raise refuse(path, "no keys found", "it needs train, val and names")
    classes = _class_names(path, content)
    photos = {split: _photos_of(path, content, split) for split in SPLITS}
    return _Layout(classes, photos)


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


def _photos_of(path: Path, content: Mapping[str, Any], split: str) -> tuple[Path, ...]:
    """Photos that data.yaml names for a split: folders (searched in depth) or list files, one or several."""
    entries = content.get(split)
    if entries is None and split == "test":
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
            found += (photo for photo in place.rglob("*") if photo.suffix.lower() in _SUFFIXES)
        elif place.is_file():
            lines = place.read_text(encoding="utf-8").split("\n")
            found += (place.parent / line.strip() for line in lines if line.strip())
        else:
            raise refuse(f"{path}: {split}", f"there is no {place}", "correct the path")
    if not found and split != "test":
        raise refuse(f"{path}: {split}", "no photos", f"put {', '.join(sorted(_SUFFIXES))} files there")
    labels = Counter(_label_path(photo) for photo in found)
    for label, count in labels.items():
        if count > 1:
            raise refuse(label.with_suffix(""), f"{count} photos of this name", "give every photo its own name")
    return tuple(sorted(found))


def _label_path(photo: Path) -> Path:
    """Ultralytics' rule: the last folder called images becomes labels; where there is none, beside the photo."""
    parts = list(photo.with_suffix(".txt").parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts)


def _read_image(photo: Path, class_count: int, verify: bool) -> LabelledImage:
    width, height = photo_size(photo)
    if verify:
        read_rgb(photo)
    label = _label_path(photo)
    rows = _read_label(label, class_count, width, height) if label.is_file() else np.empty((0, 5))
    return LabelledImage(photo, photo.stem, width, height, rows[:, 1:].astype(np.float32), rows[:, 0].astype(np.int64))


def _read_label(path: Path, class_count: int, width: int, height: int) -> np.ndarray:
    """Rows of class, x1, y1, x2, y2 in pixels: (N, 5) float64, boxes clipped to the image."""
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


def _refuse_leaks(layout: _Layout) -> None:
    """The same photo in two splits would make every score a lie."""
    seen: dict[str, tuple[str, Path]] = {}
    for split, photos in layout.photos.items():
        for photo in photos:
            first, other = seen.setdefault(file_sha256(photo), (split, photo))
            if first != split:
                raise refuse(photo, f"the same photo as {other}, which is in {first}", "keep it in one split")


def write_curated_set(
    root: Path,
    name: str,
    classes: Sequence[str],
    splits: Mapping[str, Sequence[NewImage]],
    about: Mapping[str, Any],
    add: Callable[[Path], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> str:
    """Write a set, which appears at `root` complete or not at all, and return its content hash.

    about: what dataset.json says besides name, classes, counts and content hash. add: called with the unfinished folder
    to add files that must appear with it. progress: called with the number of photos written. The same arguments give
    the same bytes.
    """
    with new_folder(root) as part:
        done = 0
        for split in SPLITS:
            (part / "images" / split).mkdir(parents=True)
            (part / "labels" / split).mkdir(parents=True)
            for image in splits.get(split, ()):
                _write_image(part, split, image)
                done += 1
                if progress:
                    progress(done)
        _write_readers_files(part, name, classes, splits)
        content_hash = hash_curated_set(part)
        counts = {
            split: {
                "images": len(splits.get(split, ())),
                "boxes": sum(len(image.boxes) for image in splits.get(split, ())),
            }
            for split in SPLITS
        }
        head = {"name": name, "classes": list(classes), "content_hash": content_hash, "splits": counts}
        write_json(part / "dataset.json", head | dict(about))
        if add:
            add(part)
    return content_hash


def _write_image(part: Path, split: str, image: NewImage) -> None:
    photo = part / "images" / split / f"{image.image_id}{image.source.suffix.lower()}"
    _copy_upright(image.source, photo)
    label = part / "labels" / split / f"{image.image_id}.txt"
    label.write_text(yolo_rows(image.boxes, image.classes))
    photo.with_suffix(".txt").symlink_to(Path("..", "..", "labels", split, label.name))


def yolo_rows(boxes: np.ndarray, classes: np.ndarray) -> str:
    """Text of a label file for boxes, (N, 4) xyxy as fractions of the photo, and classes, (N,) integers."""
    x1, y1, x2, y2 = boxes.T
    rows = zip(classes, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, strict=True)
    return "".join(f"{c:d} {cx:.7f} {cy:.7f} {w:.7f} {h:.7f}\n" for c, cx, cy, w, h in rows)


def _copy_upright(source: Path, target: Path) -> None:
    """Copy a photo; one with EXIF rotation is written anew, since Darknet does not look at EXIF."""
    with opened_photo(source) as image:
        if orientation(image) == 1:
            shutil.copyfile(source, target)
        else:
            upright(image).convert("RGB").save(target, quality=95, subsampling=0)


def _write_readers_files(
    part: Path, name: str, classes: Sequence[str], splits: Mapping[str, Sequence[NewImage]]
) -> None:
    used = [split for split in SPLITS if splits.get(split)]
    ultralytics = {split: f"images/{split}" for split in used} | {"names": dict(enumerate(classes))}
    write_text(part / "data.yaml", yaml.safe_dump(ultralytics, sort_keys=False, allow_unicode=True))
    for split in SPLITS:
        photos = sorted(path for path in (part / "images" / split).iterdir() if path.suffix != ".txt")
        write_text(part / f"{split}.txt", "".join(f"./images/{split}/{photo.name}\n" for photo in photos))
    write_text(part / f"{name}.names", "".join(f"{label}\n" for label in classes))
    darknet = {
        "classes": len(classes),
        "train": "train.txt",
        "valid": "val.txt",
        "names": f"{name}.names",
        "backup": "..",
    }
    write_text(part / f"{name}.data", "".join(f"{key} = {value}\n" for key, value in darknet.items()))
