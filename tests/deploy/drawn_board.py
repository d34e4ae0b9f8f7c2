"""Chessboards drawn as a known camera would see them; synthetic: nothing here was in front of a lens."""

import functools

import cv2
import numpy as np

from deploy.camera import Camera

COLUMNS, ROWS, SQUARE = 9, 6, 25.0
_FINE = 3  # parts of a pixel in each direction

CAMERA = Camera(
    width=640,
    height=480,
    fx=533.0,
    fy=537.0,
    cx=327.0,
    cy=234.0,
    distortion=(-0.22, 0.07, 0.0008, -0.0006, 0.0),
    focal_error=0.0,
    is_calibrated=True,
)


def board_pose(rng: np.random.Generator, tilt: float) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and place (3,), millimetres, of a board that the camera sees whole."""
    angles = rng.uniform(-tilt, tilt, 2) if tilt else np.zeros(2)
    turn = cv2.Rodrigues(np.radians([angles[0], 0, 0]))[0] @ cv2.Rodrigues(np.radians([0, angles[1], 0]))[0]
    turn = cv2.Rodrigues(np.radians([0, 0, rng.uniform(-20, 20)]))[0] @ turn
    distance = rng.uniform(350, 600)
    middle = np.array([rng.uniform(-0.3, 0.3) * distance, rng.uniform(-0.2, 0.2) * distance, distance])
    board = np.array([(COLUMNS - 1) * SQUARE / 2, (ROWS - 1) * SQUARE / 2, 0])
    return turn, middle - turn @ board


@functools.cache
def _rays(camera: Camera) -> np.ndarray:
    """(N, 3) float32, of the parts of pixels; the lens by OpenCV, not by what is tested."""
    x, y = np.meshgrid(*((np.arange(size * _FINE) + 0.5) / _FINE for size in (camera.width, camera.height)))
    matrix = np.array([[camera.fx, 0, camera.cx - 0.5], [0, camera.fy, camera.cy - 0.5], [0, 0, 1]])
    pixels = np.stack([x.ravel(), y.ravel()], axis=1)[:, None] - 0.5  # OpenCV's pixels begin half a pixel later
    plane = cv2.undistortPoints(pixels, matrix, np.array(camera.distortion))[:, 0]
    return np.column_stack([plane, np.ones(len(plane))]).astype(np.float32)


def draw_board(camera: Camera, turn: np.ndarray, place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8: each pixel's ray is cut with the board's plane, three times over in each direction."""
    # place + turn @ (u, v, 0) = s * (x, y, 1): the homography of the board's plane.
    homography = np.linalg.inv(np.column_stack([turn[:, :2], place]))
    rays = _rays(camera) @ homography.T.astype(np.float32)
    u, v = rays[:, 0] / rays[:, 2] / SQUARE, rays[:, 1] / rays[:, 2] / SQUARE
    is_inside = (u > -2) & (u < COLUMNS + 1) & (v > -2) & (v < ROWS + 1)
    is_board = (u > -1) & (u < COLUMNS) & (v > -1) & (v < ROWS)
    is_dark = is_board & ((np.floor(u) + np.floor(v)) % 2 == 0)
    grey = np.where(is_dark, 30.0, np.where(is_inside, 225.0, 110.0))
    grey = grey.reshape(camera.height, _FINE, camera.width, _FINE).mean(axis=(1, 3))
    noisy = np.clip(grey + rng.normal(0, 3, grey.shape), 0, 255).astype(np.uint8)
    return np.repeat(noisy[:, :, None], 3, axis=2)
