"""Where a box is, seen from the drone: angles, distance from the known size of the target, place, and how sure.

Three systems: the picture (pixels, x to the right, y down); the camera (x to the right, y down, z where it looks); the
body of the drone (MAVLink's MAV_FRAME_BODY_FRD: x forward, y right, z down). Knows nothing of messages.
"""

import math
import re
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from deploy.camera import Camera, camera_of_view, read_camera
from deploy.errors import refuse
from deploy.frame import Track

_BORDER = 2.0  # pixels from the picture's edge within which a side of a box is taken as cut off
_CAMERA_TO_FORWARD = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
_SIZE = re.compile(r"(?:(?P<name>[^=]+?)\s*=)?\s*(?P<width>[0-9.]+|-)\s*x\s*(?P<height>[0-9.]+|-)")


class GeometrySettings(NamedTuple):
    """Where the camera looks, and how large the target is.

    calibration: file of skylight calibrate, or none
    field_of_view: horizontal, degrees; used where there is no calibration, above 0, below 170, or none
    roll, pitch, yaw: how the camera is turned in the drone, degrees, -180 to 180; with 0, 0, 0 it looks forward, with
        pitch = -90 straight down, the top of the picture forward
    target_size: width x height, metres, - for what is not known; with a class before it for that class alone:
        1.2x1.5, Arch=1.2x-
    target_size_error: standard deviation of these, share of the size, 0 to 1
    box_error: standard deviation of a box's width and height, pixels, at least, 0 to 100
    max_distance_error: standard deviation of the distance, share of it, above which no place is told, above 0 to 1
    """

    calibration: Optional[str] = None
    field_of_view: Optional[float] = None
    roll: float = 0.0
    pitch: float = -90.0
    yaw: float = 0.0
    target_size: Tuple[str, ...] = ()
    target_size_error: float = 0.03
    box_error: float = 1.0
    max_distance_error: float = 0.2

    def check(self) -> None:
        """Raise UserError for what is out of range."""
        if self.field_of_view is not None and not 0 < self.field_of_view < 170:
            raise refuse("field_of_view={}".format(self.field_of_view), "out of range", "give degrees, 0 to 170")
        for name in ("roll", "pitch", "yaw"):
            if not -180 <= getattr(self, name) <= 180:
                raise refuse("{}={}".format(name, getattr(self, name)), "out of range", "give degrees, -180 to 180")
        for name, most in (("target_size_error", 1), ("box_error", 100), ("max_distance_error", 1)):
            if not 0 <= getattr(self, name) <= most:
                raise refuse("{}={}".format(name, getattr(self, name)), "out of range", "give 0 to {}".format(most))
        _target_sizes(self.target_size)


class Aim(NamedTuple):
    """Where a box is.

    angle_x, angle_y: of its middle from the middle of the picture, radians, to the right and down. size_x, size_y: how
    wide and high it looks, radians. ray: unit vector towards it, body. distance, distance_error: metres and their
    standard deviation, None where not known. position: metres, body, None where it may not be told as known; doubt says
    why.
    """

    angle_x: float
    angle_y: float
    size_x: float
    size_y: float
    ray: Tuple[float, float, float]
    distance: Optional[float]
    distance_error: Optional[float]
    position: Optional[Tuple[float, float, float]]
    doubt: str


class Sight:
    """Aims with one camera, as it is mounted, at targets of known size.

    Raises UserError where the settings do not suit the classes, or say neither calibration nor field of view.
    """

    def __init__(self, settings: GeometrySettings, classes: Sequence[str]) -> None:
        self._settings = settings
        self._calibrated = read_camera(Path(settings.calibration)) if settings.calibration is not None else None
        if self._calibrated is None and settings.field_of_view is None:
            remedy = "give a calibration (skylight calibrate), or the field_of_view in degrees"
            raise refuse("calibration=none", "no angle is known without it", remedy)
        sizes = _target_sizes(settings.target_size)
        for name in sizes:
            if name and name not in classes:
                raise refuse("target_size={}=...".format(name), "no such class", "allowed: " + ", ".join(classes))
        self._sizes = [sizes.get(name, sizes.get("", (None, None))) for name in classes]
        self._camera = self._calibrated
        self.to_body = mounting(settings.roll, settings.pitch, settings.yaw)

    @property
    def text(self) -> str:
        """What is known of the camera, for people."""
        if self._calibrated is not None:
            return "calibrated at {}x{}".format(self._calibrated.width, self._calibrated.height)
        return "not calibrated: {} degrees stated, no place is told".format(self._settings.field_of_view)

    def aim(self, track: Track, width: int, height: int) -> Optional[Aim]:
        """Where a track is in a picture of that size, pixels; None where the lens model ends before it.

        The target is taken to face the camera squarely. Seen from the side it looks smaller, so it is nearer than told.
        """
        camera = self._camera_at(width, height)
        left, top, right, bottom = track.box
        middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
        points = [(middle_x, middle_y), (left, middle_y), (right, middle_y), (middle_x, top), (middle_x, bottom)]
        plane = camera.undistorted(np.array(points))
        if not np.isfinite(plane).all():
            return None
        direction = np.array([plane[0, 0], plane[0, 1], 1.0])
        length = float(np.linalg.norm(direction))
        depth, share, doubt = self._depth(camera, track, plane)
        distance = None if depth is None else depth * length
        position = None
        if depth is not None and not doubt:
            position = _triple(self.to_body @ (direction * depth))
        return Aim(
            angle_x=math.atan(plane[0, 0]),
            angle_y=math.atan(plane[0, 1]),
            size_x=math.atan(plane[2, 0]) - math.atan(plane[1, 0]),
            size_y=math.atan(plane[4, 1]) - math.atan(plane[3, 1]),
            ray=_triple(self.to_body @ direction / length),
            distance=distance,
            distance_error=None if distance is None else distance * share,
            position=position,
            doubt=doubt,
        )

    def _camera_at(self, width: int, height: int) -> Camera:
        if self._camera is None or (self._camera.width, self._camera.height) != (width, height):
            stated = self._settings.field_of_view
            known = self._calibrated or camera_of_view(width, height, stated if stated is not None else 60.0)
            self._camera = known.resized(width, height)
        return self._camera

    def _depth(self, camera: Camera, track: Track, plane: np.ndarray) -> Tuple[Optional[float], float, str]:
        """How far the target is along the camera's axis, metres, its error as a share, and why it is doubted."""
        left, top, right, bottom = track.box
        seen = (plane[2, 0] - plane[1, 0], plane[4, 1] - plane[3, 1])
        is_cut = (
            left < _BORDER or right > camera.width - _BORDER,
            top < _BORDER or bottom > camera.height - _BORDER,
        )
        depths, errors = [], []
        for side, known in enumerate(self._sizes[track.class_index]):
            if known is None or is_cut[side]:
                continue
            pixels = (right - left, bottom - top)[side]
            jitter = max(track.size_error[side], self._settings.box_error) / pixels
            depths.append(known / seen[side])
            errors.append(depths[-1] * math.hypot(jitter, self._settings.target_size_error))
        if not depths:
            unknown = self._sizes[track.class_index] == (None, None)
            return None, 0.0, "size of the target not stated" if unknown else "cut off by the edge of the picture"
        depth, error = _combined(depths, errors)
        share = math.hypot(error / depth, camera.focal_error)
        if any(is_cut):
            return depth, share, "cut off by the edge of the picture"
        if not camera.is_calibrated:
            return depth, share, "not calibrated" + ("" if self._calibrated is None else " at this size of picture")
        if share > self._settings.max_distance_error:
            return depth, share, "distance known to {:.0f} % only".format(100 * share)
        return depth, share, ""


def mounting(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """The matrix (3, 3) that turns vectors of the camera into those of the body; degrees, aerospace order (yaw last).

    >>> down = mounting(0, -90, 0)
    >>> [int(value) for value in np.round(down @ [0, 0, 1])], [int(value) for value in np.round(down @ [0, -1, 0])]
    ([0, 0, 1], [1, 0, 0])
    """
    (cr, cp, cy), (sr, sp, sy) = [[part(math.radians(a)) for a in (roll, pitch, yaw)] for part in (math.cos, math.sin)]
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x @ _CAMERA_TO_FORWARD


def _combined(values: Sequence[float], errors: Sequence[float]) -> Tuple[float, float]:
    """The mean weighted by the variances, and its standard deviation, larger where the values contradict each other.

    Birge ratio: Particle Data Group, "Review of Particle Physics", introduction, unconstrained averaging.
    """
    weights = [1 / max(error, 1e-9) ** 2 for error in errors]
    total = sum(weights)
    mean = sum(weight * value for weight, value in zip(weights, values)) / total
    spread = sum(weight * (value - mean) ** 2 for weight, value in zip(weights, values))
    freedom = len(values) - 1
    return mean, math.sqrt(max(spread / freedom if freedom else 1.0, 1.0) / total)


def _target_sizes(texts: Sequence[str]) -> Dict[str, Tuple[Optional[float], Optional[float]]]:
    """Width and height in metres by class; under the empty name those of every other class."""
    sizes = {}
    for text in texts:
        found = _SIZE.fullmatch(text)
        try:
            values = [None if found[key] == "-" else float(found[key]) for key in ("width", "height")]  # type: ignore[index]
        except (TypeError, ValueError):
            values = [0.0]
        if any(value is not None and not 0 < value < 1000 for value in values):
            raise refuse("target_size={}".format(text), "is no size", "write metres: 1.2x1.5, 1.2x- or Arch=1.2x1.5")
        sizes[(found["name"] if found else None) or ""] = (values[0], values[1])
    return sizes


def _triple(values: np.ndarray) -> Tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
