"""Measures a camera from pictures of a chessboard: which ones can be used and why not, the model, and how sure it is.

OpenCV does the mathematics (Zhang, "A flexible new technique for camera calibration", 2000); here is what keeps a bad
set of pictures from becoming a confident file. Knows nothing of where pictures come from, nor of the drone.
"""

import json
import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from deploy.camera import DISTORTION, MATRIX, SCHEMA
from deploy.errors import refuse

LEAST_FRAMES = 8
MOST_FRAMES = 40  # more change nothing but the time

_SAME = 0.01  # of the picture's diagonal: corners that moved less on average show the same view again
_TILTED, _LEAST_TILTED = 12.0, 3  # degrees between board and picture; frames that must have as much
_FOCAL_ERROR = 0.02  # share of the focal length, standard deviation
_WORST_RMS = 2.0  # pixels
_OUTLIER = 3.0  # times the median error
_COVERED = 0.5  # of the picture; where no corner ever was the distortion is guessed
_GRID = 8  # cells to a side in which coverage is counted
_HALF_PIXEL = 0.5  # OpenCV counts from the middle of the first pixel, boxes from its edge
_FLAGS = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK


class Board(NamedTuple):
    """A chessboard. columns, rows: of its inner corners. square: side of a square, millimetres."""

    columns: int
    rows: int
    square: float

    @property
    def points(self) -> np.ndarray:
        """(columns * rows, 3) float32, millimetres on the board."""
        grid = np.zeros((self.rows * self.columns, 3), np.float32)
        grid[:, :2] = np.mgrid[: self.columns, : self.rows].T.reshape(-1, 2) * self.square
        return grid


class View(NamedTuple):
    """One picture. corners: (N, 1, 2) float32, pixels, or None. reason: why it is not used, empty where it is.

    error: root mean square distance of its corners from the model, pixels. tilt: of the board, degrees.
    """

    name: str
    corners: Optional[np.ndarray]
    reason: str = ""
    error: float = 0.0
    tilt: float = 0.0


class Calibration(NamedTuple):
    """What was measured. matrix: fx, fy, cx, cy, pixels of boxes. distortion: k1, k2, p1, p2, k3.

    *_error: standard deviations of each. rms: pixels. coverage: share of the picture in which corners were. notes: what
    to know of it.
    """

    width: int
    height: int
    board: Board
    matrix: Tuple[float, ...]
    matrix_error: Tuple[float, ...]
    distortion: Tuple[float, ...]
    distortion_error: Tuple[float, ...]
    rms: float
    coverage: float
    views: Tuple[View, ...]
    notes: Tuple[str, ...]

    @property
    def used(self) -> List[View]:
        """The views that the model is made of."""
        return [view for view in self.views if not view.reason]


class Finder:
    """Looks for the board in one picture after the other, and keeps the corners, not the pictures."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.size: Optional[Tuple[int, int]] = None
        self.views: List[View] = []

    @property
    def usable(self) -> int:
        """How many views can be used so far."""
        return sum(not view.reason for view in self.views)

    def add(self, name: str, image: np.ndarray) -> View:
        """Look at a picture, (H, W, 3) uint8 BGR."""
        size = (image.shape[1], image.shape[0])
        self.size = self.size or size
        if size != self.size:
            view = View(name, None, "{}x{}, the first one has {}x{}".format(*(size + self.size)))
        else:
            view = self._find(name, cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
        self.views.append(view)
        return view

    def _find(self, name: str, grey: np.ndarray) -> View:
        is_found, corners = cv2.findChessboardCorners(grey, (self.board.columns, self.board.rows), flags=_FLAGS)
        if not is_found:
            return View(name, None, "board not found")
        nearest = _spacing(corners.reshape(self.board.rows, self.board.columns, 2))
        window = int(min(max(nearest / 3, 2), 11))  # no corner's window may hold another corner
        stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 40, 0.001)
        corners = cv2.cornerSubPix(grey, corners, (window, window), (-1, -1), stop)
        diagonal = math.hypot(*grey.shape)
        for view in self.views:
            other = view.corners
            if other is not None and not view.reason and np.abs(other - corners).mean() < _SAME * diagonal:
                return View(name, corners, "shows the same as " + view.name)
        return View(name, corners)


def calibrate(found: Finder, source: str) -> Calibration:
    """Measure the camera. source: what messages name.

    Raises UserError where there are too few usable pictures, too little variety, or the corners do not fit a camera.
    """
    if found.size is None or found.usable < LEAST_FRAMES:
        raise _too_few(found, source)
    views = _thinned(found.views)
    fit = _fit(views, found)
    views = _without_outliers(_measured(views, fit))
    if sum(not view.reason for view in views) < LEAST_FRAMES:
        raise _bad_fit(source, fit)
    fit = _fit(views, found)
    _check(fit, source)
    return _result(fit, _measured(views, fit), found)


def calibration_json(calibration: Calibration) -> str:
    """The content of the file that deploy/camera.py reads; the same pictures give the same text."""
    frames = [
        dict({"name": view.name, "used": not view.reason}, **_about(view))  # with what was measured, or why not
        for view in calibration.views
    ]
    content: Dict[str, Any] = {
        "schema": SCHEMA,
        "image": {"width": calibration.width, "height": calibration.height},
        "matrix": _named(MATRIX, calibration.matrix),
        "matrix_error": _named(MATRIX, calibration.matrix_error),
        "distortion": _named(DISTORTION, calibration.distortion),
        "distortion_error": _named(DISTORTION, calibration.distortion_error),
        "rms": round(calibration.rms, 4),
        "coverage": round(calibration.coverage, 3),
        "board": dict(calibration.board._asdict()),
        "notes": list(calibration.notes),
        "frames": frames,
    }
    return json.dumps(content, indent=2) + "\n"


class _Fit(NamedTuple):
    rms: float
    matrix: np.ndarray
    distortion: np.ndarray
    errors_of_model: np.ndarray
    errors: List[float]
    tilts: List[float]


def _fit(views: Sequence[View], found: Finder) -> _Fit:
    """k3 is fitted where the corners show that there is one; elsewhere it would bend the picture's edges at random."""
    corners = _corners(views)
    boards = [found.board.points] * len(corners)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # sums of several threads differ in their last digits from one time to the next
    for flags in (0, cv2.CALIB_FIX_K3):
        rms, matrix, distortion, rotations, _, deviations, _, errors = cv2.calibrateCameraExtended(
            boards, corners, found.size or (0, 0), np.eye(3), np.zeros(5), flags=flags
        )
        deviations, distortion = deviations.ravel(), distortion.ravel()
        if abs(distortion[4]) > 3 * deviations[8]:  # fx, fy, cx, cy, k1, k2, p1, p2, k3, ...
            break
    cv2.setNumThreads(threads)
    tilts = [math.degrees(math.acos(min(1.0, abs(cv2.Rodrigues(turn)[0][2, 2])))) for turn in rotations]
    return _Fit(float(rms), matrix, distortion, deviations, [float(error) for error in errors.ravel()], tilts)


def _check(fit: _Fit, source: str) -> None:
    if not fit.rms < _WORST_RMS or not np.isfinite(fit.errors_of_model[:9]).all():
        raise _bad_fit(source, fit)
    steepest = max(fit.tilts)
    if sum(tilt >= _TILTED for tilt in fit.tilts) < _LEAST_TILTED:
        what = "not enough variety of angle: the board is tilted by {:.0f} degrees at most".format(steepest)
        raise refuse(source, what, "tilt it by 20 to 45 degrees, to all four sides, in several pictures")
    share = max(fit.errors_of_model[0] / fit.matrix[0, 0], fit.errors_of_model[1] / fit.matrix[1, 1])
    if share > _FOCAL_ERROR:
        what = "not enough variety of angle: the focal length is known to {:.1f} % only".format(100 * share)
        raise refuse(source, what, "take more pictures, nearer, with the board tilted about both of its axes")


def _result(fit: _Fit, views: Sequence[View], found: Finder) -> Calibration:
    width, height = found.size or (0, 0)
    coverage = _coverage(_corners(views), width, height)
    notes = []
    if coverage < _COVERED:
        notes.append(
            "corners in {:.0f} % of the picture only: hold the board into its corners too".format(100 * coverage)
        )
    return Calibration(
        width=width,
        height=height,
        board=found.board,
        matrix=(
            fit.matrix[0, 0],
            fit.matrix[1, 1],
            fit.matrix[0, 2] + _HALF_PIXEL,
            fit.matrix[1, 2] + _HALF_PIXEL,
        ),
        matrix_error=tuple(fit.errors_of_model[:4]),
        distortion=tuple(fit.distortion[:5]),
        distortion_error=tuple(fit.errors_of_model[4:9]),
        rms=fit.rms,
        coverage=coverage,
        views=tuple(views),
        notes=tuple(notes),
    )


def _thinned(views: Sequence[View]) -> List[View]:
    """At most MOST_FRAMES usable views, spread evenly over the pictures."""
    usable = [index for index, view in enumerate(views) if not view.reason]
    kept = {usable[int(place)] for place in np.linspace(0, len(usable) - 1, min(len(usable), MOST_FRAMES))}
    return [
        view if view.reason or index in kept else view._replace(reason="enough without it")
        for index, view in enumerate(views)
    ]


def _measured(views: Sequence[View], fit: _Fit) -> List[View]:
    """The views with the errors and tilts of a fit, which are those of the used ones, in order."""
    figures = iter(zip(fit.errors, fit.tilts))
    found = []
    for view in views:
        if not view.reason:
            error, tilt = next(figures)
            view = view._replace(error=error, tilt=tilt)
        found.append(view)
    return found


def _without_outliers(views: Sequence[View]) -> List[View]:
    median = float(np.median([view.error for view in views if not view.reason]))
    text = "its corners are off by {:.1f} pixels, the others' by {:.1f}"
    return [
        view._replace(reason=text.format(view.error, median))
        if not view.reason and view.error > max(1.0, _OUTLIER * median)
        else view
        for view in views
    ]


def _about(view: View) -> Dict[str, Any]:
    if view.reason:
        return {"reason": view.reason}
    return {"error": round(view.error, 4), "tilt": round(view.tilt, 1)}


def _corners(views: Sequence[View]) -> List[np.ndarray]:
    """Those of the used views."""
    return [view.corners for view in views if not view.reason and view.corners is not None]


def _named(names: Sequence[str], values: Sequence[float]) -> Dict[str, float]:
    return {name: float("{:.8g}".format(value)) for name, value in zip(names, values)}


def _spacing(grid: np.ndarray) -> float:
    """The least distance between neighbouring corners, pixels."""
    return float(min(np.linalg.norm(np.diff(grid, axis=axis), axis=2).min() for axis in (0, 1)))


def _coverage(corners: Sequence[np.ndarray], width: int, height: int) -> float:
    """Share of a grid of cells in which there was a board."""
    mask = np.zeros((_GRID * 8, _GRID * 8), np.uint8)
    for points in corners:
        scaled = points.reshape(-1, 2) * (_GRID * 8 / width, _GRID * 8 / height)
        cv2.fillConvexPoly(mask, cv2.convexHull(scaled.astype(np.int32)), 1)
    return float(mask.mean())


def _too_few(found: Finder, source: str) -> Exception:
    reasons = [view.reason.split(",")[0].split(" as ")[0] for view in found.views if view.reason]
    counts = ["{} times {}".format(reasons.count(reason), reason) for reason in sorted(set(reasons))]
    what = "{} of {} pictures can be used".format(found.usable, len(found.views))
    remedy = "{} are needed; show all {}x{} inner corners, sharp, in different places and angles".format(
        LEAST_FRAMES, found.board.columns, found.board.rows
    )
    return refuse(source, what + (" ({})".format(", ".join(counts)) if counts else ""), remedy)


def _bad_fit(source: str, fit: _Fit) -> Exception:
    what = "the corners are off by {:.1f} pixels from any camera's".format(fit.rms)
    return refuse(source, what, "use a flat, rigid board, sharp pictures, and one lens setting throughout")
