"""What networks that never saw an image say about its labels, as scores: shifted, missing and merged boxes.

It reads predictions and trains nothing; `pipeline.crosscheck` makes them. An image whose photo or boxes are no longer
those that were judged has no score, so an old file of predictions can say too little, never something wrong.

Columns of `predictions.parquet`: labels_key (see `labels_key`); kind, `label` for a given box or `prediction` for one
that a detector found; number (of the given box, in the order of the source; of the prediction, best first); class (of
the recipe's); x1, y1, x2, y2 (fractions of the photo); score (of a prediction, 0 to 1); shift_x, shift_y (how far a
given box lies beside its object, in box sides), object (log odds that there is one).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from deploy.nms import iou
from pipeline.curate.decisions import Decisions
from pipeline.curate.rules import boxes_by_image
from pipeline.curate.scorecache import cache_key
from pipeline.errors import refuse
from pipeline.files import new_file

__all__ = ["ImagePredictions", "Predictions", "labels_key", "read_predictions", "score_labels", "write_predictions"]

_SAME_PLACE = 0.1  # IoU: a prediction that touches every label less than this has an object of its own
_SEPARATE = 0.3  # IoU: predictions that overlap less are of two objects
_LEAST_SURE = 0.3  # of 1: what is less likely is noise, of which a photo has more than objects
_UNSEEN = 0.6  # edge support of a side on the border: what a side has in the middle
_OF_BOXES = ("shift_x", "shift_y", "misplacement", "cleanlab_badloc")
_INSIDE = 0.8  # of a prediction, for it to lie inside a box
_COLUMNS = {"labels_key": "VARCHAR", "kind": "VARCHAR", "number": "BIGINT", "class": "BIGINT"}
_COLUMNS |= dict.fromkeys(("x1", "y1", "x2", "y2", "score", "shift_x", "shift_y", "object"), "DOUBLE")


@dataclass(frozen=True)
class ImagePredictions:
    """What is predicted about one image.

    shifts: (n, 2) float64, of its n given boxes, in box sides. boxes: (P, 4) float64, xyxy as fractions; scores: (P,),
    0 to 1; classes: (P,) int64; objects: (P,) log odds that a second network gives to there being an object.
    """

    shifts: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    objects: np.ndarray


Predictions = dict[str, ImagePredictions]  # by labels_key


def labels_key(photo_sha256: str, boxes: np.ndarray) -> str:
    """Names a photo with its boxes, (n, 4) float64 in the order of the source."""
    return cache_key("labels-1", photo_sha256, boxes)


def score_labels(
    decisions: Decisions, sha256: np.ndarray, edge_support: np.ndarray, predictions: Predictions
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Scores of the kept images, (M,) float64 each, and of their boxes, (N,) float64 each; NaN where none is known.

    sha256: (M,) object, of the photos. edge_support: (N, 4) float64, of the sides of every box, see `pixels`.

    shifted: how far the boxes of an image lie beside their objects, the mean of the boxes' misplacement.
    missing: share of the image's objects that have no box, 0 to 1; a found object counts with its probability.
    merged: most objects found inside one box that is at least twice as large as each.
    cleanlab_overlooked, cleanlab_badloc, cleanlab_swapped: cleanlab's scores of the same, 1 good to 0 bad, from the
    detector's predictions alone. Of boxes: shift_x, shift_y, in box sides; misplacement, their larger one, each taken
    times the root of what the edges across it leave open; cleanlab_badloc.
    """
    annotations = decisions.annotations
    count = len(annotations.image_ids)
    names = ("shifted", "missing", "merged", "cleanlab_overlooked", "cleanlab_badloc", "cleanlab_swapped")
    scores = {name: np.full(count, np.nan) for name in names}
    box_scores = {name: np.full(len(annotations.row), np.nan) for name in _OF_BOXES}
    live = np.flatnonzero(decisions.live)
    judged: list[tuple[int, np.ndarray, ImagePredictions]] = []
    for part in boxes_by_image(annotations.image[live]):
        rows = live[part]
        index = int(annotations.image[rows[0]])
        said = predictions.get(labels_key(sha256[index], annotations.boxes[rows]))
        if said is None:
            continue
        judged.append((index, rows, said))
        box_scores["shift_x"][rows], box_scores["shift_y"][rows] = said.shifts.T
        box_scores["misplacement"][rows] = _misplacement(said.shifts, edge_support[rows])
        scores["shifted"][index] = box_scores["misplacement"][rows].mean()
        found, weights = _objects(said)
        scores["missing"][index] = _missing_share(annotations.boxes[rows], found, weights)
        scores["merged"][index] = _merged_count(annotations.boxes[rows], found, weights)
    if judged:
        _add_cleanlab(decisions, judged, scores, box_scores)
    return scores, box_scores


def _misplacement(shifts: np.ndarray, edge_support: np.ndarray) -> np.ndarray:
    """How far boxes lie beside their objects, (n,), by two witnesses: network, (n, 2) shifts, and edges, (n, 4).

    The shift times the root of what the weaker of the two sides across it lacks in support, so that a shift counts for
    little where good edges speak against it. A side on the border of the photo takes the middle.
    """
    across = np.stack(
        [np.fmin(edge_support[:, 0], edge_support[:, 2]), np.fmin(edge_support[:, 1], edge_support[:, 3])]
    )
    open_question = np.sqrt(1 - np.where(np.isnan(across), _UNSEEN, across))
    return np.asarray((np.abs(shifts) * open_question.T).max(axis=1))


def _objects(said: ImagePredictions) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of what both networks take for objects, each once, and how sure they are: (K, 4) and (K,) 0 to 1."""
    sure = said.scores / (1 + np.exp(-np.clip(said.objects, -50, 50)))
    order = [index for index in np.argsort(-sure, kind="stable") if sure[index] > _LEAST_SURE]
    chosen: list[int] = []
    for index in order:
        if not chosen or iou(said.boxes[index : index + 1], said.boxes[chosen]).max() < _SEPARATE:
            chosen.append(index)
    return said.boxes[chosen], sure[chosen]


def _missing_share(boxes: np.ndarray, found: np.ndarray, sure: np.ndarray) -> float:
    is_new = iou(found, boxes).max(axis=1, initial=0) < _SAME_PLACE
    return float(sure[is_new].sum() / (len(boxes) + sure[is_new].sum()))


def _merged_count(boxes: np.ndarray, found: np.ndarray, sure: np.ndarray) -> float:
    corner = np.maximum(found[:, None, :2], boxes[None, :, :2])
    shared = np.clip(np.minimum(found[:, None, 2:], boxes[None, :, 2:]) - corner, 0, None).prod(axis=2)
    own = (found[:, 2:] - found[:, :2]).prod(axis=1)[:, None]
    whole = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[None, :]
    is_inside = (shared > _INSIDE * own) & (own < whole / 2)
    return float((is_inside * sure[:, None]).sum(axis=0).max(initial=0))


def _add_cleanlab(
    decisions: Decisions,
    judged: list[tuple[int, np.ndarray, ImagePredictions]],
    scores: dict[str, np.ndarray],
    box_scores: dict[str, np.ndarray],
) -> None:
    """cleanlab's three scores; it wants boxes in pixels, so a photo is taken to be 1000 by 1000."""
    from cleanlab.object_detection import rank

    classes = int(decisions.classes.max()) + 1
    labels = [
        {"bboxes": 1000 * decisions.annotations.boxes[rows], "labels": decisions.classes[rows]} for _, rows, _ in judged
    ]
    predictions = [_per_class(said, classes) for _, _, said in judged]
    images = np.array([index for index, _, _ in judged])
    kinds = {
        # A network trained for minutes is not as sure of itself as cleanlab's defaults expect.
        "overlooked": partial(rank.compute_overlooked_box_scores, high_probability_threshold=0.5),
        "badloc": partial(rank.compute_badloc_box_scores, low_probability_threshold=0.1),
        "swapped": partial(rank.compute_swap_box_scores, high_probability_threshold=0.5),
    }
    for name, compute in kinds.items():
        if name == "swapped" and classes == 1:
            continue
        of_boxes = compute(labels=labels, predictions=predictions)
        if name == "badloc":
            for (_, rows, _), values in zip(judged, of_boxes, strict=True):
                box_scores["cleanlab_badloc"][rows] = values
        scores[f"cleanlab_{name}"][images] = rank.pool_box_scores_per_image(of_boxes)


def _per_class(said: ImagePredictions, classes: int) -> np.ndarray:
    """cleanlab's format: an object array with an (n, 5) array of boxes and scores per class."""
    rows = np.column_stack([1000 * said.boxes, said.scores])
    result = np.empty(classes, dtype=object)
    for index in range(classes):
        result[index] = rows[said.classes == index]
    return result


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the parquet file, complete or not at all."""
    import duckdb

    rows = [row for key in sorted(predictions) for row in _rows(key, predictions[key])]
    with duckdb.connect(config={"threads": 1}) as connection, new_file(path) as part:
        connection.execute(f"CREATE TABLE said ({', '.join(f'{name} {kind}' for name, kind in _COLUMNS.items())})")
        columns = {name: np.array([row[place] for row in rows]) for place, name in enumerate(_COLUMNS)}
        if rows:
            connection.register("rows", columns)
            connection.execute("INSERT INTO said SELECT * FROM rows")
        target = str(part).replace("'", "''")
        connection.execute(f"COPY said TO '{target}' (FORMAT parquet, COMPRESSION zstd)")


def _rows(key: str, said: ImagePredictions) -> Iterator[tuple[object, ...]]:
    nan = float("nan")
    for number, shift in enumerate(said.shifts):
        yield (key, "label", number, -1, nan, nan, nan, nan, nan, *shift, nan)
    for number, box in enumerate(said.boxes):
        yield (
            (key, "prediction", number, said.classes[number], *box, said.scores[number], nan, nan, said.objects[number])
        )


def read_predictions(path: Path) -> Predictions:
    """Read the parquet file.

    Raises:
        UserError: it is not what `write_predictions` writes.
    """
    import duckdb

    with duckdb.connect(config={"threads": 1}) as connection:
        try:
            found = connection.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM read_parquet(?) ORDER BY labels_key, kind, number", [str(path)]
            ).fetchnumpy()
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise refuse(path, f"no predictions ({reason})", "delete it and cross-check again") from None
    table = {name: np.ma.getdata(values) for name, values in found.items()}
    starts = np.flatnonzero(np.r_[True, table["labels_key"][1:] != table["labels_key"][:-1]])
    return {
        str(table["labels_key"][part[0]]): _from_rows({name: values[part] for name, values in table.items()})
        for part in np.split(np.arange(len(table["number"])), starts[1:])
        if len(part)
    }


def _from_rows(table: dict[str, np.ndarray]) -> ImagePredictions:
    is_label = table["kind"] == "label"
    return ImagePredictions(
        shifts=np.column_stack([table["shift_x"], table["shift_y"]])[is_label],
        boxes=np.column_stack([table[name] for name in ("x1", "y1", "x2", "y2")])[~is_label],
        scores=table["score"][~is_label],
        classes=table["class"][~is_label],
        objects=table["object"][~is_label],
    )
