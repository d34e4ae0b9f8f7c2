"""A pinhole camera in front of a street. It knows nothing about what stands there.

World: metres, x to the right, y down with the ground at 0 (a roof has a negative y), z away from the viewer; the
building fronts are the plane z = 0, the camera has a negative z. Pixels are continuous: pixel i covers i to i + 1.
"""

from dataclasses import dataclass, replace

import numpy as np

__all__ = ["NEAREST", "Camera", "look_at"]

NEAREST = 0.8  # metres in front of the camera; what comes closer is not drawn


@dataclass(frozen=True)
class Camera:
    """position: (3,) metres; rotation: (3, 3), world to camera (x right, y down, z forward); the rest in pixels."""

    position: np.ndarray
    rotation: np.ndarray
    focal: float
    width: int
    height: int

    def scaled(self, factor: int) -> "Camera":
        """The same view with `factor` times as many pixels along each side."""
        return replace(self, focal=self.focal * factor, width=self.width * factor, height=self.height * factor)

    def project(self, points: np.ndarray) -> np.ndarray | None:
        """(N, 3) world points as (N, 2) pixels, or None where a point is behind the camera or too close to it."""
        seen = (points - self.position) @ self.rotation.T
        if seen[:, 2].min() < NEAREST:
            return None
        centre = np.array([self.width / 2, self.height / 2])
        return seen[:, :2] / seen[:, 2:] * self.focal + centre

    def front_homography(self) -> np.ndarray:
        """(3, 3) from (x, y) metres on the fronts to pixels."""
        return self._plane(self.rotation[:, 0], self.rotation[:, 1])

    def ground_homography(self) -> np.ndarray:
        """(3, 3) from (x, z) metres on the ground to pixels."""
        return self._plane(self.rotation[:, 0], self.rotation[:, 2])

    def front_bounds(self) -> tuple[float, float, float, float]:
        """Smallest x, y and largest x, y in metres on the fronts that the picture can show."""
        corners = np.array([[0, 0], [self.width, 0], [self.width, self.height], [0, self.height]], dtype=float)
        rays = np.column_stack([corners, np.ones(4)]) @ np.linalg.inv(self.front_homography()).T
        points = rays[:, :2] / rays[:, 2:]
        return (*points.min(axis=0), *points.max(axis=0))

    def _plane(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        intrinsics = np.array([[self.focal, 0, self.width / 2], [0, self.focal, self.height / 2], [0, 0, 1]])
        return intrinsics @ np.column_stack([first, second, -self.rotation @ self.position])


def look_at(position: np.ndarray, target: np.ndarray, roll: float, focal: float, width: int, height: int) -> Camera:
    """A camera at `position` with `target` (both (3,) metres) in the middle of its picture; `roll` in radians."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    cos, sin = np.cos(roll), np.sin(roll)
    rotation = np.stack([cos * right + sin * down, cos * down - sin * right, forward])
    return Camera(position, rotation, focal, width, height)
