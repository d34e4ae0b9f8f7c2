"""What the chosen trial finds on val: precision over recall, detections, and the worst errors, on real pictures.

The detector runs once; what it found is kept beside the report, and taken again as long as weights and pictures are the
same.
"""

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy.frame import Detections
from pipeline.curated import LabelledImage
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.photos import read_rgb
from pipeline.report.blocks import Frame, Frames, Line, Plot, Section, Text
from pipeline.report.evidence import Evidence, FoundTrial
from pipeline.report.judge import judge, precision_over_recall
from pipeline.train.metrics import COUNTED, average_precision, detect
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.train.pairing import Pair

__all__ = ["Progress", "detections_section"]

Progress = Callable[[int, int], None]  # pictures done, pictures in all

_MOST_PICTURES = 256  # of val
_SHOWN = 6  # of detections, and as many of errors
_SIDE = 480  # pixels of the longer side of a picture on the page
_JPEG_QUALITY = 70
_BATCH = 32
_CURVE_POINTS = 101


def detections_section(evidence: Evidence, kept: Path, progress: Progress | None = None) -> Section:
    """Precision over recall, and pictures, of the best trial of the chosen arm. kept: the file of what it found."""
    trial = evidence.target.best_trial(evidence.target.best)
    data = evidence.experiment.data[evidence.target.stage.data].path
    try:
        pair = _pair(trial, data, evidence.workspace)
        pictures = _chosen(pair.images)
        found = _found(pair, pictures, kept, progress)
    except UserError as error:
        told = f"No detections: {error}."
        return Section("detections", "Detections and errors on val", missing=(told,))
    count = len(pair.images)
    every = f"the {count}" if len(pictures) == count else f"{len(pictures)} of the {count}"
    text = f"{trial.settings.stage}/{trial.settings.trial}, the best seed, on {every} pictures of val, at IoU 0.5."
    plot = _curve(found, pictures, pair.data.classes)
    return Section("detections", "Detections and errors on val", (Text(text), plot, *_frames(found, pictures, pair)))


def _pair(trial: FoundTrial, data: Path | None, workspace: Workspace) -> "Pair":
    from pipeline.train.pairing import Wish, read_pair

    return read_pair(Wish(str(trial.folder.root), data=data), workspace)


def _chosen(images: Sequence[LabelledImage]) -> tuple[LabelledImage, ...]:
    """At most `_MOST_PICTURES`, evenly spread."""
    return tuple(images[:: -(-len(images) // _MOST_PICTURES)])


def _found(pair: "Pair", pictures: Sequence[LabelledImage], kept: Path, progress: Progress | None) -> list[Detections]:
    """Detections of every picture, from `kept` if they are of these weights and pictures, or else kept there."""
    assert pair.trial is not None
    assert pair.trial.result is not None
    key = {
        "weights_sha256": pair.trial.result.best_weights_sha256,
        "data_hash": pair.data_hash,
        "pictures": [picture.image_id for picture in pictures],
    }
    before = _read(kept)
    if before is not None and before["of"] == key:
        return [_detections(rows) for rows in before["found"]]
    rows = [_rows(one) for one in _detect(pair, pictures, progress)]
    write_json(kept, {"of": key, "found": rows})
    return [_detections(one) for one in rows]


def _read(kept: Path) -> dict[str, Any] | None:
    """None where there is nothing, or nothing of ours: it is measured again."""
    try:
        content = json.loads(kept.read_text(encoding="utf-8"))
        content["of"], content["found"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return dict(content)


def _detect(pair: "Pair", pictures: Sequence[LabelledImage], progress: Progress | None) -> list[Detections]:
    import torch

    from pipeline.train.dataset import load_images

    detector = pair.detector.to("cuda" if torch.cuda.is_available() else "cpu")
    found: list[Detections] = []
    for start in range(0, len(pictures), _BATCH):
        part = load_images(pictures[start : start + _BATCH], detector.width, detector.height, pair.resize)
        found += detect(detector, part, _BATCH)
        if progress:
            progress(len(found), len(pictures))
    return found


def _rows(found: Detections) -> list[list[float]]:
    """x, y, x, y in hundredths of a pixel, score in ten-thousandths, class."""
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True)
    return [[*(round(value, 2) for value in box), round(score, 4), index] for box, score, index in rows]


def _detections(rows: Sequence[Sequence[float]]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


def _curve(found: Sequence[Detections], pictures: Sequence[LabelledImage], classes: Sequence[str]) -> Plot:
    """Precision over recall, a line per class, at `_CURVE_POINTS` recalls: the envelope, whose area is AP."""
    recalls = np.linspace(0, 1, _CURVE_POINTS)
    aps = average_precision(found, pictures, len(classes))
    lines = []
    for index, name in enumerate(classes):
        rows = np.array(precision_over_recall(found, pictures, index)).reshape(-1, 3)
        if np.isnan(aps[index]):
            continue
        best = [rows[rows[:, 0] >= recall - 1e-9, 1] for recall in recalls]
        values = tuple(100 * float(one.max()) if len(one) else None for one in best)
        lines.append(Line(f"{name}, AP {100 * aps[index]:.1f} %", values, index, index))
    told = "How many detections are right, over how many objects are found, as the score threshold falls."
    x = tuple(round(100 * float(recall), 6) for recall in recalls)
    return Plot("precision", "Precision over recall", told, "recall, %", "precision, %", x, tuple(lines), (0, 100))


def _frames(found: Sequence[Detections], pictures: Sequence[LabelledImage], pair: "Pair") -> list[Frames]:
    """The worst errors, and of the pictures without one some that are spread over val."""
    errors = [_error(one, picture) for one, picture in zip(found, pictures, strict=True)]
    worst = [place for place in sorted(range(len(errors)), key=lambda place: -errors[place]) if errors[place] > 0]
    right = [place for place, error in enumerate(errors) if error == 0 and len(pictures[place].boxes)]
    right = right[:: -(-len(right) // _SHOWN)] if right else []
    groups = (
        (f"Without an error, {errors.count(0)} of {len(errors)} pictures", right),
        ("Worst errors: wrong with the highest scores, and missed", worst[:_SHOWN]),
    )
    classes = pair.data.classes
    return [
        Frames(title, tuple(_frame(found[place], pictures[place], classes) for place in places))
        for title, places in groups
        if places
    ]


def _error(found: Detections, picture: LabelledImage) -> float:
    """Scores of what is wrong, and 1 for each label that was missed."""
    judged = judge(found, picture, COUNTED)
    wrong = (found.scores > COUNTED) & ~judged.is_right
    return float(found.scores[wrong].sum()) + float((~judged.is_found).sum())


def _frame(found: Detections, picture: LabelledImage, classes: Sequence[str]) -> Frame:
    judged = judge(found, picture, COUNTED)
    boxes: list[tuple[str, str, tuple[float, float, float, float]]] = []
    for box, index, is_found in zip(picture.boxes.tolist(), picture.classes, judged.is_found, strict=True):
        kind, words = ("label", "") if is_found else ("missed", str(classes[index]))
        boxes.append((kind, words, (box[0], box[1], box[2], box[3])))
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.classes, judged.is_right, strict=True)
    for box, score, index, is_right in rows:
        if score > COUNTED:
            words = f"{classes[index]} {100 * score:.0f} %"
            boxes.append(("right" if is_right else "wrong", words, (box[0], box[1], box[2], box[3])))
    told = "; ".join(f"{kind}: {words}" for kind, words, _ in boxes if words) or "nothing there, nothing found"
    return Frame(picture.image_id, _jpeg(picture.path), picture.width, picture.height, tuple(boxes), told)


def _jpeg(photo: Path) -> str:
    """A small copy as a data URI."""
    import cv2

    image = read_rgb(photo)
    scale = min(1.0, _SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()
