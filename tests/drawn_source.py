"""Draws small sources in the Open Images layout, and plain YOLO folders, for the tests of this folder."""

from pathlib import Path

import numpy as np
from PIL import Image

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
CLASSES = ("Window", "Door", "Arch")
SEED = 20


def draw_photo(path: Path, seed: int, size: tuple[int, int] = (96, 64), exif_orientation: int | None = None) -> None:
    """Coloured blobs that no other seed resembles."""
    blobs = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(blobs).resize(size, Image.Resampling.BICUBIC)
    exif = Image.Exif()
    if exif_orientation:
        exif[274] = exif_orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95, exif=exif)


def row(
    image_id: str,
    label: str = "Window",
    box: tuple[float, float, float, float] = (0.1, 0.2, 0.5, 0.8),
    **flags: int,
) -> str:
    """A line of detections.csv; box is xyxy."""
    x1, y1, x2, y2 = box
    values = [
        flags.get(name, -1 if name == "IsOccluded" else 0)
        for name in ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")
    ]
    return f"{image_id},xclick,/x/{label.lower()},1,{x1},{x2},{y1},{y2}," + ",".join(map(str, values))


def draw_source(folder: Path, rows: list[str], photos: list[str] | None = None) -> Path:
    """A source with `rows`, and the photos they name unless `photos` says which."""
    for image_id in sorted({line.split(",")[0] for line in rows}) if photos is None else photos:
        draw_photo(folder / "data" / f"{image_id}.jpg", seed=sum(image_id.encode()) * SEED)
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    (folder / "labels" / "detections.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    (folder / "metadata").mkdir(exist_ok=True)
    (folder / "metadata" / "classes.csv").write_text("".join(f"/x/{name.lower()},{name}\n" for name in CLASSES))
    return folder


def ids(count: int) -> list[str]:
    """Image ids whose photos resemble one another in nothing."""
    return [f"{index:04d}{chr(97 + index % 26) * (index + 1)}" for index in range(count)]


def draw_yolo_folder(folder: Path) -> Path:
    """Somebody's own YOLO folder: two photos in train, one background photo in val."""
    for index, photo in enumerate(("train/a", "train/b", "val/c")):
        draw_photo(folder / "images" / f"{photo}.jpg", seed=index)
    labels = folder / "labels" / "train"
    labels.mkdir(parents=True)
    (labels / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n1 0.25 0.25 0.5 0.5\n")
    (labels / "b.txt").write_text("1 0.5 0.5 1 1\n")
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [Window, Door]\n")
    return folder
