"""What stands or hangs in front of the fronts and behind them: flat cut-outs, each upright at one depth.

It knows nothing about cameras. Shapes are built with x in metres to the right and heights upwards from the ground.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.synthetic.catalogue import COLOURS, WINDOWS, Colour, shade

__all__ = ["Cutout", "balcony", "cables", "far_block", "furniture"]

_SKIN = (Colour(226, 184, 150), Colour(150, 102, 72), Colour(96, 62, 44))
_LEAVES = (Colour(62, 96, 44), Colour(88, 118, 52), Colour(44, 80, 52), Colour(134, 112, 48))
_BARK = Colour(84, 66, 52)
_DARK = Colour(38, 40, 44)
_METAL = Colour(92, 98, 104)
_TYRE = Colour(26, 26, 28)


@dataclass(frozen=True)
class Cutout:
    """Polygons in one upright plane, painted in their order.

    name: the class, or None for what carries no label. z: metres from the fronts, negative towards the viewer.
    polygons: of (N, 2) float world x, y in metres (y down) and a colour. group: the polygons are many objects far away.
    """

    name: str | None
    z: float
    polygons: tuple[tuple[np.ndarray, Colour], ...]
    group: bool = False


_Shapes = list[tuple[np.ndarray, Colour]]


def furniture(name: str, x: float, z: float, rng: np.random.Generator) -> Cutout:
    """A car, tree, lamp, sign on a post, person or bin standing on the ground at (x, z) metres."""
    shapes = _BUILDERS[name](rng)
    flip = -1 if rng.random() < 0.5 else 1
    return Cutout(name, z, tuple((points * (flip, -1) + (x, 0), colour) for points, colour in shapes))


def balcony(x0: float, x1: float, floor: float, colour: Colour, bars: int) -> Cutout:
    """A slab with a railing at height `floor`, from x0 to x1."""
    shapes = [(_box(x0, floor - 0.18, x1, floor), shade(colour, 0.75)), (_box(x0, floor + 0.92, x1, floor + 1), colour)]
    for x in np.linspace(x0, x1 - 0.04, bars):
        shapes.append((_box(x, floor, x + 0.04, floor + 0.95), colour))
    return Cutout("Balcony", -0.9, _upright(shapes))


def cables(x0: float, x1: float, height: float, z: float) -> Cutout:
    """Two sagging lines; they carry no label."""
    along = np.linspace(0, 1, 12)
    shapes: _Shapes = []
    for offset in (0.0, 0.35):
        line = np.column_stack([x0 + (x1 - x0) * along, height + offset - 2.4 * along * (1 - along)])
        shapes.append((np.concatenate([line, line[::-1] - (0, 0.03)]), _DARK))
    return Cutout(None, z, _upright(shapes))


def far_block(x: float, z: float, rng: np.random.Generator) -> list[Cutout]:
    """A building far behind the fronts, too far to label its windows one by one: every row of them is a group."""
    floors, bays = int(rng.integers(3, 6)), int(rng.integers(6, 10))
    grey = int(rng.integers(120, 190))
    left = x - bays * 1.5
    wall = _box(
        left,
        0,
        left + bays * 3.0,
        floors * 3.2 + 1,
    )
    blocks = [Cutout(None, z, _upright([(wall, Colour(grey, grey, min(255, grey + 12)))]))]
    name = WINDOWS[rng.integers(2)]
    glass = Colour(88, 100, 116)
    for floor in range(1, floors):
        low = floor * 3.2 + 0.8
        row = [(_box(left + 3 * bay + 0.7, low, left + 3 * bay + 2.3, low + 1.7), glass) for bay in range(bays)]
        blocks.append(Cutout(name, z, _upright(row), group=True))
    return blocks


def _upright(shapes: _Shapes) -> tuple[tuple[np.ndarray, Colour], ...]:
    return tuple((points * (1, -1), colour) for points, colour in shapes)


def _box(x0: float, low: float, x1: float, high: float) -> np.ndarray:
    return np.array([[x0, low], [x1, low], [x1, high], [x0, high]])


def _disc(x: float, height: float, width: float, tall: float) -> np.ndarray:
    angle = np.arange(14) * (2 * np.pi / 14)
    return np.column_stack([x + np.cos(angle) * width, height + np.sin(angle) * tall])


def _any(colours: tuple[Colour, ...], rng: np.random.Generator) -> Colour:
    return colours[rng.integers(len(colours))]


def _car(rng: np.random.Generator) -> _Shapes:
    paint = _any(COLOURS, rng)
    glass = Colour(72, 86, 98)
    if rng.random() < 0.3:  # seen from its front
        shapes: _Shapes = [(_box(x, 0, x + 0.22, 0.5), _TYRE) for x in (-0.8, 0.58)]
        shapes.append((_box(-0.88, 0.25, 0.88, 0.85), paint))
        shapes.append((np.array([[-0.8, 0.85], [0.8, 0.85], [0.6, 1.45], [-0.6, 1.45]]), shade(paint, 0.9)))
        shapes.append((np.array([[-0.7, 0.88], [0.7, 0.88], [0.54, 1.36], [-0.54, 1.36]]), glass))
        shapes += [(_disc(x, 0.65, 0.14, 0.09), Colour(238, 236, 210)) for x in (-0.66, 0.66)]
        shapes.append((_box(-0.4, 0.4, 0.4, 0.6), _DARK))
        return shapes
    long, tall = rng.uniform(1.9, 2.3), rng.uniform(1.35, 1.6)
    body = np.array([[-long, 0.3], [long, 0.3], [long, 0.75], [long * 0.6, 0.9], [-long * 0.9, 0.95], [-long, 0.8]])
    roof = np.array([[-long * 0.75, 0.9], [long * 0.5, 0.9], [long * 0.2, tall], [-long * 0.55, tall]])
    shapes = [(body, paint), (roof, paint)]
    rear, front = -long * 0.52, long * 0.16
    shapes.append((np.array([[-long * 0.66, 0.95], [-0.25, 0.95], [-0.25, tall - 0.1], [rear, tall - 0.1]]), glass))
    shapes.append((np.array([[-0.15, 0.95], [long * 0.4, 0.95], [front, tall - 0.1], [-0.15, tall - 0.1]]), glass))
    for x in (-long * 0.6, long * 0.6):
        shapes += [(_disc(x, 0.33, 0.33, 0.33), _TYRE), (_disc(x, 0.33, 0.17, 0.17), _METAL)]
    return shapes


def _tree(rng: np.random.Generator) -> _Shapes:
    tall, wide = rng.uniform(3.5, 8.0), rng.uniform(0.9, 1.7)
    leaf = _any(_LEAVES, rng)
    shapes: _Shapes = [(np.array([[-0.14, 0], [0.14, 0], [0.07, tall - 0.8], [-0.07, tall - 0.8]]), _BARK)]
    for _ in range(int(rng.integers(16, 32))):
        angle, reach = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
        x, height = np.cos(angle) * reach * wide, tall - wide + np.sin(angle) * reach * wide * 1.1
        shapes.append((_disc(x, height, *rng.uniform(0.2, 0.55, 2)), shade(leaf, rng.uniform(0.65, 1.3))))
    return shapes


def _lamp(rng: np.random.Generator) -> _Shapes:
    tall = rng.uniform(3.2, 5.5)
    pole: _Shapes = [(_box(-0.06, 0, 0.06, tall), _DARK), (_box(-0.14, 0, 0.14, 0.5), _DARK)]
    if rng.random() < 0.5:  # an arm over the road
        return [*pole, (_box(0, tall - 0.1, 1.0, tall), _DARK), (_box(0.6, tall - 0.25, 1.15, tall), _METAL)]
    head = np.array([[-0.14, tall], [0.14, tall], [0.24, tall + 0.5], [-0.24, tall + 0.5]])
    cap = np.array([[-0.3, tall + 0.5], [0.3, tall + 0.5], [0, tall + 0.75]])
    return [*pole, (head, Colour(250, 238, 190)), (cap, _DARK)]


def _sign(rng: np.random.Generator) -> _Shapes:
    tall, board = rng.uniform(2.0, 2.8), _any(COLOURS, rng)
    shapes: _Shapes = [(_box(-0.05, 0, 0.05, tall), _METAL)]
    if rng.random() < 0.5:
        return [*shapes, (_disc(0, tall, 0.42, 0.42), Colour(186, 38, 36)), (_disc(0, tall, 0.28, 0.28), COLOURS[2])]
    wide, high = rng.uniform(0.5, 0.9), rng.uniform(0.4, 0.7)
    shapes.append((_box(-wide, tall - high / 2, wide, tall + high / 2), board))
    ink = COLOURS[2] if sum(board) < 400 else _DARK
    for line in (-0.12, 0.08):
        shapes.append((_box(-wide * 0.7, tall + line, wide * rng.uniform(0.1, 0.7), tall + line + 0.08), ink))
    return shapes


def _person(rng: np.random.Generator) -> _Shapes:
    size, skin = rng.uniform(0.92, 1.08), _any(_SKIN, rng)
    coat, legs = _any(COLOURS, rng), shade(_any(COLOURS, rng), 0.7)
    stride = rng.uniform(0.05, 0.22)
    shapes: _Shapes = []
    for x in (-stride, stride):
        shapes.append((np.array([[x - 0.07, 0], [x + 0.09, 0], [0.14, 0.85], [-0.14, 0.85]]), legs))
    shapes.append((np.array([[-0.2, 0.75], [0.2, 0.75], [0.25, 1.4], [0.1, 1.48], [-0.1, 1.48], [-0.25, 1.4]]), coat))
    shapes.append((_box(0.17, 0.8, 0.28, 1.38), shade(coat, 0.75)))
    shapes += [(_disc(0, 1.62, 0.11, 0.14), skin), (_disc(0, 1.68, 0.12, 0.09), shade(_BARK, rng.uniform(0.4, 1.6)))]
    return [(points * size, colour) for points, colour in shapes]


def _bin(rng: np.random.Generator) -> _Shapes:
    tint = _any(COLOURS, rng)
    shapes: _Shapes = [(np.array([[-0.27, 0.06], [0.27, 0.06], [0.33, 1.0], [-0.33, 1.0]]), tint)]
    shapes.append((_box(-0.37, 0.98, 0.37, 1.1), shade(tint, 0.65)))
    shapes.append((_disc(0.2, 0.1, 0.1, 0.1), _TYRE))
    return [*shapes, (_box(-0.15, 0.55, 0.15, 0.75), shade(tint, 1.35))]


_BUILDERS = {"Car": _car, "Tree": _tree, "Lamp": _lamp, "Sign": _sign, "Person": _person, "Bin": _bin}
