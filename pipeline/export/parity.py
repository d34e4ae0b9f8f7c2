"""Whether others compute what the trained detector does: the same pictures through all of them, compared and judged.

Knows nothing of how anyone computes, nor of what becomes of the verdict.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy.decode import detections_from_network
from deploy.frame import Detections
from deploy.nms import iou
from deploy.resize import Placement
from pipeline.errors import refuse
from pipeline.export.runners import Outputs, Runner
from pipeline.train.dataset import load_images
from pipeline.train.metrics import COUNTED, NMS_THRESHOLD, SCORE_THRESHOLD, average_precision

if TYPE_CHECKING:
    from pipeline.curated import LabelledImage

__all__ = ["LIMITS", "Candidate", "Comparison", "Differences", "Parity", "Progress", "check_parity"]

Progress = Callable[[int, int], None]  # pictures done, pictures in all

_PICTURES_AT_ONCE = 16  # in memory
_WITH_HEADS = 8  # pictures whose raw heads are compared too
_PARTNER_IOU, _PARTNER_SCORE = 0.9, 0.2
_SAME_SCORE = 1e-4  # nearer than this, rounding alone may tell which of two detections is the surer


@dataclass(frozen=True)
class Differences:
    """How far one runner is from another: what was found, or in `LIMITS` the most that a precision explains.

    Attributes:
        heads: of any value of a raw head, over the root mean square of that head.
        score: of any score, 0 to 1.
        box: of any side of a box that scores above 0.005 on either side, in pixels of the network's input; of a box
            that is larger than the input, as if it were as large.
        ap50: of AP at IoU 0.5, of any class; detections of different pictures whose scores are nearer than 0.0001
            do not change places for it.
        unmatched: share of the detections above 0.25 that have no partner of their class at IoU 0.9 on the other side.
    """

    heads: float
    score: float
    box: float
    ap50: float
    unmatched: float


# What rounding explains, with room; a swapped channel or a wrong anchor is a thousand times larger.
LIMITS = {
    "fp32": Differences(heads=1e-4, score=1e-4, box=0.05, ap50=0.001, unmatched=0.0),
    "fp16": Differences(heads=0.1, score=0.03, box=3.0, ap50=0.005, unmatched=0.03),
    "int8": Differences(heads=1.0, score=0.3, box=20.0, ap50=0.02, unmatched=0.15),
}


@dataclass(frozen=True)
class Candidate:
    """A runner that must give what the detector gives, as far as its precision can."""

    runner: Runner
    precision: str


@dataclass(frozen=True)
class Comparison:
    """The largest differences found between `against` and the trained detector, and the limits that they keep."""

    against: str
    precision: str
    found: Differences
    limits: Differences

    @property
    def passed(self) -> str | None:
        """The first limit that is passed, by name; None where all are kept."""
        names = asdict(self.limits)
        return next((name for name in names if not getattr(self.found, name) <= names[name]), None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, rounded so that the noise of the last digit does not change a bundle."""
        found = {name: float(f"{value:.2g}") for name, value in asdict(self.found).items()}
        return {"against": self.against, "precision": self.precision, **found, "limits": asdict(self.limits)}


@dataclass(frozen=True)
class Parity:
    """The verdict, every limit being kept.

    Attributes:
        reference: what the others were compared with.
        pictures: how many, all with labels. available: how many there would have been.
        objects: on them. ap50_step: what one detection more or less can change the AP of a class by, 1 over the objects
            of the class that has the fewest: an ap50 below it says nothing, one at it may be a single flip.
        ap50: of the reference on them, mean over the classes that have boxes.
        comparisons: one per candidate.
        left_out: who was not asked, and why.
    """

    reference: str
    pictures: int
    available: int
    objects: int
    ap50_step: float
    ap50: float
    comparisons: tuple[Comparison, ...]
    left_out: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "reference": self.reference,
            "pictures": self.pictures,
            "available": self.available,
            "objects": self.objects,
            "ap50_step": float(f"{self.ap50_step:.2g}"),
            "ap50": float(f"{self.ap50:.4g}"),
            "comparisons": [one.as_dict() for one in self.comparisons],
            "left_out": list(self.left_out),
        }


@dataclass
class _Tally:
    """What is known of one candidate so far.

    worst: the image (1, 3, H, W) whose heads, scores or boxes come farthest over a limit, and how many times.
    """

    limits: Differences
    heads: float = 0.0
    score: float = 0.0
    box: float = 0.0
    unmatched: int = 0
    detections: list[Detections] = field(default_factory=list)
    worst: tuple[float, np.ndarray] | None = None

    def add(self, image: np.ndarray, truth: Outputs, other: Outputs, found: tuple[Detections, Detections]) -> None:
        """Compare one picture. found: detections of the reference and of the candidate."""
        if other.boxes.shape != truth.boxes.shape or other.scores.shape != truth.scores.shape:
            raise AssertionError("a runner gives another number of boxes")
        pairs = zip(truth.heads, other.heads, strict=True) if other.heads else ()
        heads = max((_relative(a, b) for a, b in pairs), default=0.0)
        score = _largest(truth.scores - other.scores)
        box = _box_difference(truth, other, image.shape[2:])
        self.heads, self.score, self.box = max(self.heads, heads), max(self.score, score), max(self.box, box)
        self.unmatched += _unmatched(*found) + _unmatched(*reversed(found))
        self.detections.append(found[1])
        times = max(heads / self.limits.heads, score / self.limits.score, box / self.limits.box)
        if self.worst is None or times > self.worst[0]:
            self.worst = (times, image)


def check_parity(
    reference: Runner,
    candidates: Sequence[Candidate],
    images: Sequence["LabelledImage"],
    size: tuple[int, int],
    resize: str,
    classes: int,
    left_out: Sequence[str] = (),
    progress: Progress | None = None,
) -> Parity:
    """Run every picture through all and compare. size: width and height of the input, pixels.

    Raises:
        UserError: a limit is passed; the message names it, and the first layer that departs.
    """
    tallies = [_Tally(LIMITS[candidate.precision]) for candidate in candidates]
    truths = _run_all(reference, list(zip(candidates, tallies, strict=True)), images, size, resize, progress)
    per_class = average_precision(truths, images, classes)
    comparisons = []
    for candidate, tally in zip(candidates, tallies, strict=True):
        ranked = [_ranked_alike(*pair) for pair in zip(tally.detections, truths, strict=True)]
        found = _differences(tally, truths, per_class, average_precision(ranked, images, classes))
        comparison = Comparison(candidate.runner.name, candidate.precision, found, tally.limits)
        _require_kept(comparison, reference, candidate.runner, tally, size)
        comparisons.append(comparison)
    numbers = Counter(int(index) for image in images for index in image.classes)
    return Parity(
        reference=reference.name,
        pictures=len(images),
        available=len(images),
        objects=numbers.total(),
        ap50_step=1 / min(numbers.values(), default=1),
        ap50=_mean(per_class),
        comparisons=tuple(comparisons),
        left_out=tuple(left_out),
    )


def _run_all(
    reference: Runner,
    candidates: Sequence[tuple[Candidate, _Tally]],
    images: Sequence["LabelledImage"],
    size: tuple[int, int],
    resize: str,
    progress: Progress | None,
) -> list[Detections]:
    """Run every picture through all, and keep how far each is from the reference, whose detections are returned."""
    truths: list[Detections] = []
    for start in range(0, len(images), _PICTURES_AT_ONCE):
        data = load_images(images[start : start + _PICTURES_AT_ONCE], *size, resize)
        for index, placement in enumerate(data.placements):
            image = (data.images[index : index + 1].float() / 255).numpy()
            with_heads = start + index < _WITH_HEADS
            truth = reference.run(image, with_heads)
            truths.append(_detections(truth, placement))
            for candidate, tally in candidates:
                other = candidate.runner.run(image, with_heads)
                tally.add(image, truth, other, (truths[-1], _detections(other, placement)))
            if progress:
                progress(start + index + 1, len(images))
    return truths


def _detections(outputs: Outputs, placement: Placement) -> Detections:
    return detections_from_network(outputs.boxes, outputs.scores, SCORE_THRESHOLD, NMS_THRESHOLD, placement)


def _ranked_alike(detections: Detections, truths: Detections) -> Detections:
    """The detections of one picture, with the score of their partner where rounding alone tells the two apart.

    AP asks only which of two detections is the surer, and on few pictures one such pair is worth more than its limit.
    """
    scores = detections.scores.copy()
    for index, (box, score, class_index) in enumerate(zip(*detections, strict=True)):
        is_same = (truths.classes == class_index) & (np.abs(truths.scores - score) < _SAME_SCORE)
        overlaps = np.where(is_same, iou(box[None], truths.boxes), 0.0).ravel()
        if overlaps.max(initial=0.0) > _PARTNER_IOU:
            scores[index] = truths.scores[overlaps.argmax()]
    return detections._replace(scores=scores)


def _differences(
    tally: _Tally, truths: Sequence[Detections], before: Sequence[float], after: Sequence[float]
) -> Differences:
    counted = sum(int((found.scores > COUNTED).sum()) for found in (*truths, *tally.detections))
    ap50 = _largest(np.nan_to_num(np.array(before) - np.array(after)))
    return Differences(tally.heads, tally.score, tally.box, ap50, tally.unmatched / max(1, counted))


def _require_kept(
    comparison: Comparison, reference: Runner, runner: Runner, tally: _Tally, size: tuple[int, int]
) -> None:
    """Refuse a comparison that passes a limit, with the first layer that departs on the worst picture."""
    name = comparison.passed
    if name is None:
        return
    assert tally.worst is not None
    found, limit = getattr(comparison.found, name), getattr(comparison.limits, name)
    departs = _first_departure(reference, runner, tally.worst[1], comparison.limits.heads)
    pair = f"{reference.name} and {runner.name} ({comparison.precision}) at {size[0]}x{size[1]}"
    raise refuse("export", f"{pair} differ: {name} {found:.3g}, limit {limit:g}", f"{departs}; nothing was written")


def _first_departure(reference: Runner, runner: Runner, image: np.ndarray, limit: float) -> str:
    """In words: the first layer whose output differs by more than the limit, over its root mean square."""
    others = runner.taps(image)
    if not others:
        return f"the layers of {runner.name} cannot be looked at"
    for name, values in reference.taps(image).items():
        difference = _relative(values, others[name])
        if not difference <= limit:
            return f"first departs layer {name}, by {difference:.2g} of its root mean square"
    return "no layer departs; it is in the decoding of the boxes"


def _relative(values: np.ndarray, others: np.ndarray) -> float:
    size = float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
    return _largest(values - others) / max(size, 1e-12)


def _largest(differences: np.ndarray) -> float:
    """Largest absolute value; infinity where there is a NaN, which no limit lets pass."""
    largest = float(np.abs(differences).max(initial=0.0))
    return largest if np.isfinite(largest) else float("inf")


def _box_difference(truth: Outputs, other: Outputs, shape: tuple[int, ...]) -> float:
    matters = np.maximum(truth.scores, other.scores).max(axis=1) > SCORE_THRESHOLD
    boxes, others = truth.boxes[matters], other.boxes[matters]
    sizes = np.abs(boxes).max(axis=1, initial=0.0, keepdims=True)
    return _largest((boxes - others) / np.maximum(1.0, sizes / max(shape)))


def _unmatched(detections: Detections, others: Detections) -> int:
    """Detections above 0.25 without a partner."""
    count = 0
    for box, score, index in zip(*detections, strict=True):
        partners = others.boxes[(others.classes == index) & (others.scores > _PARTNER_SCORE)]
        if score > COUNTED and not (iou(box[None], partners) > _PARTNER_IOU).any():
            count += 1
    return count


def _mean(per_class: Sequence[float]) -> float:
    known = [value for value in per_class if not np.isnan(value)]
    return float(np.mean(known)) if known else 0.0
