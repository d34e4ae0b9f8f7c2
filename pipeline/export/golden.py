"""Chooses the golden frames of a bundle from the val split, computes what each model must give on them, and asks again.

Everything is computed by the code that flies, in ONNX Runtime. How frames are checked is in `deploy.golden`.
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deploy.backends import OnnxRuntimeBackend
from deploy.bundle import Bundle
from deploy.errors import UserError
from deploy.frame import Detections
from deploy.golden import (
    TOLERANCES,
    Golden,
    GoldenFrame,
    GoldenReport,
    How,
    check_golden,
    compare,
    detect_frame,
    golden_json,
)
from deploy.manifest import COLOUR_ORDER, GOLDEN, Model
from deploy.pictures import read_picture
from deploy.strict_json import canonical_json
from pipeline.curated import LabelledImage

__all__ = ["golden_files", "run_golden"]

_WITH_OBJECTS = 3
_CANDIDATES = 64  # with objects, of the val split, in its order
_LONGEST_SIDE = 1280  # pixels; larger photos are scaled down
# Where a model finds nothing at the threshold it flies with, a lower one is taken: something must be compared.
_LOWER_THRESHOLDS = (0.1, 0.05, 0.02, 0.005)


@dataclass(frozen=True)
class _Candidate:
    image_id: str
    frame: np.ndarray
    best: float  # score of the first model


def golden_files(
    models: Mapping[Model, bytes],
    images: Sequence[LabelledImage],
    resize_mode: str,
    score_threshold: float,
    nms_threshold: float,
) -> dict[str, bytes]:
    """Files of golden/, by name: up to three frames with objects, on which the first model is surest, and one without.

    models: with the content of each file, the default first. images: the val split.

    A model that finds nothing anywhere has golden frames all the same; they say themselves that they prove little.
    """
    with tempfile.TemporaryDirectory() as folder:
        runners = [_runner(Path(folder), model, data, resize_mode, nms_threshold) for model, data in models.items()]
        chosen = _choose(runners[0], images)
        threshold = _threshold(max(candidate.best for candidate in chosen), score_threshold)
        frames = []
        files = {}
        for number, candidate in enumerate(chosen):
            name = f"frame-{number}.png"
            height, width = candidate.frame.shape[:2]
            expected = {runner.model.file: runner.detect(candidate.frame, threshold) for runner in runners}
            frames.append(GoldenFrame(name, width, height, candidate.image_id, expected))
            files[f"golden/{name}"] = _png(candidate.frame)
        tells = any(
            _tells_red_from_blue(runners[0], frame, candidate.frame, threshold)
            for frame, candidate in zip(frames, chosen, strict=True)
        )
    files[GOLDEN] = canonical_json(golden_json(Golden(threshold, TOLERANCES, tells, tuple(frames))))
    return files


def run_golden(bundle: Bundle) -> list[GoldenReport]:
    """What each model of a bundle finds on its golden frames, as `skylight bundle verify --golden` asks for.

    Raises:
        UserError: a frame on which one departs from what it must give, and by how much.
    """
    chosen = [bundle.with_model(model.file) for model in bundle.models]
    return [check_golden(one, OnnxRuntimeBackend(one.model)) for one in chosen]


@dataclass(frozen=True)
class _Runner:
    """One model, as it flies."""

    model: Model
    how: How
    backend: OnnxRuntimeBackend

    def detect(self, frame: np.ndarray, threshold: float) -> Detections:
        """Detections in (H, W, 3) uint8 BGR."""
        return detect_frame(self.how, self.backend, frame, threshold)


def _runner(folder: Path, model: Model, data: bytes, resize_mode: str, nms_threshold: float) -> _Runner:
    (folder / model.file).write_bytes(data)
    how = How(model.width, model.height, resize_mode, COLOUR_ORDER, nms_threshold)
    return _Runner(model, how, OnnxRuntimeBackend(folder / model.file))


def _choose(runner: _Runner, images: Sequence[LabelledImage]) -> list[_Candidate]:
    """Those with objects on which the model is surest, then the first without; equal ones in the order of val."""
    with_objects = [image for image in images if len(image.boxes)][:_CANDIDATES]
    candidates = [_candidate(runner, image) for image in with_objects]
    best = sorted(candidates, key=lambda candidate: -candidate.best)[:_WITH_OBJECTS]
    without = [image for image in images if not len(image.boxes)][:1]
    return best + [_candidate(runner, image) for image in without]


def _candidate(runner: _Runner, image: LabelledImage) -> _Candidate:
    frame = _at_most(read_picture(image.path), _LONGEST_SIDE)
    scores = runner.detect(frame, min(_LOWER_THRESHOLDS)).scores
    return _Candidate(image.image_id, frame, float(scores.max(initial=0.0)))


def _threshold(best: float, flying: float) -> float:
    """The highest of a few thresholds above which something is found, from the one it flies with down."""
    thresholds = [flying, *(value for value in _LOWER_THRESHOLDS if value < flying)]
    return next((value for value in thresholds if best > value), thresholds[-1])


def _at_most(image: np.ndarray, side: int) -> np.ndarray:
    """Scale (H, W, 3) down until no side is longer than `side` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def _tells_red_from_blue(runner: _Runner, frame: GoldenFrame, image: np.ndarray, threshold: float) -> bool:
    tolerance = TOLERANCES[runner.model.precision]
    swapped = runner.detect(np.ascontiguousarray(image[..., ::-1]), threshold - tolerance.score)
    with suppress(UserError):
        compare(frame.expected[runner.model.file], swapped, threshold, tolerance)
        return False
    return True
