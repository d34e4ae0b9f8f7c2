"""Reads the official Open Images V7 box files: only the images that hold a wanted class, and only their wanted boxes.

The files have 14.6 million rows for training, so each is read once, streaming, and boxes of other classes are never
looked at: they say nothing about the wanted ones. The photos lie in the public bucket and are fetched later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.curate.annotations import FLAGS, Annotations, joined
from pipeline.curate.readers.boxes_csv import read_boxes, read_classes
from pipeline.errors import refuse

__all__ = ["OfficialFiles", "read_official"]


@dataclass(frozen=True)
class OfficialFiles:
    """The files of one subset.

    subset: train, validation or test, the folder of the photos in the bucket. boxes: in the official columns, more may
    follow. classes: a label and its display name per line. images: with a column ImageID, every image there is; None
    for no check. sizes: image_id, image_w, image_h; None where nobody measured.
    """

    subset: str
    boxes: Path
    classes: Path
    images: Path | None = None
    sizes: Path | None = None


def read_official(files: Sequence[OfficialFiles], classes: Sequence[str]) -> Annotations:
    """Read the images of all subsets that hold a box of one of `classes`, display names such as Window.

    Raises:
        UserError: no subset, a box on a photo that the list of images lacks, or a line that cannot be read.
    """
    if not files:
        raise refuse("source.subsets", "none", "give train, validation or test")
    return joined([_read_subset(one, classes) for one in files])


def _read_subset(files: OfficialFiles, classes: Sequence[str]) -> Annotations:
    labels, names = read_classes(files.classes)
    only = [label for label, name in zip(labels, names, strict=True) if name in classes]
    columns = read_boxes(files.boxes, labels, only=only or [""])  # an unknown class is refused where it is asked for
    image_ids, image = np.unique(columns["ImageID"].astype(str), return_inverse=True)
    if files.images is not None:
        _refuse_unknown(files, image_ids, columns["row"], image)
    ids = tuple(image_ids.tolist())
    return Annotations(
        image_ids=ids,
        paths=(None,) * len(ids),
        sizes=_sizes(files.sizes, image_ids),
        class_names=names,
        files=(files.boxes, files.classes),
        file=np.zeros(len(columns["row"]), dtype=np.int64),
        row=columns["row"],
        image=image.astype(np.int64),
        label=columns["label"],
        boxes=np.stack([columns[name] for name in ("XMin", "YMin", "XMax", "YMax")], axis=1),
        flags=np.stack([columns[name] for name in FLAGS], axis=1),
        annotator=columns["Source"].astype(object),
        confidence=columns["Confidence"],
        fetch={image_id: f"{files.subset}/{image_id}.jpg" for image_id in ids},
    )


def _refuse_unknown(files: OfficialFiles, image_ids: np.ndarray, row: np.ndarray, image: np.ndarray) -> None:
    """Refuse a box on an image that the list of images does not have."""
    assert files.images is not None
    known = _column_of(files.images, "ImageID")
    missing = ~np.isin(image_ids, known)
    if missing.any():
        place = int(np.flatnonzero(missing[image])[0])
        raise refuse(
            f"{files.boxes} line {row[place]}",
            f"ImageID is {image_ids[image[place]]}, which {files.images.name} does not have",
            "take both files from the same release",
        )


def _column_of(path: Path, name: str) -> np.ndarray:
    """One column of a CSV file with a header, as text."""
    import glob

    import duckdb

    if not path.is_file():
        raise refuse(path, "no such file", "put it there, or leave it out")
    with duckdb.connect() as connection:
        try:
            found = connection.execute(
                f"SELECT \"{name}\" FROM read_csv(?, header=true, delim=',', all_varchar=true)",
                [glob.escape(str(path))],
            ).fetchnumpy()
        except duckdb.Error:
            raise refuse(path, f"no column {name}, or no CSV file", "take the file as Open Images gives it") from None
    return np.ma.getdata(found[name]).astype(str)


def _sizes(path: Path | None, image_ids: np.ndarray) -> np.ndarray:
    """(M, 2) float64, width and height of every image, NaN where the file has none."""
    sizes = np.full((len(image_ids), 2), np.nan)
    if path is None:
        return sizes
    ids = _column_of(path, "image_id")
    try:
        known = np.stack([_column_of(path, name).astype(np.float64) for name in ("image_w", "image_h")], axis=1)
    except ValueError:
        raise refuse(path, "a size that is no number", "give image_id, image_w and image_h in pixels") from None
    order = np.argsort(ids)
    place = np.searchsorted(ids[order], image_ids)
    place = order[np.minimum(place, len(ids) - 1)]
    is_known = ids[place] == image_ids
    sizes[is_known] = known[place[is_known]]
    return sizes
