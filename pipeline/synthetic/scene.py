"""A street as one camera sees it: the picture, and a label for every object. It knows nothing about what is planned.

Both come from the same projection, so a box is where the object is. Light and noise are another file's business.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.synthetic.camera import Camera
from pipeline.synthetic.catalogue import Colour
from pipeline.synthetic.street import Cutout
from pipeline.synthetic.walls import Building, Item, Wall, noise_tile, paint_wall

__all__ = ["Bounds", "Label", "Scene", "find_labels", "render", "visible_wall"]

_FINER = 2  # pixels are drawn this many times finer along each side and averaged
_SEEN_AT_LEAST = 0.1  # of an object; below it nobody could tell what it is, and it gets no label
_SMALLEST_SIDE = 4.0  # pixels of a box, for the same reason
_GROUND_SCALE = 8  # pixels per metre
_FAR = 45.0  # metres behind the fronts where the ground ends

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """Everything there is, nothing of it random any more. sky: the colours at its top and at the horizon."""

    buildings: tuple[Building, ...]
    items: tuple[Item, ...]
    cutouts: tuple[Cutout, ...]
    sky: tuple[Colour, Colour]
    pavement: Colour
    meadow: Colour


@dataclass(frozen=True)
class Label:
    """box: x0, y0, x1, y1 in pixels, clipped to the picture; hidden: the share of what lies in the picture."""

    name: str
    box: Bounds
    hidden: float
    truncated: bool
    group: bool = False
    depiction: bool = False

    @property
    def occluded(self) -> bool:
        """Whether something else covers a part that one would notice."""
        return self.hidden >= 0.1


def visible_wall(scene: Scene, cameras: Iterable[Camera], scale: float) -> Wall:
    """Paint the part of the fronts that any of the cameras can see, at `scale` pixels per metre."""
    seen = np.array([camera.front_bounds() for camera in cameras])
    left = min((building.x0 for building in scene.buildings), default=0.0)
    right = max((building.x1 for building in scene.buildings), default=1.0)
    top = max((building.height for building in scene.buildings), default=1.0)
    x0, y0 = max(seen[:, 0].min(), left), max(seen[:, 1].min(), -top)
    x1, y1 = min(seen[:, 2].max(), right), min(seen[:, 3].max(), 0.0)
    return paint_wall(scene.buildings, scene.items, (x0, y0, max(x1, x0), max(y1, y0)), scale)


def render(scene: Scene, wall: Wall, camera: Camera) -> np.ndarray:
    """(H, W, 3) uint8 RGB, evenly lit."""
    big = camera.scaled(_FINER)
    picture = _sky(scene, big)
    _paint_ground(picture, scene, big)
    for cutout in _by_depth(scene, behind=True):
        _paint_cutout(picture, cutout, big)
    _paint_fronts(picture, scene, wall, big)
    for cutout in _by_depth(scene, behind=False):
        _paint_cutout(picture, cutout, big)
    return cv2.resize(picture, (camera.width, camera.height), interpolation=cv2.INTER_AREA)


def find_labels(scene: Scene, camera: Camera) -> list[Label]:
    """A label for every object that can be seen, nearest first.

    The box is the hull of the object's whole outline, also where something covers it, clipped to the picture.
    """
    big = camera.scaled(_FINER)
    taken = np.zeros((big.height, big.width), np.uint8)
    labels = []
    for cutout in reversed(_by_depth(scene, behind=False)):
        labels.append(_label(cutout.name, _outlines(cutout, big), taken, group=cutout.group, covers=True))
    for item in scene.items:
        outline = _project(item.outline(), 0.0, big)
        outlines = [] if outline is None else [outline]
        labels.append(_label(item.name, outlines, taken, depiction=item.depiction))
    for quad in _front_quads(scene, big):
        cv2.fillConvexPoly(taken, _fixed(quad), (255,), shift=4)
    for cutout in reversed(_by_depth(scene, behind=True)):
        labels.append(_label(cutout.name, _outlines(cutout, big), taken, group=cutout.group))
    return [label for label in labels if label is not None]


def _label(
    name: str | None,
    outlines: list[np.ndarray],
    taken: np.ndarray,
    *,
    group: bool = False,
    depiction: bool = False,
    covers: bool = False,
) -> Label | None:
    """The label, or None where nothing can be seen or there is no name; `covers` adds the object to what is taken."""
    if not outlines:
        return None
    height, width = taken.shape
    points = np.concatenate(outlines)
    hull = np.array([*points.min(axis=0), *points.max(axis=0)])
    clipped = np.clip(hull, 0, [width, height, width, height])
    left, top = np.floor(clipped[:2]).astype(int)
    right, bottom = np.ceil(clipped[2:]).astype(int)
    if right <= left or bottom <= top:
        return None
    mask = np.zeros((bottom - top, right - left), np.uint8)
    for outline in outlines:
        cv2.fillPoly(mask, [_fixed(outline - (left, top))], (255,), shift=4)
    inside = cv2.countNonZero(mask)
    if inside == 0:
        return None
    region = taken[top:bottom, left:right]
    hidden = cv2.countNonZero(cv2.bitwise_and(mask, region)) / inside
    truncated = bool(np.abs(clipped - hull).max() > _FINER / 2)
    if truncated:  # a slanting outline leaves the picture before its hull does
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        tight = np.array([left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1])
        clipped = np.clip(clipped, tight[[0, 1, 0, 1]], tight[[2, 3, 2, 3]])
    if covers:
        np.maximum(region, mask, out=region)
    box = clipped / _FINER
    seen = (1 - hidden) * _area(clipped) / max(_area(hull), 1.0)
    if name is None or seen < _SEEN_AT_LEAST or min(box[2] - box[0], box[3] - box[1]) < _SMALLEST_SIDE:
        return None
    x0, y0, x1, y1 = (float(value) for value in box)
    return Label(name, (x0, y0, x1, y1), hidden, truncated, group, depiction)


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _by_depth(scene: Scene, behind: bool) -> list[Cutout]:
    """The cut-outs behind or before the fronts, farthest first."""
    return sorted((cutout for cutout in scene.cutouts if (cutout.z > 0) == behind), key=lambda cutout: -cutout.z)


def _project(points: np.ndarray, z: float, camera: Camera) -> np.ndarray | None:
    return camera.project(np.column_stack([points, np.full(len(points), z)]))


def _outlines(cutout: Cutout, camera: Camera) -> list[np.ndarray]:
    """Projected polygons; none at all where a part of the object is too close to the camera."""
    projected = [_project(points, cutout.z, camera) for points, _ in cutout.polygons]
    outlines = [outline for outline in projected if outline is not None]
    return outlines if len(outlines) == len(projected) else []


def _fixed(points: np.ndarray) -> np.ndarray:
    """Continuous pixels as OpenCV's fixed-point ones (4 bits), whose integers are the middles of the pixels."""
    return np.round((np.clip(points, -20000, 20000) - 0.5) * 16).astype(np.int32)


def _paint_cutout(picture: np.ndarray, cutout: Cutout, camera: Camera) -> None:
    for outline, (_, colour) in zip(_outlines(cutout, camera), cutout.polygons, strict=False):
        cv2.fillPoly(picture, [_fixed(outline)], colour, lineType=cv2.LINE_AA, shift=4)


def _sky(scene: Scene, camera: Camera) -> np.ndarray:
    """From one colour to the other, with clouds; still, as if infinitely far."""
    fade = np.linspace(0, 1, camera.height, dtype=np.float32)[:, None]
    cloud = cv2.resize(noise_tile()[:96, :96], (camera.width, camera.height), interpolation=cv2.INTER_LINEAR)
    bright = np.clip(cloud * 70, 0, 40)
    top, low = scene.sky
    planes = [top[index] * (1 - fade) + low[index] * fade + bright for index in range(3)]
    return np.clip(cv2.merge(planes), 0, 255).astype(np.uint8)


def _paint_ground(picture: np.ndarray, scene: Scene, camera: Camera) -> None:
    """Pavement before the fronts, a kerb, a road with a broken line, and a meadow behind."""
    nearest, left = camera.position[2] + 0.5, camera.position[0] - 24
    z = np.arange(nearest, _FAR, 1 / _GROUND_SCALE, dtype=np.float32)
    colours = np.full((len(z), 3), scene.pavement, np.float32)
    colours[z < -2.6] = 84
    colours[(z < -2.45) & (z > -2.6)] = 150
    colours[z > 0] = scene.meadow
    across = 48 * _GROUND_SCALE
    grain = np.tile(noise_tile()[:, :across], (1 + len(z) // 512, 1))[: len(z), :, None]
    canvas = np.clip(colours[:, None, :] * (1 + 0.25 * grain), 0, 255).astype(np.uint8)
    dash = (np.arange(across) + int(left * _GROUND_SCALE)) // (2 * _GROUND_SCALE) % 2 == 0
    canvas[np.ix_((z < -5.4) & (z > -5.6), dash)] = 196
    to_world = np.array([[1 / _GROUND_SCALE, 0, left], [0, 1 / _GROUND_SCALE, nearest], [0, 0, 1]])
    _warp(canvas, camera.ground_homography() @ to_world, picture)


def _paint_fronts(picture: np.ndarray, scene: Scene, wall: Wall, camera: Camera) -> None:
    quads = _front_quads(scene, camera)
    if not quads:
        return
    scale, (x, y) = wall.scale, wall.origin
    to_world = np.array([[1 / scale, 0, x], [0, 1 / scale, y], [0, 0, 1]])
    fronts = picture.copy()
    _warp(wall.image, camera.front_homography() @ to_world, fronts)
    mask = np.zeros(picture.shape[:2], np.uint8)
    for quad in quads:
        cv2.fillConvexPoly(mask, _fixed(quad), (255,), shift=4)
    cv2.copyTo(fronts, mask, picture)


def _front_quads(scene: Scene, camera: Camera) -> list[np.ndarray]:
    """(4, 2) pixels for every building, cut to what the camera can see, so that none of it is behind the camera."""
    x0, y0, x1, y1 = camera.front_bounds()
    quads = []
    for building in scene.buildings:
        left, right = max(building.x0, x0), min(building.x1, x1)
        top, bottom = max(-building.height, y0), min(0.0, y1)
        if left < right and top < bottom:
            corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
            quad = _project(corners, 0.0, camera)
            if quad is not None:
                quads.append(quad)
    return quads


def _warp(image: np.ndarray, homography: np.ndarray, picture: np.ndarray) -> None:
    """Draw `image` over `picture` by a homography between continuous pixels of both."""
    to_middles, from_middles = np.eye(3), np.eye(3)
    to_middles[:2, 2], from_middles[:2, 2] = -0.5, 0.5
    size = (picture.shape[1], picture.shape[0])
    matrix = to_middles @ homography @ from_middles
    cv2.warpPerspective(image, matrix, size, picture, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
