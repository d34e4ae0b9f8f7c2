"""Decides what stands where: fronts with their windows, and the street before them. It draws nothing.

A plan is random; the scene it gives is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.synthetic.camera import Camera
from pipeline.synthetic.catalogue import COLOURS, TARGET, WINDOWS, Colour, shade
from pipeline.synthetic.scene import Scene
from pipeline.synthetic.street import Cutout, balcony, cables, far_block, furniture
from pipeline.synthetic.walls import Building, Item, random_material
from pipeline.synthetic.windows import Look, random_look, window_size

__all__ = ["Street", "add_blank", "add_clutter", "add_distance", "add_front"]

_SKIES = (
    (Colour(96, 148, 214), Colour(196, 218, 236)),
    (Colour(168, 178, 190), Colour(214, 216, 218)),
    (Colour(70, 96, 150), Colour(238, 196, 150)),
)


@dataclass
class Street:
    """What has been planned so far, growing to the right from x = 0."""

    buildings: list[Building] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    cutouts: list[Cutout] = field(default_factory=list)

    @property
    def end(self) -> float:
        """Metres along the street where the next building may begin."""
        return self.buildings[-1].x1 if self.buildings else 0.0

    def scene(self, rng: np.random.Generator) -> Scene:
        """The finished scene under a random sky."""
        pavement = int(rng.integers(120, 180))
        return Scene(
            buildings=tuple(self.buildings),
            items=tuple(self.items),
            cutouts=tuple(self.cutouts),
            sky=_SKIES[rng.integers(len(_SKIES))],
            pavement=Colour(pavement, pavement, pavement - 6),
            meadow=shade(Colour(104, 128, 70), rng.uniform(0.8, 1.2)),
        )


def add_front(
    street: Street, floors: int, bays: int, rng: np.random.Generator, targets: int = 0, depiction: bool = False
) -> list[Item]:
    """Add a building with a grid of windows, `targets` of them the target; returns these.

    depiction: in place of one window hangs a sign with a window painted on it.
    """
    x0, bay, floor = street.end, rng.uniform(2.35, 2.9), rng.uniform(2.9, 3.4)
    x1, height = x0 + bays * bay + 0.6, floors * floor + rng.uniform(0.4, 0.9)
    bands = tuple(floor * level for level in range(1, floors)) if rng.random() < 0.35 else ()
    trim = shade(COLOURS[rng.integers(len(COLOURS))], rng.uniform(0.9, 1.1))
    street.buildings.append(Building(x0, x1, height, random_material(rng), trim, bands))

    cells = [(level, column) for level in range(floors) for column in range(bays)]
    door = (0, int(rng.integers(bays)))
    free = [cell for cell in cells if cell != door]
    special = [free[index] for index in rng.permutation(len(free))[: targets + depiction]]
    styles = _styles(floors, rng)
    has_balconies = rng.random() < 0.3
    found = []
    for level, column in cells:
        middle = x0 + 0.3 + (column + 0.5) * bay + rng.normal(0, 0.03)
        name, size, look = styles[level]
        if (level, column) == door:
            street.items.append(_door(middle, 0.0, rng))
        elif (level, column) in special[:targets]:
            found.append(_window(TARGET, middle, floor * level + 0.85, window_size(TARGET, rng), rng))
            street.items.append(found[-1])
        elif (level, column) in special:
            street.items += _painted_window(middle, floor * level + 0.7, TARGET if targets else None, rng)
        else:
            low = 0.15 if name == "Shop window" else floor * level + 0.8 + rng.normal(0, 0.03)
            look = Look(**{**random_look(name, rng).__dict__, **_shared(look)})
            street.items.append(_window(name, middle, low, size, rng, look))
            if level and has_balconies and rng.random() < 0.4:
                slab = (middle - bay * 0.42, middle + bay * 0.42, floor * level + 0.1)
                street.cutouts.append(balcony(*slab, trim, int(rng.integers(8, 16))))
    if rng.random() < 0.35:
        street.items.append(_fascia(x0 + rng.uniform(0.2, 0.6) * (x1 - x0), floor - 0.42, rng))
    return found


def add_blank(street: Street, rng: np.random.Generator) -> None:
    """Add a wall almost without windows: a garden wall or a gable, with doors, balconies and signs on it."""
    x0, width = street.end, rng.uniform(6, 12)
    is_low = rng.random() < 0.4
    height = rng.uniform(1.4, 2.6) if is_low else rng.uniform(5, 9)
    trim = COLOURS[rng.integers(len(COLOURS))]
    street.buildings.append(Building(x0, x0 + width, height, random_material(rng), trim))
    for middle in np.arange(x0 + 1.4, x0 + width - 1.3, 2.7):
        chance = rng.random()
        if is_low:
            continue
        if chance < 0.45:
            street.items.append(_door(middle, 0.0, rng))
        elif chance < 0.75:
            street.items.append(_fascia(middle, rng.uniform(1.2, 2.0), rng, rng.uniform(0.5, 1.0)))
        if height > 5.5 and rng.random() < 0.4:
            street.items.append(_door(middle, 2.9, rng))
            street.cutouts.append(balcony(middle - 1.1, middle + 1.1, 2.9, trim, int(rng.integers(8, 16))))
        elif height > 5.5 and rng.random() < 0.03:
            name = WINDOWS[rng.integers(2)]
            street.items.append(_window(name, middle, 3.4, window_size(name, rng), rng))


def add_clutter(street: Street, camera: Camera, names: Sequence[str], rng: np.random.Generator) -> None:
    """Put one of each of `names` on the ground where the camera may see it, now and then with a cable above."""
    depth = -camera.position[2]
    for name in names:
        nearest = max(1.0, depth - (4.2 if name == "Car" else 3.2))
        away = rng.uniform(min(2.6, nearest), nearest) if name == "Car" else rng.uniform(0.6, nearest)
        street.cutouts.append(furniture(name, _seen_x(camera, -away, rng.uniform(-0.45, 0.45)), -away, rng))
    if rng.random() < 0.15:
        middle = _seen_x(camera, -depth / 2, 0)
        street.cutouts.append(cables(middle - 9, middle + 9, rng.uniform(3.5, 8), -depth / 2))


def add_distance(street: Street, camera: Camera, across: float, rng: np.random.Generator) -> None:
    """Put a far building and some trees behind the fronts, at `across` picture widths from the middle."""
    z = rng.uniform(22, 36)
    street.cutouts += far_block(_seen_x(camera, z, across), z, rng)
    for _ in range(2):
        z = rng.uniform(3, 12)
        street.cutouts.append(furniture("Tree", _seen_x(camera, z, across + rng.uniform(-0.3, 0.3)), z, rng))


def _seen_x(camera: Camera, z: float, across: float) -> float:
    """World x at depth z that the camera sees `across` picture widths right of its middle."""
    forward = camera.rotation[2]
    depth = z - camera.position[2]
    return float(camera.position[0] + depth * (forward[0] / forward[2] + across * camera.width / camera.focal))


_Style = tuple[str, tuple[float, float], Look]


def _styles(floors: int, rng: np.random.Generator) -> list[_Style]:
    """For every floor the kind of window, its size and what all of its windows share; one or two kinds in all."""
    upper = [name for name in WINDOWS if name != "Shop window"]
    names = [upper[index] for index in rng.permutation(len(upper))[: int(rng.integers(1, 3))]]
    kinds = [(name, window_size(name, rng), random_look(name, rng)) for name in names]
    levels = [kinds[0]] * floors
    if rng.random() < 0.5:
        levels[-1] = kinds[-1]
    else:
        levels = [kinds[level % len(kinds)] for level in range(floors)]
    if rng.random() < 0.45:
        levels[0] = ("Shop window", window_size("Shop window", rng), random_look("Shop window", rng))
    return levels


def _shared(look: Look) -> dict[str, object]:
    """What the windows of one floor have in common; curtains and reflections are their own."""
    return {name: getattr(look, name) for name in ("frame", "columns", "rows", "shutter", "bar")}


def _window(
    name: str,
    middle: float,
    low: float,
    size: tuple[float, float],
    rng: np.random.Generator,
    look: Look | None = None,
) -> Item:
    width, height = size
    rect = (middle - width / 2, -low - height, middle + width / 2, -low)
    return Item(name, rect, look or random_look(name, rng))


def _door(middle: float, low: float, rng: np.random.Generator) -> Item:
    size = (rng.uniform(0.9, 1.35), rng.uniform(2.0, 2.4))
    return _window("Door", middle, low, size, rng, random_look("Door", rng))


def _fascia(middle: float, low: float, rng: np.random.Generator, height: float = 0.38) -> Item:
    return _window("Sign", middle, low, (rng.uniform(1.2, 2.2), height), rng, random_look("Sign", rng))


def _painted_window(middle: float, low: float, name: str | None, rng: np.random.Generator) -> list[Item]:
    """A board, and a pale window painted on it."""
    name = name or WINDOWS[rng.integers(4)]
    board = _window("Sign", middle, low, (2.1, 1.9), rng, random_look("Sign", rng))
    painted = _window(name, middle, low + 0.35, (1.5, 1.2) if name == TARGET else (1.2, 1.2), rng)
    return [board, Item(painted.name, painted.rect, painted.look, depiction=True)]
