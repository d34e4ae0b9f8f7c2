"""Writes a set of drawn pictures in the layout of Open Images. It knows nothing about how they are drawn.

Three sorts of picture: fronts with generic windows only, fronts that also hold the target window, and street pictures
of other objects, nearly without windows, for a detector to start from.
"""

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import refuse
from pipeline.files import new_folder, write_json
from pipeline.synthetic.camera import Camera, look_at
from pipeline.synthetic.catalogue import CLASSES, OBJECTS, TARGET, WINDOWS, label_name
from pipeline.synthetic.light import expose, random_light
from pipeline.synthetic.plan import Street, add_blank, add_clutter, add_distance, add_front
from pipeline.synthetic.scene import Label, find_labels, render, visible_wall

__all__ = ["COLUMNS", "draw_fronts"]

COLUMNS = (
    *("ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax"),
    *("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"),
)
_FOCAL = 0.9  # picture widths: a view of 58 degrees
_FURNITURE = ("Car", "Tree", "Lamp", "Sign", "Person", "Bin")


def draw_fronts(
    out: Path,
    images: int,
    seed: int = 0,
    width: int = 320,
    height: int = 240,
    progress: Callable[[int], None] | None = None,
    target_share: float = 0.35,
    street_share: float = 0.3,
) -> None:
    """Draw `images` pictures of `width` x `height` pixels into the folder `out`, which appears complete or not at all.

    target_share of the pictures hold the target window, street_share show a street without fronts, the rest fronts with
    other windows; the counts are these shares rounded. The same arguments give the same files, as long as NumPy and
    OpenCV stay the same. `progress` is called with the number of pictures done.

    Raises:
        UserError: numbers that make no picture, or a file where the folder should be.

    >>> draw_fronts(Path("data/drawn"), images=600)
    """
    _check(out, images, width, height, target_share, street_share)
    sorts = _sorts(images, target_share, street_share, seed)
    with new_folder(out) as folder:
        for name in ("data", "labels", "metadata"):
            (folder / name).mkdir()
        with (folder / "labels" / "detections.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(COLUMNS)
            for index, sort in enumerate(sorts):
                rng = np.random.default_rng([seed, index])
                picture, labels = _draw_picture(sort, width, height, rng)
                image_id = hashlib.sha256(f"{seed}/{index}".encode()).hexdigest()[:16]
                quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))]
                cv2.imwrite(str(folder / "data" / f"{image_id}.jpg"), picture[:, :, ::-1], quality)
                rows.writerows(_row(image_id, label, width, height) for label in labels)
                if progress:
                    progress(index + 1)
        _write_classes(folder / "metadata")


def _draw_picture(sort: str, width: int, height: int, rng: np.random.Generator) -> tuple[np.ndarray, list[Label]]:
    """One picture, (height, width, 3) uint8 RGB, and its labels; sort: "generic", "target" or "street"."""
    street = Street()
    camera = (_plan_street if sort == "street" else _plan_front)(street, sort, width, height, rng)
    scene = street.scene(rng)
    scale = 1.4 * camera.focal / -camera.position[2]
    picture = render(scene, visible_wall(scene, [camera], scale), camera)
    return expose(picture, random_light(rng), rng), find_labels(scene, camera)


def _plan_front(street: Street, sort: str, width: int, height: int, rng: np.random.Generator) -> Camera:
    """A front between two neighbours, seen from a drone before one of its windows."""
    has_gap = rng.random() < 0.12
    if not has_gap:
        add_front(street, int(rng.integers(2, 5)), 2, rng)
    targets = int(rng.integers(1, 4)) if sort == "target" else 0
    before = len(street.items)
    floors, bays = int(rng.integers(2, 5)), int(rng.integers(3, 6))
    aims = add_front(street, floors, bays, rng, targets, depiction=rng.random() < 0.1)
    aims = aims or [item for item in street.items[before:] if item.name in WINDOWS and not item.depiction]
    add_front(street, int(rng.integers(2, 5)), 2, rng)
    aim = aims[rng.integers(len(aims))].rect
    distance = rng.uniform(5.5, 11.5)
    sideways, upwards = rng.uniform(-0.2, 0.2) * distance, rng.uniform(-0.12, 0.12) * distance
    focus = ((aim[0] + aim[2]) / 2 + sideways, (aim[1] + aim[3]) / 2 + upwards)
    camera = _fly(focus, distance, width, height, rng)
    names = [_FURNITURE[index] for index in rng.integers(len(_FURNITURE), size=int(rng.integers(0, 4)))]
    add_clutter(street, camera, names, rng)
    if has_gap:
        add_distance(street, camera, -0.35, rng)
    return camera


def _plan_street(street: Street, sort: str, width: int, height: int, rng: np.random.Generator) -> Camera:
    """Things on a street before walls or a meadow, seen from low."""
    is_open = rng.random() < 0.2
    while street.end < 24 and not is_open:
        add_blank(street, rng)
    focus = (rng.uniform(9, 14), -rng.uniform(1.0, 2.6))
    camera = _fly(focus, rng.uniform(6, 10.5), width, height, rng)
    names = [_FURNITURE[index] for index in rng.integers(len(_FURNITURE), size=int(rng.integers(3, 8)))]
    add_clutter(street, camera, names, rng)
    if rng.random() < 0.3:
        add_distance(street, camera, rng.uniform(-0.3, 0.3), rng)
    return camera


def _fly(focus: tuple[float, float], distance: float, width: int, height: int, rng: np.random.Generator) -> Camera:
    """A drone at `distance` metres from the fronts that looks at `focus` (world x, y on them)."""
    yaw, elevation = rng.uniform(-0.5, 0.5), rng.uniform(-0.35, 0.3)
    over_ground = min(focus[1] + distance * np.tan(elevation), -1.3)
    position = np.array([focus[0] + distance * np.tan(yaw), over_ground, -distance])
    return look_at(position, np.array([*focus, 0.0]), rng.normal(0, 0.035), _FOCAL * width, width, height)


def _row(image_id: str, label: Label, width: int, height: int) -> list[str]:
    x0, y0, x1, y1 = label.box
    fractions = (x0 / width, x1 / width, y0 / height, y1 / height)
    flags = (label.occluded, label.truncated, label.group, label.depiction, False)
    source = [image_id, "drawn", label_name(label.name), "1"]
    return [*source, *(f"{value:.6f}" for value in fractions), *(str(int(flag)) for flag in flags)]


def _sorts(images: int, target_share: float, street_share: float, seed: int) -> list[str]:
    """The sort of every picture, well mixed."""
    targets, streets = round(images * target_share), round(images * street_share)
    sorts = (["target"] * targets + ["street"] * streets + ["generic"] * images)[:images]
    return [sorts[index] for index in np.random.default_rng([seed]).permutation(images)]


def _write_classes(folder: Path) -> None:
    lines = "".join(f"{label_name(name)},{name}\n" for name in CLASSES)
    (folder / "classes.csv").write_text(lines, encoding="utf-8")
    windows = [{"LabelName": label_name(name)} for name in (*WINDOWS, TARGET)]
    others = [{"LabelName": label_name(name)} for name in OBJECTS]
    tree = {"LabelName": "Entity", "Subcategory": [{"LabelName": "/x/window", "Subcategory": windows}, *others]}
    write_json(folder / "hierarchy.json", tree)


def _check(out: Path, images: int, width: int, height: int, target_share: float, street_share: float) -> None:
    if out.exists() and not out.is_dir():
        raise refuse(out, "a file is there", "give a folder, new or to be replaced")
    if images < 1:
        raise refuse("images", str(images), "draw at least 1")
    for name, value in (("width", width), ("height", height)):
        if value < 32:
            raise refuse(name, f"{value} pixels", "give at least 32")
    if min(target_share, street_share) < 0 or target_share + street_share > 1:
        shares = f"{target_share:g} and {street_share:g}"
        raise refuse("target_share and street_share", shares, "give shares from 0 that sum to at most 1")
