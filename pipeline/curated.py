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
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.errors import refuse
from pipeline.files import file_sha256, new_folder, write_json, write_text
from pipeline.photos import opened_photo, orientation, photo_size, read_rgb, upright
from pipeline.yolo_folder import SPLITS, YoloLayout, label_path, read_label, read_layout, yolo_rows

__all__ = [
    "SPLITS",
    "CuratedSet",
    "LabelledImage",
    "NewImage",
    "hash_curated_set",
    "read_curated_set",
    "read_dataset_json",
    "write_curated_set",
]


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
    """A set as it lies on disk; `splits` always has train, val and test; of which only test may be empty,
    unless one split alone was read."""

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


def read_curated_set(root: Path, verify: bool = False, only: str | None = None) -> CuratedSet:
    """Read and check a curated set or a plain YOLO folder with data.yaml. A photo without label file is a background.

    Of the photos only the headers are read, unless `verify` asks to decode them all. only: the one split to read, as if
    the others were empty.

    Raises:
        UserError: what the folder lacks, or the file and line that is wrong.

    >>> read_curated_set(Path("data/facades-arch")).classes
    ('Arch',)
    """
    layout = read_layout(root, only=only)
    about = read_dataset_json(root)
    splits = {
        split: tuple(_read_image(photo, len(layout.classes), verify) for photo in photos)
        for split, photos in layout.photos.items()
    }
    if about is None:
        _refuse_leaks(layout)
        return CuratedSet(root, root.resolve().name, layout.classes, splits, hash_curated_set(root, only))
    for split, images in splits.items():
        expected = about["splits"][split]["images"]
        if only in (None, split) and len(images) != expected:
            raise refuse(root / "images" / split, f"{len(images)} photos instead of {expected}", "curate again")
    return CuratedSet(root, about["name"], layout.classes, splits, about["content_hash"])


def read_dataset_json(root: Path) -> dict[str, Any] | None:
    """Content of dataset.json, or None where there is none.

    Raises:
        UserError: it is not what `write_curated_set` writes.
    """
    path = root / "dataset.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        about["name"], about["content_hash"], [about["splits"][split]["images"] for split in SPLITS]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise refuse(path, "not what curating writes", "delete the folder and curate again") from None
    return about


def hash_curated_set(root: Path, only: str | None = None) -> str:
    """SHA-256 over the class names and, sorted, split, path and SHA-256 of photos and labels, of one split or all.

    Raises:
        UserError: no such set, see `read_layout`.
    """
    layout = read_layout(root, only=only)
    entries = []
    for split, photos in layout.photos.items():
        for photo in photos:
            entries.append([split, _relative(photo, root), file_sha256(photo)])
            label = label_path(photo)
            if label.is_file():
                entries.append([split, _relative(label, root), file_sha256(label)])
    text = json.dumps([list(layout.classes), sorted(entries)], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _read_image(photo: Path, class_count: int, verify: bool) -> LabelledImage:
    width, height = photo_size(photo)
    if verify:
        read_rgb(photo)
    label = label_path(photo)
    rows = read_label(label, class_count, width, height) if label.is_file() else np.empty((0, 5))
    return LabelledImage(photo, photo.stem, width, height, rows[:, 1:].astype(np.float32), rows[:, 0].astype(np.int64))


def _refuse_leaks(layout: YoloLayout) -> None:
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
