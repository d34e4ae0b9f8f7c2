"""The golden frames of a bundle: pictures, and the detections that its models must give, wherever they run.

    golden/golden.json      score_threshold; tolerances per precision; tells_red_from_blue; frames: file, width, height
                            (pixels), image (where it is from), and per model file the detections: class, score, box
    golden/NAME.png         a frame, lossless

What a wrong conversion, a swapped channel or another resize changes shows here, on the very board that is to fly.
Knows nothing of how the frames were chosen.
"""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from deploy.bundle import Bundle
from deploy.decode import detections_from_network
from deploy.errors import UserError, refuse
from deploy.frame import Detections
from deploy.manifest import GOLDEN, PRECISIONS
from deploy.nms import iou
from deploy.pictures import read_picture
from deploy.resize import network_input
from deploy.strict_json import parse_json, short

_SIDE_LIMIT = 4096  # pixels
_AGAIN = "export the bundle again"


class Tolerance(NamedTuple):
    """How far a detection may be from what it must be. score: difference, 0 to 1. iou: with the box it must be, least.

    A detection may be lost or new within `score` of the threshold.
    """

    score: float
    iou: float


# float32 differs by rounding, and by what OpenCV's resize of another processor rounds otherwise. Half precision has 11
# bits, so that of two boxes over one object the other may win; 8-bit integers move every score.
TOLERANCES = {
    "fp32": Tolerance(score=0.02, iou=0.9),
    "fp16": Tolerance(score=0.05, iou=0.7),
    "int8": Tolerance(score=0.2, iou=0.5),
}


class How(NamedTuple):
    """How a frame is fed to a model and boxes are kept. width, height: of the input, pixels. nms_threshold: 0 to 1."""

    width: int
    height: int
    resize_mode: str
    colour_order: str
    nms_threshold: float

    @classmethod
    def of(cls, bundle: Bundle) -> "How":
        """As the first model of a bundle flies."""
        return cls(bundle.width, bundle.height, bundle.resize_mode, bundle.colour_order, bundle.nms_threshold)


class GoldenFrame(NamedTuple):
    """file: inside golden/. width, height: pixels. expected: by model file, in pixels of the frame."""

    file: str
    width: int
    height: int
    image: str
    expected: Dict[str, Detections]


class Golden(NamedTuple):
    """What golden.json says. tells_red_from_blue: whether swapped channels would be noticed."""

    score_threshold: float
    tolerances: Dict[str, Tolerance]
    tells_red_from_blue: bool
    frames: Tuple[GoldenFrame, ...]


class GoldenReport(NamedTuple):
    """What was checked, and the worst that was found. score: difference. iou: least.

    detections: that must be found; those nearer to the threshold than the tolerance prove nothing and do not count.
    """

    model: str
    precision: str
    frames: int
    detections: int
    score: float
    iou: float
    tells_red_from_blue: bool

    @property
    def text(self) -> str:
        """The same in a line."""
        text = "{} in {}: {} golden frames, {} detections, scores at most {:.4f} away, IoU at least {:.3f}"
        return text.format(self.model, self.precision, self.frames, self.detections, self.score, self.iou)


def check_golden(bundle: Bundle, backend: Any) -> GoldenReport:
    """Run every golden frame through `backend`, which holds the model of `bundle`, and compare.

    backend: has `infer`; and `precision`, where an engine was built for another one than the model's.
    Raises UserError that names the frame and says by how much it departs.
    """
    golden = read_golden(bundle)
    model = bundle.models[0]
    precision = getattr(backend, "precision", None) or model.precision
    tolerance = golden.tolerances[precision]
    count, score, overlap = 0, 0.0, 1.0
    for frame in golden.frames:
        path = bundle.root / "golden" / frame.file
        expected = frame.expected[model.file]
        image = _read_frame(path, frame)
        found = detect_frame(How.of(bundle), backend, image, golden.score_threshold - tolerance.score)
        try:
            worst = compare(expected, found, golden.score_threshold, tolerance)
        except UserError as error:
            allowed = "{} allows a score {:g} away and an IoU of {:g}".format(precision, *tolerance)
            raise refuse(path, "{} on {}".format(error, model.file), allowed + "; do not fly it") from None
        count += int((expected.scores > golden.score_threshold + tolerance.score).sum())
        score, overlap = max(score, worst[0]), min(overlap, worst[1])
    return GoldenReport(model.file, precision, len(golden.frames), count, score, overlap, golden.tells_red_from_blue)


def detect_frame(how: How, backend: Any, image: np.ndarray, threshold: float) -> Detections:
    """Detections in (H, W, 3) uint8 BGR, exactly as in flight but for the threshold; at least 1e-6."""
    tensor, placement = network_input(image, how.width, how.height, how.resize_mode, how.colour_order)
    boxes, scores = backend.infer(tensor)
    return detections_from_network(boxes, scores, max(threshold, 1e-6), how.nms_threshold, placement)


def compare(expected: Detections, found: Detections, threshold: float, tolerance: Tolerance) -> Tuple[float, float]:
    """Largest difference of score and least IoU between what must be found and what was.

    Raises UserError that says which detection departs by how much.
    """
    free = np.ones(len(found.scores), bool)
    worst_score, worst_iou = 0.0, 1.0
    for box, score, index in zip(*expected):
        overlaps = np.where(free & (found.classes == index), iou(box[None], found.boxes)[0], -1.0)
        best = int(overlaps.argmax()) if len(overlaps) else -1
        if best < 0 or overlaps[best] < tolerance.iou:
            if score <= threshold + tolerance.score:
                continue
            nearest = "nothing of its class" if best < 0 or overlaps[best] <= 0 else "IoU {:.3f}".format(overlaps[best])
            raise UserError("class {} with score {:.3f} is not found, at most {}".format(index, score, nearest))
        difference = abs(float(found.scores[best]) - float(score))
        if difference > tolerance.score:
            text = "class {} has score {:.3f} instead of {:.3f}, {:.3f} away"
            raise UserError(text.format(index, found.scores[best], score, difference))
        free[best] = False
        worst_score, worst_iou = max(worst_score, difference), min(worst_iou, float(overlaps[best]))
    for score, index in zip(found.scores[free], found.classes[free]):
        if score > threshold + tolerance.score:
            above = float(score) - threshold
            text = "class {} with score {:.3f} is found where nothing must be, {:.3f} above the threshold"
            raise UserError(text.format(index, score, above))
    return worst_score, worst_iou


def read_golden(bundle: Bundle) -> Golden:
    """Read golden.json of a bundle that was read. Raises UserError where it is not what export writes."""
    path = bundle.root / GOLDEN
    if GOLDEN not in bundle.files:
        raise refuse(bundle.root, "has no golden frames", _AGAIN)
    try:
        content = parse_json(path.read_bytes())
        golden = _golden(content)
    except ValueError as error:
        raise refuse(path, "is no JSON to rely on: {}".format(error), _AGAIN) from None
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError):
        raise refuse(path, "is not what skylight export writes", _AGAIN) from None
    for frame in golden.frames:
        if "golden/" + frame.file not in bundle.files:
            raise refuse(path, "names {}, which is not there".format(short(frame.file)), _AGAIN)
        for model in bundle.models:
            _check_expected(path, frame, model.file, len(bundle.classes))
    return golden


def golden_json(golden: Golden) -> Dict[str, Any]:
    """The content of golden.json, for `canonical_json`."""
    frames = [
        dict(frame._asdict(), expected={file: _rows(found) for file, found in frame.expected.items()})
        for frame in golden.frames
    ]
    tolerances = {precision: dict(tolerance._asdict()) for precision, tolerance in golden.tolerances.items()}
    return dict(golden._asdict(), tolerances=tolerances, frames=frames)


def _golden(content: Dict[str, Any]) -> Golden:
    if set(content) != set(Golden._fields) or not content["frames"]:
        raise TypeError
    tolerances = {precision: _tolerance(content["tolerances"][precision]) for precision in PRECISIONS}
    frames = []
    for about in content["frames"]:
        expected = {file: _detections(rows) for file, rows in about["expected"].items()}
        frame = GoldenFrame(**dict(about, expected=expected))
        if not isinstance(frame.file, str) or not isinstance(frame.image, str):
            raise TypeError
        frames.append(frame)
    return Golden(float(content["score_threshold"]), tolerances, content["tells_red_from_blue"] is True, tuple(frames))


def _tolerance(about: Dict[str, Any]) -> Tolerance:
    return Tolerance(**{name: float(value) for name, value in about.items()})


def _check_expected(path: Path, frame: GoldenFrame, model: str, classes: int) -> None:
    if model not in frame.expected:
        raise refuse(path, "{} says nothing of {}".format(short(frame.file), model), _AGAIN)
    found = frame.expected[model]
    is_shaped = found.scores.shape == found.classes.shape == (len(found.boxes),)
    if not is_shaped or not ((found.classes >= 0) & (found.classes < classes)).all():
        raise refuse(path, "{}: no detections of this bundle's classes".format(short(frame.file)), _AGAIN)


def _rows(found: Detections) -> List[Dict[str, Any]]:
    return [
        {"class": int(index), "score": round(float(score), 5), "box": [round(float(value), 2) for value in box]}
        for box, score, index in zip(*found)
    ]


def _detections(rows: List[Dict[str, Any]]) -> Detections:
    return Detections(
        np.array([row["box"] for row in rows], np.float32).reshape(-1, 4),
        np.array([row["score"] for row in rows], np.float32),
        np.array([row["class"] for row in rows], np.int64),
    )


def _read_frame(path: Path, frame: GoldenFrame) -> np.ndarray:
    """Read a PNG, after its header (PNG specification, 5.3 and 11.2.2) said that it is as large as it should be."""
    with path.open("rb") as file:
        head = file.read(24)
    size = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    is_small = 0 < max(size) <= _SIDE_LIMIT and min(size) > 0
    if not head.startswith(b"\x89PNG") or not is_small or size != (frame.width, frame.height):
        what = "is no PNG of {}x{} pixels, but {}x{}".format(short(frame.width), short(frame.height), *size)
        raise refuse(path, what, _AGAIN)
    return read_picture(path)
