"""The camera as a pinhole with a lens that distorts, and the file in which its calibration lies.

    {"schema": 1, "image": {"width", "height"}, "matrix": {"fx", "fy", "cx", "cy"}, "distortion": {"k1", "k2", "p1",
     "p2", "k3"}, "matrix_error": ..., "distortion_error": ..., "rms": ..., and how it was measured}

Lengths in pixels; errors are standard deviations; rms is that of the corners' distances from where the model has them.
Model and names are OpenCV's: "Camera Calibration and 3D Reconstruction"; Brown, "Close-range camera calibration", 1971.
Pixels are those of boxes, whose zero is the picture's edge; OpenCV's zero, half a pixel further in, is in cx and cy.
Knows nothing of how the camera is mounted.
"""

import math
from pathlib import Path
from typing import Any, Dict, NamedTuple, Tuple

import numpy as np

from deploy.errors import refuse
from deploy.strict_json import parse_json, short

SCHEMA = 1
MATRIX = ("fx", "fy", "cx", "cy")
DISTORTION = ("k1", "k2", "p1", "p2", "k3")

_LIMIT = 1 << 20  # bytes
_ITERATIONS = 30
_EXACT = 0.05  # pixels that an undistorted point may be off when it is distorted again
_AGAIN = "make it again with skylight calibrate"


class Camera(NamedTuple):
    """width, height: of the picture that all this is about. fx, fy, cx, cy: pixels. distortion: k1, k2, p1, p2, k3.

    focal_error: standard deviation of the focal length as a share of it. is_calibrated: measured, at this very size.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: Tuple[float, float, float, float, float]
    focal_error: float
    is_calibrated: bool

    def resized(self, width: int, height: int) -> "Camera":
        """The camera where its pictures come at another size: no more than a guess, since it may cut or shrink them.

        width, height: in pixels.
        """
        if (width, height) == (self.width, self.height):
            return self
        across, down = width / self.width, height / self.height
        return self._replace(
            width=width,
            height=height,
            fx=self.fx * across,
            fy=self.fy * down,
            cx=self.cx * across,
            cy=self.cy * down,
            is_calibrated=False,
        )

    def undistorted(self, points: np.ndarray) -> np.ndarray:
        """Where rays through pixels cut the plane at distance 1.

        points: (N, 2), x and y in pixels. Returns (N, 2) float64, x to the right and y down; NaN where the lens model
        has no such ray, far outside of what was calibrated.
        """
        seen = (np.asarray(points, np.float64) - (self.cx, self.cy)) / (self.fx, self.fy)
        plane = seen.copy()
        with np.errstate(all="ignore"):
            for _ in range(_ITERATIONS):  # the fixed point of OpenCV's undistortPoints
                radial, tangential = _lens(plane, self.distortion)
                plane = (seen - tangential) / radial
            error = np.abs(self.projected(plane) - points).max(axis=1)
            plane[~(error < _EXACT)] = np.nan
        return plane

    def projected(self, plane: np.ndarray) -> np.ndarray:
        """Pixels (N, 2) of points (N, 2) of the plane at distance 1."""
        radial, tangential = _lens(plane, self.distortion)
        return (plane * radial + tangential) * (self.fx, self.fy) + (self.cx, self.cy)


def camera_of_view(width: int, height: int, field_of_view: float) -> Camera:
    """A camera of which only its horizontal field of view is stated, degrees: no distortion, square pixels."""
    focal = width / 2 / math.tan(math.radians(field_of_view) / 2)
    return Camera(width, height, focal, focal, width / 2, height / 2, (0.0, 0.0, 0.0, 0.0, 0.0), 0.0, False)


def read_camera(path: Path) -> Camera:
    """Read a calibration file. Raises UserError naming file and key."""
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT + 1)
        content = parse_json(data[:_LIMIT])
    except OSError as error:
        raise refuse(path, error.strerror or str(error), "give the file that skylight calibrate made") from None
    except ValueError as error:
        raise refuse(path, "is no calibration: {}".format(error), _AGAIN) from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else content
        raise refuse(path, "schema is {}, this reads {}".format(short(found), SCHEMA), _AGAIN)
    width, height = (int(_number(path, content, "image", name)) for name in ("width", "height"))
    fx, fy, cx, cy = (_number(path, content, "matrix", name) for name in MATRIX)
    k1, k2, p1, p2, k3 = (_number(path, content, "distortion", name) for name in DISTORTION)
    errors = [_number(path, content, "matrix_error", name) for name in ("fx", "fy")]
    if not (min(width, height, fx, fy) > 0 and 0 <= cx <= width and 0 <= cy <= height and min(errors) >= 0):
        raise refuse(path, "no camera has this matrix at {}x{}".format(width, height), _AGAIN)
    share = max(errors[0] / fx, errors[1] / fy)
    return Camera(width, height, fx, fy, cx, cy, (k1, k2, p1, p2, k3), share, is_calibrated=True)


def _number(path: Path, content: Dict[str, Any], group: str, name: str) -> float:
    values = content.get(group)
    value = values.get(name) if isinstance(values, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e9:
        raise refuse("{}: {}.{}".format(path, group, name), short(value) + " is no number of a camera", _AGAIN)
    return float(value)


def _lens(plane: np.ndarray, distortion: Tuple[float, float, float, float, float]) -> Tuple[np.ndarray, np.ndarray]:
    """Factor (N, 1) and shift (N, 2) by which the lens moves points of the plane."""
    k1, k2, p1, p2, k3 = distortion
    x, y = plane[:, :1], plane[:, 1:]
    square = x * x + y * y
    radial = 1 + square * (k1 + square * (k2 + square * k3))
    shift = np.concatenate(
        [2 * p1 * x * y + p2 * (square + 2 * x * x), p1 * (square + 2 * y * y) + 2 * p2 * x * y], axis=1
    )
    return radial, shift
