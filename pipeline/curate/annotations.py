"""What every reader gives and every rule works on: the images of a source and all their boxes. It decides nothing.

Flags are three-valued, as in Open Images: 1 yes, 0 no, -1 nobody looked.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import refuse

__all__ = ["FLAGS", "UNKNOWN", "Annotations"]

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
