"""Reads a folder in the Open Images layout into arrays, and refuses what is malformed. It decides nothing.

Layout: `data/<ImageID>.jpg`, `labels/detections.csv` with the official columns, `metadata/classes.csv` with a label and
its display name per line.
"""

from pathlib import Path

import numpy as np

from pipeline.curate.annotations import FLAGS, Annotations
from pipeline.curate.readers.boxes_csv import read_boxes, read_classes
from pipeline.errors import refuse

__all__ = ["read_open_images"]


def read_open_images(folder: Path) -> Annotations:
    """Read the images, classes and boxes of `folder`.

    Raises:
        UserError: no such folder, no photos, or a line that cannot be read.

    >>> read_open_images(Path("facades")).boxes.shape
    (7026, 4)
    """
    if not folder.is_dir():
        raise refuse(folder, "no such folder", "give a folder with data/, labels/ and metadata/")
    if not any(folder.iterdir()):
        raise refuse(folder, "empty folder", "give a folder with data/, labels/ and metadata/")
    paths = tuple(sorted((path for path in (folder / "data").glob("*.jpg") if path.is_file()), key=lambda p: p.stem))
    if not paths:
        raise refuse(folder / "data", "no photos", "put the photos there as <ImageID>.jpg")
    image_ids = tuple(path.stem for path in paths)
    boxes_file, classes_file = folder / "labels" / "detections.csv", folder / "metadata" / "classes.csv"
    labels, class_names = read_classes(classes_file)
    columns = read_boxes(boxes_file, labels, image_ids=image_ids)
    return Annotations(
        image_ids=image_ids,
        paths=paths,
        sizes=np.full((len(paths), 2), np.nan),
        class_names=class_names,
        files=(boxes_file, classes_file),
        file=np.zeros(len(columns["row"]), dtype=np.int64),
        row=columns["row"],
        image=columns["image"],
        label=columns["label"],
        boxes=np.stack([columns[name] for name in ("XMin", "YMin", "XMax", "YMax")], axis=1),
        flags=np.stack([columns[name] for name in FLAGS], axis=1),
        annotator=columns["Source"].astype(object),
        confidence=columns["Confidence"],
        fetch={},
    )
