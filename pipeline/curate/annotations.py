"""What every reader gives and every rule works on: the images of a source and all their boxes. It decides nothing.

Flags are three-valued, as in Open Images: 1 yes, 0 no, -1 nobody looked.
"""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import refuse

__all__ = ["FLAGS", "UNKNOWN", "Annotations", "joined"]

FLAGS = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")
UNKNOWN = -1


@dataclass(frozen=True)
class Annotations:
    """All images of a source and all their boxes, one array entry per box, in the order of the files.

    image_ids: of every image, sorted. paths: of every image's photo; None where it must be fetched first.
    sizes: (M, 2) float64, width and height of every image as it is seen (EXIF rotation applied); NaN where the
    annotations do not say.
    class_names: of the source, in its own order.
    files: the files that hold annotations; what they hold decides what is kept.
    file: (N,) int64, index into files. row: (N,) int64, where in it: the line of a text file, the header being line 1,
    or the place in a list, from 1.
    image, label: (N,) int64, indices into image_ids and class_names.
    boxes: (N, 4) float64, xyxy as fractions of the image as it is seen.
    flags: (N, 5) int8, columns as in FLAGS, values 1, 0 or -1 for unknown.
    annotator: (N,) object, str: how the box came to be, as Open Images' column Source says; "" where nobody says.
    confidence: (N,) float64, 0 to 1; 1 where a person drew the box.
    fetch: for an image without photo, the path at its public address, as in train/0047631fffca1673.jpg.
    """

    image_ids: tuple[str, ...]
    paths: tuple[Path | None, ...]
    sizes: np.ndarray
    class_names: tuple[str, ...]
    files: tuple[Path, ...]
    file: np.ndarray
    row: np.ndarray
    image: np.ndarray
    label: np.ndarray
    boxes: np.ndarray
    flags: np.ndarray
    annotator: np.ndarray
    confidence: np.ndarray
    fetch: Mapping[str, str]

    def class_indices(self, names: Sequence[str], asked_by: str) -> list[int]:
        """Index of each class name; an unknown one is refused in the name of `asked_by`."""
        for name in names:
            if name not in self.class_names:
                near = difflib.get_close_matches(name, self.class_names, n=5, cutoff=0.5) or self.class_names[:10]
                raise refuse(asked_by, f"no class {name!r} in the source", f"it has for example {', '.join(near)}")
        return [self.class_names.index(name) for name in names]


def joined(parts: Sequence[Annotations]) -> Annotations:
    """Several sources as one; classes of the same name are the same. An image id in two of them is refused."""
    ids = [image_id for part in parts for image_id in part.image_ids]
    if len(set(ids)) < len(ids):
        twice = next(image_id for image_id, count in Counter(ids).items() if count > 1)
        where = [str(part.files[0]) for part in parts if twice in part.image_ids]
        raise refuse(f"image {twice}", f"in {' and in '.join(where)}", "rename one of the two photos and its label")
    names = tuple(dict.fromkeys(name for part in parts for name in part.class_names))
    order = np.argsort(np.array(ids, dtype=object), kind="stable")
    place = np.empty(len(ids), dtype=np.int64)
    place[order] = np.arange(len(ids))
    images = np.cumsum([0, *(len(part.image_ids) for part in parts)])
    files = np.cumsum([0, *(len(part.files) for part in parts)])
    paths = [path for part in parts for path in part.paths]
    return Annotations(
        image_ids=tuple(ids[index] for index in order),
        paths=tuple(paths[index] for index in order),
        sizes=np.concatenate([part.sizes for part in parts])[order],
        class_names=names,
        files=tuple(file for part in parts for file in part.files),
        file=np.concatenate([part.file + start for part, start in zip(parts, files, strict=False)]),
        row=np.concatenate([part.row for part in parts]),
        image=np.concatenate([place[part.image + start] for part, start in zip(parts, images, strict=False)]),
        label=np.concatenate([_renumbered(part, names) for part in parts]),
        boxes=np.concatenate([part.boxes for part in parts]),
        flags=np.concatenate([part.flags for part in parts]),
        annotator=np.concatenate([part.annotator for part in parts]),
        confidence=np.concatenate([part.confidence for part in parts]),
        fetch={image_id: path for part in parts for image_id, path in part.fetch.items()},
    )


def _renumbered(part: Annotations, names: Sequence[str]) -> np.ndarray:
    """The labels of a part as indices into the names of all."""
    return np.array([names.index(name) for name in part.class_names], dtype=np.int64)[part.label]
