"""What a whole training will come to, told from a short one, and how far off that may be.

A line through what was measured on other targets, whose errors there are the interval. Knows nothing of how either was
measured.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.files import write_json
from pipeline.score.probes import Probe

__all__ = ["Calibration", "Prediction", "calibrate", "features", "predict", "read_calibration", "write_calibration"]

_RIDGE = 0.1
_COVERED = 0.8  # share of the errors that lie inside the interval
_FILE = Path(__file__).with_name("calibration.json")


@dataclass(frozen=True)
class Prediction:
    """AP at IoU 0.5 at the end of a whole training, 0 to 1; four of five lie between low and high."""

    ap50: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """A line over `features`.

    Attributes:
        weights: one per feature.
        low, high: what must be added for the interval.
        cases, targets: that it was fitted on.
    """

    weights: tuple[float, ...]
    low: float
    high: float
    cases: int
    targets: int


def features(probe: Probe) -> list[float]:
    """What a prediction is made from."""
    longer = np.log2(probe.arm.iterations / probe.iterations)
    is_frozen = float(bool(probe.arm.frozen))
    return [
        1.0,
        probe.ap50,
        probe.ap50**2,
        is_frozen,
        probe.arm.unit.learning,
        float(np.log10(probe.arm.photos)),
        float(longer),
    ]


def predict(calibration: Calibration | None, probe: Probe) -> Prediction | None:
    """Predict the end from a probe; None without a calibration."""
    if calibration is None:
        return None
    ap50 = float(np.dot(calibration.weights, features(probe)))
    return Prediction(_clipped(ap50), _clipped(ap50 + calibration.low), _clipped(ap50 + calibration.high))


def calibrate(rows: Sequence[Sequence[float]], ends: Sequence[float], groups: Sequence[str]) -> Calibration:
    """Fit the line; the interval is of errors on groups (targets) that were left out of the fit.

    rows: `features` of each probe. ends: AP at the end of the whole training. groups: the target of each.
    """
    x, y, group = np.array(rows), np.array(ends), np.array(groups)
    errors = np.concatenate(
        [y[group == one] - x[group == one] @ _fit(x[group != one], y[group != one]) for one in np.unique(group)]
    )
    low, high = np.quantile(errors, [(1 - _COVERED) / 2, (1 + _COVERED) / 2])
    weights = tuple(float(weight) for weight in _fit(x, y))
    return Calibration(weights, float(low), float(high), len(y), len(np.unique(group)))


def read_calibration() -> Calibration | None:
    """The calibration that comes with the project; None where there is none."""
    if not _FILE.is_file():
        return None
    content = json.loads(_FILE.read_text())
    return Calibration(**content | {"weights": tuple(content["weights"])})


def write_calibration(calibration: Calibration, path: Path = _FILE) -> None:
    """Make it the one that comes with the project."""
    write_json(path, asdict(calibration))


def _fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Ridge regression; the constant is not shrunk."""
    penalty = _RIDGE * np.eye(x.shape[1])
    penalty[0, 0] = 0
    solved: np.ndarray = np.linalg.solve(x.T @ x + penalty, x.T @ y)
    return solved


def _clipped(value: float) -> float:
    return min(1.0, max(0.0, value))
