"""What a whole training will come to, told from a round of short ones, and how far off that may be.

Short trainings flatter frozen layers: they disturb nothing, and what learning everything brings comes later. How much
later training brings grows with what the target shows at all, so that a line over three figures tells it. It is fitted
on other targets, whose errors are the interval. Knows nothing of how anything was measured.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.files import write_json
from pipeline.score.probes import Probe

__all__ = [
    "Calibration",
    "Line",
    "Prediction",
    "features",
    "fit_line",
    "predict",
    "read_calibration",
    "write_calibration",
]

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
class Line:
    """A line over `features`.

    Attributes:
        weights: one per feature.
        low, high: what must be added for the interval.
        probes, targets: that it was fitted on.
    """

    weights: tuple[float, ...]
    low: float
    high: float
    probes: int
    targets: int


@dataclass(frozen=True)
class Calibration:
    """A line for probes of the first round, of every arm, and one for the second, longer one, of the best arms."""

    first: Line
    second: Line


def features(probes: Sequence[Probe]) -> list[list[float]]:
    """What predictions of the arms of one round are made from: a row per probe.

    A constant, the root of its AP, and the root of the best AP of the round times the share of the network's work that
    learns: 1 where nothing is frozen.
    """
    best = max(probe.ap50 for probe in probes) ** 0.5
    return [[1.0, probe.ap50**0.5, best * probe.arm.unit.learning] for probe in probes]


def predict(line: Line | None, probes: Sequence[Probe]) -> list[Prediction | None]:
    """Predict the end of every arm of a round; None without a line."""
    if line is None:
        return [None] * len(probes)
    found: list[Prediction | None] = []
    for row in features(probes):
        ap50 = float(np.dot(line.weights, row))
        found.append(Prediction(_clipped(ap50), _clipped(ap50 + line.low), _clipped(ap50 + line.high)))
    return found


def fit_line(rows: Sequence[Sequence[float]], ends: Sequence[float], groups: Sequence[str]) -> Line:
    """Fit a line; the interval is of errors on groups (targets) that were left out of the fit.

    rows: `features` of each probe. ends: AP at the end of the whole training. groups: the target of each.
    """
    x, y, group = np.array(rows), np.array(ends), np.array(groups)
    errors = np.concatenate(
        [y[group == one] - x[group == one] @ _fit(x[group != one], y[group != one]) for one in np.unique(group)]
    )
    low, high = np.quantile(errors, [(1 - _COVERED) / 2, (1 + _COVERED) / 2])
    weights = tuple(float(weight) for weight in _fit(x, y))
    return Line(weights, float(low), float(high), len(y), len(np.unique(group)))


def read_calibration() -> Calibration | None:
    """The calibration that comes with the project; None where there is none."""
    if not _FILE.is_file():
        return None
    content = json.loads(_FILE.read_text())
    first, second = (Line(**line | {"weights": tuple(line["weights"])}) for line in map(content.get, _ROUNDS))
    return Calibration(first, second)


def write_calibration(calibration: Calibration, path: Path = _FILE) -> None:
    """Make it the one that comes with the project."""
    write_json(path, asdict(calibration))


_ROUNDS = ("first", "second")


def _fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Ridge regression; the constant is not shrunk."""
    penalty = _RIDGE * np.eye(x.shape[1])
    penalty[0, 0] = 0
    solved: np.ndarray = np.linalg.solve(x.T @ x + penalty, x.T @ y)
    return solved


def _clipped(value: float) -> float:
    return min(1.0, max(0.0, value))
