"""What is shown to a person: every examined image that has a photo, with its boxes, scores and predictions.

It decides nothing and opens nothing.
"""

import numpy as np

from pipeline.curate.decisions import KEPT
from pipeline.curate.examine import Examination
from pipeline.curate.labels import ImagePredictions, Predictions, labels_key
from pipeline.curate.recipe import Recipe
from pipeline.curate.review import Candidate
from pipeline.curate.rules import boxes_by_image
from pipeline.curated import SPLITS

__all__ = ["review_candidates"]

_BORDERLINE = (0.85, 1.15)  # of a limit: where a person sees most that a number does not
_SURE = 0.25  # of a prediction: what a detector would report
_NOBODY_ASKS = {"class", "limit"}  # images without an object of the recipe, and those never looked at


def review_candidates(recipe: Recipe, examined: Examination, predictions: Predictions) -> list[Candidate]:
    """One candidate per image that is kept, or that a rule dropped which a person may overrule."""
    decisions, annotations = examined.decisions, examined.decisions.annotations
    own = np.flatnonzero(decisions.is_own)
    rows = {int(annotations.image[own[part[0]]]): own[part] for part in boxes_by_image(annotations.image[own])}
    nothing = np.empty(0, dtype=np.int64)
    shown = [
        index
        for index, rule in enumerate(decisions.images.rule)
        if annotations.paths[index] is not None and (rule not in _NOBODY_ASKS or decisions.overrides[index])
    ]
    return [_candidate(recipe, examined, predictions, index, rows.get(index, nothing)) for index in shown]


def _candidate(
    recipe: Recipe, examined: Examination, predictions: Predictions, index: int, rows: np.ndarray
) -> Candidate:
    decisions, annotations = examined.decisions, examined.decisions.annotations
    path = annotations.paths[index]
    assert path is not None
    judged = rows[~np.isin(decisions.boxes.rule[rows], ["overlap", "duplicate_row", "no_area"])]
    said = predictions.get(labels_key(examined.sha256[index], annotations.boxes[judged])) or _silence()
    is_sure = said.scores > _SURE
    rule = str(decisions.images.rule[index])
    return Candidate(
        image_id=annotations.image_ids[index],
        path=path,
        boxes=annotations.boxes[rows],
        labels=tuple(recipe.output_classes[label] for label in decisions.classes[rows]),
        box_scores={name: values[rows] for name, values in examined.box_scores.items()},
        box_rules=tuple(map(str, decisions.boxes.rule[rows])),
        rule=rule,
        split=SPLITS[examined.split[index]] if rule == KEPT else None,
        scores={name: float(values[index]) for name, values in examined.scores.items()},
        borderline=bool(_BORDERLINE[0] <= decisions.strain[index] <= _BORDERLINE[1]),
        verdict=decisions.overrides[index] or None,
        predictions=said.boxes[is_sure],
        prediction_scores=said.scores[is_sure],
        prediction_labels=tuple(recipe.output_classes[label] for label in said.classes[is_sure]),
    )


def _silence() -> ImagePredictions:
    return ImagePredictions(np.empty((0, 2)), np.empty((0, 4)), np.empty(0), np.empty(0, dtype=np.int64), np.empty(0))
