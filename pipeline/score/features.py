"""What one layer makes of every photo or crop of a set, written as .npz a batch at a time.

The file holds, without pickled objects: features (N, C) float32, or (N, C, H, W) unpooled; image_ids, splits (N,) text;
labels (N,) int64, -1 where there is none or there are several; classes (text); boxes (N, 4) float32 xyxy in pixels of
the photo, for crops; network, layer, layer_name, weights_sha256; about, all that decided it, as JSON. Knows nothing
about what features are good for.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.curated import LabelledImage, hash_curated_set, read_curated_set
from pipeline.errors import refuse
from pipeline.files import file_sha256, new_file
from pipeline.interrupt import Interrupted, StopQuestion
from pipeline.photos import photo_size
from pipeline.score.crops import cut_crops, large_enough
from pipeline.score.subject import Subject, activations
from pipeline.train.dataset import load_images
from pipeline.yolo_folder import photos_in

__all__ = ["POOLS", "Pictures", "Pool", "read_pictures", "write_features"]

Pool = Literal["mean", "max", "none"]
POOLS = ("mean", "max", "none")

_AT_ONCE = 32  # photos in memory, and pictures in a batch


@dataclass(frozen=True)
class Pictures:
    """Photos whose features are asked for, or the objects on them.

    Attributes:
        photos: split, empty where there are none, and photo.
        smallest: side in pixels of the photo, of objects; None for whole photos.
        data_hash: of the photos, their labels and splits.
    """

    root: Path
    classes: tuple[str, ...]
    photos: tuple[tuple[str, LabelledImage], ...]
    smallest: float | None
    data_hash: str

    def __len__(self) -> int:
        return sum(self.count(photo) for _, photo in self.photos)

    def count(self, photo: LabelledImage) -> int:
        """How many rows a photo gives."""
        return 1 if self.smallest is None else int(large_enough(photo, self.smallest).sum())

    def labels(self, photo: LabelledImage) -> np.ndarray:
        """(count,) int64: the class of every row; of a whole photo that of its objects, -1 where they differ."""
        if self.smallest is not None:
            return photo.classes[large_enough(photo, self.smallest)]
        found = np.unique(photo.classes)
        return found if len(found) == 1 else np.array([-1])

    @property
    def row_labels(self) -> np.ndarray:
        """(N,) int64: the labels of all rows."""
        return np.concatenate([self.labels(photo) for _, photo in self.photos]).astype(np.int64)

    @property
    def row_splits(self) -> np.ndarray:
        """(N,) text: the splits of all rows."""
        return np.array([split for split, photo in self.photos for _ in range(self.count(photo))])

    def boxes(self, photo: LabelledImage) -> np.ndarray:
        """(count, 4) float32: of objects."""
        assert self.smallest is not None
        return photo.boxes[large_enough(photo, self.smallest)]


def read_pictures(root: Path, smallest: float | None) -> Pictures:
    """Read a curated set, a YOLO folder with data.yaml, or a plain folder of photos, which has no labels and splits.

    smallest: for the objects on them, see `Pictures`.

    Raises:
        UserError: nothing there, or objects asked for where there are no labels.
    """
    if (root / "data.yaml").is_file():
        data = read_curated_set(root)
        photos = tuple((split, photo) for split, images in data.splits.items() for photo in images)
        pictures = Pictures(root, data.classes, photos, smallest, hash_curated_set(root))
    else:
        if smallest is not None:
            raise refuse(root, "no data.yaml, so there are no boxes to cut out", "leave out --crops, or give a set")
        paths = photos_in(root) if root.is_dir() else []
        photos = tuple(("", _unlabelled(path)) for path in paths)
        hashes = json.dumps([[path.relative_to(root).as_posix(), file_sha256(path)] for path in paths])
        pictures = Pictures(root, (), photos, None, hashlib.sha256(hashes.encode()).hexdigest())
    if not len(pictures):
        what = "photos" if smallest is None else f"objects of at least {smallest:g} pixels"
        raise refuse(root, f"holds no {what}", "give another --data")
    return pictures


def write_features(
    subject: Subject,
    pictures: Pictures,
    pool: Pool,
    path: Path,
    stop: StopQuestion,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[int, ...]:
    """Write the features of every picture, complete or not at all; returns their shape.

    A file that holds just these already stays. progress: called with the photos done and in all.

    Raises:
        UserError: a file with other features is there, or the layer gives no vector or map per picture.
        Interrupted: after a stop; nothing is kept.
    """
    if path.suffix != ".npz":
        raise refuse(f"--out {path}", "no .npz", "give a name that ends in .npz")
    about = _about(subject, pictures, pool)
    if path.exists():
        return _same(path, about)
    with new_file(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        shape = _stream(archive, subject, pictures, pool, stop, progress)
        for name, array in _notes(subject, pictures, about).items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
    return shape


def _stream(
    archive: zipfile.ZipFile,
    subject: Subject,
    pictures: Pictures,
    pool: Pool,
    stop: StopQuestion,
    progress: Callable[[int, int], None] | None,
) -> tuple[int, ...]:
    """Write the array batch by batch: its number of rows is known before, the rest of its shape after the first."""
    shape: tuple[int, ...] = ()
    with archive.open("features.npy", "w", force_zip64=True) as entry:
        for photos, pixels in _batches(subject, pictures):
            for batch in pixels.split(_AT_ONCE):
                rows = _rows(subject, batch, pool)
                if not shape:
                    shape = (len(pictures), *rows.shape[1:])
                    _write_header(entry, shape)
                entry.write(np.ascontiguousarray(rows, dtype="<f4").tobytes())
                if stop.is_set:
                    raise Interrupted("no features are kept; the same command begins again")
            if progress:
                progress(photos, len(pictures.photos))
    return shape


def _batches(subject: Subject, pictures: Pictures) -> Iterator[tuple[int, Tensor]]:
    """Photos done, and (rows, 3, height, width) uint8 of some photos at a time."""
    for start in range(0, len(pictures.photos), _AT_ONCE):
        photos = [photo for _, photo in pictures.photos[start : start + _AT_ONCE]]
        if pictures.smallest is None:
            pixels = load_images(photos, subject.width, subject.height, subject.resize).images
        else:
            pixels = cut_crops(photos, subject.width, subject.height, pictures.smallest).pixels
        yield start + len(photos), pixels


def _rows(subject: Subject, pixels: Tensor, pool: Pool) -> np.ndarray:
    """(batch, C) or (batch, C, H, W) float32 of (batch, 3, height, width) uint8."""
    device = next(subject.module.parameters()).device
    images = pixels.to(device).float().div_(255).contiguous(memory_format=torch.channels_last)
    output = activations(subject, images)
    parts = _tensors(output)
    is_map = [part.dim() == 4 and len(part) == len(pixels) for part in parts]
    where = f"layer {subject.layer} ({subject.layer_name}) of {subject.name}"
    if len(parts) == 1 and parts[0].dim() == 2 and len(parts[0]) == len(pixels):
        return np.asarray(parts[0].float().cpu())
    if not parts or not all(is_map) or subject.name.startswith("swin"):  # whose maps have the channels last
        raise refuse(where, "gives no map per picture, channels first", "choose another --layer")
    if pool != "none":
        pooled = [part.float().mean((2, 3)) if pool == "mean" else part.float().amax((2, 3)) for part in parts]
        return np.asarray(torch.cat(pooled, dim=1).cpu())
    if len(parts) > 1:
        raise refuse(where, f"gives {len(parts)} maps of several sizes", "give --pool mean or max")
    return np.asarray(parts[0].float().cpu())


def _tensors(output: object) -> list[Tensor]:
    """The tensors in a layer's output, in order; nothing where there is something else."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    if not isinstance(output, list | tuple):
        return []
    return [tensor for part in output for tensor in _tensors(part)]


def _write_header(entry: IO[bytes], shape: Sequence[int]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_2_0(entry, header)


def _about(subject: Subject, pictures: Pictures, pool: Pool) -> dict[str, Any]:
    """Everything that decides the numbers."""
    return {
        "network": subject.name,
        "weights": subject.weights if not subject.weights_sha256 else Path(subject.weights).name,
        "weights_sha256": subject.weights_sha256,
        "layer": subject.layer,
        "layer_name": subject.layer_name,
        "size": [subject.width, subject.height],
        "resize": "stretch" if pictures.smallest is not None else subject.resize,
        "pool": pool,
        "smallest": pictures.smallest,
        "data_hash": pictures.data_hash,
    }


def _notes(subject: Subject, pictures: Pictures, about: dict[str, Any]) -> dict[str, np.ndarray]:
    """Every array but the features."""
    photos = [photo for _, photo in pictures.photos]
    notes = {
        "image_ids": np.array([photo.image_id for photo in photos for _ in range(pictures.count(photo))]),
        "splits": pictures.row_splits,
        "labels": pictures.row_labels,
        "classes": np.array(pictures.classes, dtype=np.str_),
        "network": np.array(subject.name),
        "layer": np.array(subject.layer),
        "layer_name": np.array(subject.layer_name),
        "weights_sha256": np.array(subject.weights_sha256),
        "about": np.array(json.dumps(about)),
    }
    if pictures.smallest is not None:
        notes["boxes"] = np.concatenate([pictures.boxes(photo) for photo in photos]).astype(np.float32)
    return notes


def _same(path: Path, about: dict[str, Any]) -> tuple[int, ...]:
    """The shape of the features in a file that holds just these."""
    remedy = "remove it, or give another --out"
    try:
        with np.load(path) as content:
            found = json.loads(str(content["about"]))
            with content.zip.open("features.npy") as entry:
                np.lib.format.read_magic(entry)
                shape, _, _ = np.lib.format.read_array_header_2_0(entry)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, AttributeError):
        raise refuse(path, "is there, and holds no features of ours", remedy) from None
    different = next((key for key, value in about.items() if found.get(key) != value), None)
    if different is not None:
        raise refuse(path, f"is there, with {different}={found.get(different)}, now {about[different]}", remedy)
    return tuple(shape)


def _unlabelled(path: Path) -> LabelledImage:
    width, height = photo_size(path)
    return LabelledImage(path, path.stem, width, height, np.empty((0, 4), np.float32), np.empty(0, np.int64))
