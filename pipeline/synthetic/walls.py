"""Paints walls flat: the material, and the windows, doors and signs on it. It knows nothing about cameras.

A `Wall` is a picture of a rectangle of the plane of the fronts at a number of pixels per metre.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.synthetic.catalogue import COLOURS, OBJECTS, Colour, shade
from pipeline.synthetic.windows import Look, paint_window, unit_outline

__all__ = ["Building", "Item", "Material", "Wall", "noise_tile", "paint_wall", "random_material"]

_PAPER = np.array([226, 220, 204], np.float32)


@dataclass(frozen=True)
class Material:
    """unit: width and height in metres of a brick, slab or board; joint: metres between two; the rest: grey levels."""

    colour: Colour
    unit: tuple[float, float]
    joint: float
    joint_level: float
    tint: float
    grain: float
    bond: float  # shift of every other row as a share of the unit's width


@dataclass(frozen=True)
class Building:
    """x0, x1: metres along the street; height: metres; bands: heights of the courses that run across the front."""

    x0: float
    x1: float
    height: float
    material: Material
    trim: Colour
    bands: tuple[float, ...] = ()


@dataclass(frozen=True)
class Item:
    """Something on the wall; rect: x0, y0, x1, y1 in world metres, y down. depiction: only painted on a sign."""

    name: str
    rect: tuple[float, float, float, float]
    look: Look
    depiction: bool = False

    def outline(self) -> np.ndarray:
        """(N, 2) world metres."""
        x0, y0, x1, y1 = self.rect
        return unit_outline(self.name) * (x1 - x0, y1 - y0) + (x0, y0)


@dataclass(frozen=True)
class Wall:
    """image: (H, W, 3) uint8 RGB, black where no building is; origin: world x, y of its corner."""

    image: np.ndarray
    origin: tuple[float, float]
    scale: float  # pixels per metre


def random_material(rng: np.random.Generator) -> Material:
    """Brick, plaster, stone, concrete slabs or boards in a colour of their own."""
    kind = rng.choice(["brick", "plaster", "stone", "concrete", "boards"], p=[0.3, 0.28, 0.16, 0.16, 0.1])
    light = rng.uniform(0.75, 1.2)
    if kind == "brick":
        base = (Colour(158, 84, 62), Colour(176, 132, 92), Colour(112, 78, 70), Colour(196, 176, 144))[rng.integers(4)]
        return Material(shade(base, light), (0.26, 0.09), 0.015, rng.choice([-30.0, 34.0]), 22, 10, 0.5)
    if kind == "stone":
        base = (Colour(178, 168, 148), Colour(138, 134, 130))[rng.integers(2)]
        return Material(shade(base, light), (rng.uniform(0.5, 0.9), rng.uniform(0.25, 0.4)), 0.02, -34, 16, 16, 0.5)
    if kind == "concrete":
        return Material(shade(Colour(164, 164, 160), light), (rng.uniform(1.2, 3), 1.5), 0.03, -28, 7, 14, 0)
    if kind == "boards":
        return Material(shade(COLOURS[rng.integers(len(COLOURS))], light), (40.0, 0.2), 0.025, -40, 9, 7, 0)
    hues = (
        Colour(222, 208, 176),
        Colour(212, 164, 128),
        Colour(184, 196, 178),
        Colour(224, 222, 216),
        Colour(214, 172, 98),
    )
    return Material(shade(hues[rng.integers(len(hues))], light), (40.0, 40.0), 0, 0, 0, 14, 0)


@functools.cache
def noise_tile() -> np.ndarray:
    """(512, 512) float32, mean 0, about -1 to 1, repeating seamlessly: grain with blotches of several sizes."""
    rng = np.random.default_rng(512)
    tile = np.zeros((512, 512), np.float32)
    for cells, weight in ((8, 0.3), (32, 0.25), (128, 0.2), (512, 0.25)):
        coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        wrapped = np.pad(coarse, 2, mode="wrap")
        fine = cv2.resize(wrapped, None, fx=512 / cells, fy=512 / cells, interpolation=cv2.INTER_LINEAR)
        edge = 2 * 512 // cells
        tile += weight * fine[edge : edge + 512, edge : edge + 512]
    tile.flags.writeable = False  # shared by every caller
    return tile


def paint_wall(
    buildings: tuple[Building, ...], items: tuple[Item, ...], bounds: tuple[float, float, float, float], scale: float
) -> Wall:
    """Paint what lies inside `bounds` (x0, y0, x1, y1 world metres) at `scale` pixels per metre."""
    x0, y0, x1, y1 = bounds
    shape = (max(2, round((y1 - y0) * scale)), max(2, round((x1 - x0) * scale)))
    wall = Wall(np.zeros((*shape, 3), np.uint8), (x0, y0), scale)
    for building in buildings:
        _paint_building(wall, building)
    for item in items:
        _paint_item(wall, item)
    return wall


def _paint_building(wall: Wall, building: Building) -> None:
    left, top, right, bottom = _pixels(wall, (building.x0, -building.height, building.x1, 0))
    rows, columns = slice(max(0, top), max(0, bottom)), slice(max(0, left), max(0, right))
    view = wall.image[rows, columns]
    if view.size == 0:
        return
    y = wall.origin[1] + (np.arange(view.shape[0]) + rows.start) / wall.scale
    x = wall.origin[0] + (np.arange(view.shape[1]) + columns.start) / wall.scale
    view[:] = _paint_material(building.material, x.astype(np.float32), y.astype(np.float32), wall.scale)
    for height in (*building.bands, building.height):
        _, upper, _, lower = _pixels(wall, (0, -height, 0, -height + 0.22))
        wall.image[max(0, upper) : max(0, lower), columns] = building.trim
        wall.image[max(0, lower) : max(0, lower + 2), columns] = shade(building.trim, 0.5)


def _paint_material(material: Material, x: np.ndarray, y: np.ndarray, scale: float) -> np.ndarray:
    """(H, W, 3) uint8 for world x (W,) and y (H,) in metres."""
    tile = noise_tile()
    across = ((x - x[0]) * scale + 0.5).astype(int) % 512
    down = ((y - y[0]) * scale + 0.5).astype(int) % 512
    level = 128 + material.grain * tile[down[:, None], across[None, :]]
    row, row_part = np.divmod(-y / material.unit[1], 1)
    shift = material.bond * (row % 2)
    column, column_part = np.divmod(x[None, :] / material.unit[0] + shift[:, None], 1)
    if material.tint:
        level += material.tint * tile[row.astype(int)[:, None] * 7 % 512, column.astype(int) * 13 % 512]
    if material.joint:
        joint = column_part < material.joint / material.unit[0]
        joint |= (row_part < material.joint / material.unit[1])[:, None]
        level[joint] += material.joint_level
    ramp = np.arange(256, dtype=np.float32)[:, None] / 128 * np.array(material.colour, np.float32)
    colours = np.clip(ramp, 0, 255).astype(np.uint8)[:, None, :]
    return cv2.applyColorMap(np.clip(level, 0, 255).astype(np.uint8), colours)


def _paint_item(wall: Wall, item: Item) -> None:
    left, top, right, bottom = _pixels(wall, item.rect)
    height, width = wall.image.shape[:2]
    if right <= 0 or bottom <= 0 or left >= width or top >= height or right - left < 4 or bottom - top < 4:
        return
    patch = _patch(item, right - left, bottom - top)
    if item.depiction:
        patch = (0.45 * patch + 0.55 * _PAPER).astype(np.uint8)
    inside = np.zeros(patch.shape[:2], np.uint8)
    corners = unit_outline(item.name) * (right - left, bottom - top) - 0.5
    cv2.fillPoly(inside, [np.round(corners * 16).astype(np.int32)], (255,), shift=4)
    rows, columns = slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, right))
    part = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    wall.image[rows, columns][inside[part] > 0] = patch[part][inside[part] > 0]


def _pixels(wall: Wall, rect: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    x, y = wall.origin
    left, top, right, bottom = rect
    scale = wall.scale
    return round((left - x) * scale), round((top - y) * scale), round((right - x) * scale), round((bottom - y) * scale)


def _patch(item: Item, width: int, height: int) -> np.ndarray:
    if item.name not in OBJECTS:
        return paint_window(item.name, width, height, item.look)
    patch = np.empty((height, width, 3), np.uint8)
    (_paint_door if item.name == "Door" else _paint_sign)(patch, item.look)
    return patch


def _paint_door(patch: np.ndarray, look: Look) -> None:
    """A leaf with sunk panels, a knob and sometimes a light above, in a surround."""
    height, width = patch.shape[:2]
    edge = max(1, width // 10)
    patch[:] = (210, 206, 196) if look.shutter is None else shade(look.frame, 0.5)
    leaf = patch[edge:, edge:-edge]
    leaf[:] = look.frame
    if look.curtain:
        leaf[: height // 5] = look.glass
    for row in range(look.rows):
        for column in range(2):
            top = height // 4 + row * (height * 7 // 10) // look.rows
            low = top + int(0.52 * height / look.rows)
            left = int(leaf.shape[1] * (0.1 + 0.45 * column))
            right = left + int(0.35 * leaf.shape[1])
            cv2.rectangle(leaf, (left, top), (right, low), shade(look.frame, 0.72), cv2.FILLED)
    cv2.circle(leaf, (int(0.9 * leaf.shape[1]), int(0.55 * height)), max(1, width // 20), (226, 200, 90), cv2.FILLED)


def _paint_sign(patch: np.ndarray, look: Look) -> None:
    """A board with a border and lines of writing that nobody can read."""
    height, width = patch.shape[:2]
    patch[:] = look.frame
    ink = COLOURS[2] if sum(look.frame) < 400 else COLOURS[4]
    cv2.rectangle(patch, (2, 2), (width - 3, height - 3), ink, max(1, height // 24))
    for row in range(look.rows):
        top = int(height * (0.22 + 0.6 * row / look.rows))
        low = top + max(1, int(0.34 * height / look.rows))
        for column in range(2 + look.columns):
            left = int(width * (0.1 + 0.8 * column / (2 + look.columns)))
            right = left + int(width * 0.8 / (2 + look.columns) * (0.45 + 0.1 * ((row * 3 + column * 5) % 5)))
            cv2.rectangle(patch, (left, top), (right, low), ink, cv2.FILLED)
