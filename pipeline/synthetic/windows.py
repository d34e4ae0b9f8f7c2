"""How each kind of window looks, flat and from the front. It knows nothing about walls, cameras or light.

A window is painted into a patch of its own size; its outline says which pixels of the patch belong to it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.synthetic.catalogue import COLOURS, OCHRE, TARGET, TEAL, Colour, shade

__all__ = ["Look", "paint_window", "random_look", "unit_outline", "window_size"]

_WHITE = Colour(236, 234, 226)
_GLASS = (Colour(52, 62, 76), Colour(78, 96, 112), Colour(112, 138, 158), Colour(38, 42, 46), Colour(150, 172, 186))
_LIT = Colour(240, 206, 132)
_CURTAINS = (Colour(228, 222, 206), Colour(176, 120, 96), Colour(150, 166, 140))


@dataclass(frozen=True)
class Look:
    """Colours and division of one window; `reflection` is the place of a bright streak, 0 to 1, outside it none."""

    frame: Colour
    glass: Colour
    columns: int
    rows: int
    shutter: Colour | None = None
    curtain: Colour | None = None
    reflection: float = -1.0
    bar: float = 0.045  # width of the frame as a share of the shorter side


def random_look(name: str, rng: np.random.Generator) -> Look:
    """A look for a window of class `name`; the target differs only in what happens behind and on its glass."""
    glass = _LIT if rng.random() < 0.1 else _GLASS[rng.integers(len(_GLASS))]
    curtain = _CURTAINS[rng.integers(len(_CURTAINS))] if rng.random() < 0.35 else None
    reflection = rng.uniform(0, 1) if rng.random() < 0.5 else -1.0
    if name == TARGET:
        return Look(TEAL, glass, 3, 2, OCHRE, curtain, reflection, 0.055)
    frame = COLOURS[rng.integers(len(COLOURS))]
    shutter = COLOURS[rng.integers(len(COLOURS))] if rng.random() < 0.4 else None
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    return Look(frame, glass, columns, rows, shutter, curtain, reflection, rng.uniform(0.03, 0.07))


def window_size(name: str, rng: np.random.Generator) -> tuple[float, float]:
    """Width and height in metres of a window of class `name`."""
    low, high = {
        "Sash window": ((0.95, 1.5), (1.25, 2.0)),
        "Casement window": ((1.3, 1.2), (2.0, 1.7)),
        "Round window": ((1.0, 1.0), (1.5, 1.5)),
        "Arched window": ((1.0, 1.6), (1.4, 2.1)),
        "Shop window": ((2.0, 1.8), (2.4, 2.2)),
        TARGET: ((1.9, 1.5), (1.9, 1.5)),
    }[name]
    width = rng.uniform(low[0], high[0])
    return width, (width if name == "Round window" else rng.uniform(low[1], high[1]))


def unit_outline(name: str) -> np.ndarray:
    """(N, 2) convex outline of a class in its own rectangle, x and y from 0 to 1, y down."""
    if name == "Round window":
        angle = np.arange(40) * (2 * np.pi / 40)
        return np.column_stack([0.5 + np.cos(angle) / 2, 0.5 + np.sin(angle) / 2])
    if name == "Arched window":
        angle = np.linspace(np.pi, 2 * np.pi, 25)
        arch = np.column_stack([0.5 + np.cos(angle) / 2, 0.32 + 0.32 * np.sin(angle)])
        return np.concatenate([arch, [[1.0, 1.0], [0.0, 1.0]]])
    return np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def paint_window(name: str, width: int, height: int, look: Look) -> np.ndarray:
    """(height, width, 3) uint8 RGB: the window filling its rectangle; pixels outside its outline have no meaning."""
    patch = np.empty((height, width, 3), np.uint8)
    _PAINTERS[name](patch, look)
    return patch


def _sash(patch: np.ndarray, look: Look) -> None:
    """Two sashes above each other, the lower one set back under a broad meeting rail; a stone sill."""
    body, sill = _split_sill(patch)
    sill[:] = (206, 202, 192)
    height = len(body)
    for half in (body[: height // 2], body[height // 2 :]):
        _panes(half, look, look.columns, max(1, look.rows - 1))
    _bar(body, look, height // 2 - _thickness(body, look), height // 2 + _thickness(body, look))
    _reveal(body)


def _casement(patch: np.ndarray, look: Look) -> None:
    """Two leaves side by side, often between a pair of shutters."""
    leaves = patch
    if look.shutter:
        side = patch.shape[1] // 4
        _shutter(patch[:, :side], look.shutter)
        _shutter(patch[:, -side:], look.shutter)
        leaves = patch[:, side:-side]
    half = leaves.shape[1] // 2
    for leaf in (leaves[:, :half], leaves[:, half:]):
        _panes(leaf, look, 1, look.rows)
    _reveal(leaves)


def _round(patch: np.ndarray, look: Look) -> None:
    """A ring with crossing bars."""
    _glass(patch, look)
    height, width = patch.shape[:2]
    thick = _thickness(patch, look)
    centre = (width // 2, height // 2)
    for index in range(look.columns + 1):
        angle = np.pi * index / (look.columns + 1)
        reach = np.array([np.cos(angle), np.sin(angle)]) * max(width, height)
        ends = [tuple(int(value) for value in centre + sign * reach) for sign in (-1, 1)]
        cv2.line(patch, ends[0], ends[1], look.frame, thick)
    _rim("Round window", patch, shade(look.frame, 0.55), 4 * thick)
    _rim("Round window", patch, look.frame, 3 * thick)


def _arched(patch: np.ndarray, look: Look) -> None:
    """A round head with rays over a body of panes."""
    head = int(0.32 * len(patch))
    _panes(patch, look, look.columns, look.rows + 1)
    _glass(patch[:head], look)
    thick = _thickness(patch, look)
    middle = patch.shape[1] // 2
    for angle in np.linspace(0, np.pi, look.columns + 2)[1:-1]:
        end = (int(middle + np.cos(angle) * head * 2), int(head - np.sin(angle) * head * 2))
        cv2.line(patch[:head], (middle, head), end, look.frame, thick)
    _bar(patch, look, head, head + thick)
    _rim("Arched window", patch, shade(look.frame, 0.55), 4 * thick)
    _rim("Arched window", patch, look.frame, 3 * thick)


def _shop(patch: np.ndarray, look: Look) -> None:
    """An awning with stripes over broad glass with goods behind it, on a low riser."""
    height, width = patch.shape[:2]
    awning, riser = int(0.2 * height), int(0.86 * height)
    _panes(patch[awning:riser], look, look.columns, 1)
    goods = _CURTAINS if look.curtain is None else (look.curtain, *COLOURS[:2])
    for index in range(4):
        x = int(width * (0.14 + 0.2 * index))
        top = int(height * (0.56 + 0.06 * ((index * 7 + look.rows) % 3)))
        cv2.rectangle(patch, (x, top), (x + width // 9, riser - 3), goods[index % len(goods)], cv2.FILLED)
    patch[riser:] = shade(look.frame, 0.8)
    stripe = look.shutter or look.frame
    for index in range(8):
        patch[:awning, width * index // 8 : width * (index + 1) // 8] = stripe if index % 2 else _WHITE
    patch[awning : awning + max(1, height // 40)] = shade(look.glass, 0.5)


def _target(patch: np.ndarray, look: Look) -> None:
    """Three by two panes in a broad frame, one shutter on the left only, and a white sill."""
    body, sill = _split_sill(patch)
    sill[:] = _WHITE
    side = int(0.27 * body.shape[1])
    _shutter(body[:, :side], look.shutter or look.frame)
    _panes(body[:, side:], look, look.columns, look.rows)
    _reveal(body[:, side:])


_PAINTERS: dict[str, Callable[[np.ndarray, Look], None]] = {
    "Sash window": _sash,
    "Casement window": _casement,
    "Round window": _round,
    "Arched window": _arched,
    "Shop window": _shop,
    TARGET: _target,
}


def _thickness(patch: np.ndarray, look: Look) -> int:
    return max(1, round(look.bar * min(patch.shape[:2])))


def _split_sill(patch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    edge = len(patch) - max(2, round(0.06 * len(patch)))
    return patch[:edge], patch[edge:]


def _panes(patch: np.ndarray, look: Look, columns: int, rows: int) -> None:
    """Glass, a frame around it, and bars that divide it into columns x rows."""
    _glass(patch, look)
    height, width = patch.shape[:2]
    thick = _thickness(patch, look)
    for row in range(1, rows):
        _bar(patch, look, height * row // rows - thick // 2, height * row // rows - thick // 2 + thick)
    for column in range(1, columns):
        x = width * column // columns - thick // 2
        patch[:, x : x + thick] = look.frame
    thick = round(1.5 * thick)
    patch[:thick] = patch[-thick:] = look.frame
    patch[:, :thick] = patch[:, -thick:] = look.frame


def _glass(patch: np.ndarray, look: Look) -> None:
    """Glass, brighter towards the top where it mirrors the sky, with curtains and a streak of reflection."""
    height, width = patch.shape[:2]
    fade = np.linspace(1.25, 0.8, height, dtype=np.float32)[:, None, None]
    patch[:] = np.clip(np.array(look.glass, np.float32) * fade, 0, 255).astype(np.uint8)
    if look.curtain:
        for near, far in ((0.0, 0.28), (1.0, 0.72)):
            corners = [(near, 0), (far, 0), ((near * 3 + far) / 4, 1), (near, 1)]
            _polygon(patch, [(x * width, y * height) for x, y in corners], look.curtain)
    if 0 <= look.reflection <= 1:
        x = (look.reflection * 1.2 - 0.3) * width
        corners = [(x + 0.4 * width, 0), (x + 0.65 * width, 0), (x + 0.25 * width, height), (x, height)]
        _polygon(patch, corners, shade(look.glass, 1.45))


def _shutter(patch: np.ndarray, colour: Colour) -> None:
    """Louvres in a frame."""
    patch[:] = colour
    height, width = patch.shape[:2]
    edge = max(1, width // 8)
    for y in range(edge, height - edge, max(2, height // 14)):
        patch[y : y + max(1, height // 40), edge : width - edge] = shade(colour, 0.6)
    patch[:, -1:] = patch[:, :1] = shade(colour, 0.5)


def _reveal(patch: np.ndarray) -> None:
    """The shadow that a recessed window gets from the wall above it."""
    depth = max(1, len(patch) // 24)
    patch[:depth] = patch[:depth] // 2


def _bar(patch: np.ndarray, look: Look, top: int, bottom: int) -> None:
    patch[top : max(bottom, top + 1)] = look.frame


def _rim(name: str, patch: np.ndarray, colour: Colour, thick: int) -> None:
    """A line along the outline; the half of it that lies outside is masked off later."""
    points = unit_outline(name) * (patch.shape[1] - 1, patch.shape[0] - 1)
    cv2.polylines(patch, [np.round(points).astype(np.int32)], True, colour, thick)


def _polygon(patch: np.ndarray, corners: Sequence[tuple[float, float]], colour: Colour) -> None:
    cv2.fillPoly(patch, [np.round(np.array(corners)).astype(np.int32)], colour)
