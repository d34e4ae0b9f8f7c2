"""Decides which images and boxes a recipe keeps, before any pixel is looked at, and remembers which rule decided.

A rule drops the whole image where dropping one box would leave an object without a label, since a detector learns that
whatever is unlabelled is background. So it is for the flags: a group-of box covers several objects, the object in a
depiction looks like the object, and what is seen from inside is still there. Only two rules drop a single box: a second
box that says exactly the same, and a box without area.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.curate.readers import FLAGS, Annotations
from pipeline.curate.recipe import Recipe
from pipeline.curate.splits import stable_fraction
from pipeline.errors import refuse

__all__ = ["KEPT", "Decisions", "Remaining", "Verdicts", "apply_rules"]

KEPT = "kept"


@dataclass(frozen=True)
class Remaining:
    """How many images and boxes are left after a rule."""

    rule: str
    images: int
    boxes: int


class Verdicts:
    """For each of N things the first rule that dropped it, with the value and the threshold that decided.

    rule: (N,) object array of str, KEPT where nothing dropped it. value, threshold: (N,) float64, NaN where none.
    """

    def __init__(self, count: int) -> None:
        self.rule = np.full(count, KEPT, dtype=object)
        self.value = np.full(count, np.nan)
        self.threshold = np.full(count, np.nan)

    @property
    def kept(self) -> np.ndarray:
        """(N,) bool."""
        return self.rule == KEPT

    def drop(self, which: np.ndarray, rule: str, value: np.ndarray | float = np.nan, threshold: float = np.nan) -> None:
        """Drop those of `which`, (N,) bool, that are still there; a rule that came earlier keeps its word."""
        new = which & self.kept
        self.rule[new] = rule
        self.value[new] = np.broadcast_to(value, which.shape)[new]
        self.threshold[new] = threshold


@dataclass(frozen=True)
class Decisions:
    """What the rules left.

    boxes.rule is one of: kept; class (another object, not labelled in this set); duplicate_row; no_area; a flag's name
    or exclude_images_with, where this box speaks against its image; image (its image went for another reason).
    images.rule is one of: kept, class, a flag's name, exclude_images_with, limit. The value is the number of offending
    boxes, for class the number of boxes of the classes, for limit the place in the queue.
    classes: (N,) int64, index into the recipe's output classes for every box, -1 for another object.
    """

    images: Verdicts
    boxes: Verdicts
    classes: np.ndarray
    remaining: tuple[Remaining, ...]


def apply_rules(annotations: Annotations, recipe: Recipe) -> Decisions:
    """Judge every image and box of `annotations`; refuse when a rule leaves nothing."""
    images, boxes = Verdicts(len(annotations.image_ids)), Verdicts(len(annotations.row))
    classes = _output_classes(annotations, recipe)
    own = classes >= 0
    remaining = [Remaining("read", len(images.rule), len(boxes.rule))]

    def per_image(which: np.ndarray) -> np.ndarray:
        return np.bincount(annotations.image[which], minlength=len(images.rule))

    def note(rule: str) -> None:
        on_kept_image = images.kept[annotations.image]
        remaining.append(Remaining(rule, int(images.kept.sum()), int((boxes.kept & on_kept_image).sum())))
        if not images.kept.any():
            raise refuse(f"recipe {recipe.name}", f"rule {rule} leaves no image", "loosen it or add photos")

    excluding = _of_classes(annotations, recipe, "exclude_images_with")
    boxes.drop(excluding, "exclude_images_with", 1, 0)
    boxes.drop(~own, "class")
    boxes.drop(own & _without_area(annotations.boxes), "no_area")
    boxes.drop(own & _repeated(annotations, classes), "duplicate_row")
    if not recipe.keep_backgrounds:
        images.drop(per_image(boxes.kept) == 0, "class", 0, 1)
    note("class")

    for flag in recipe.drop_flags:
        flagged = own & (annotations.flags[:, FLAGS.index(flag)] == 1)
        images.drop(per_image(flagged) > 0, flag, per_image(flagged), 0)
        boxes.drop(flagged, flag, 1, 0)
        note(flag)

    if recipe.exclude_images_with:
        images.drop(per_image(excluding) > 0, "exclude_images_with", per_image(excluding), 0)
        note("exclude_images_with")
    if recipe.limit is not None:
        place = _queue(annotations, images.kept, recipe.seed)
        images.drop(place > recipe.limit, "limit", place, recipe.limit)
        note("limit")
    boxes.drop(~images.kept[annotations.image], "image")
    return Decisions(images, boxes, classes, tuple(remaining))


def _of_classes(annotations: Annotations, recipe: Recipe, key: str) -> np.ndarray:
    """(N,) bool: the boxes whose class is listed under `key` of the recipe."""
    indices = annotations.class_indices(getattr(recipe, key), f"recipe {recipe.name}: {key}")
    return np.isin(annotations.label, np.array(indices, dtype=np.int64))


def _output_classes(annotations: Annotations, recipe: Recipe) -> np.ndarray:
    """Class of every box in the curated set, -1 for an object that is not labelled there."""
    indices = annotations.class_indices(recipe.classes, f"recipe {recipe.name}: classes")
    table = np.full(len(annotations.class_names), -1)
    table[indices] = 0 if recipe.merge_as else np.arange(len(indices))
    return table[annotations.label]


def _without_area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])


def _repeated(annotations: Annotations, classes: np.ndarray) -> np.ndarray:
    """(N,) bool: boxes that an earlier row gave already, to the last digit. Ultralytics drops those, Darknet not."""
    rows = np.column_stack([annotations.image, classes, annotations.boxes])
    repeated = np.ones(len(rows), dtype=bool)
    repeated[np.unique(rows, axis=0, return_index=True)[1]] = False
    return repeated


def _queue(annotations: Annotations, kept: np.ndarray, seed: int) -> np.ndarray:
    """Place of each kept image, from 1, in an order that depends on nothing but the ids and the seed."""
    order = sorted(
        np.flatnonzero(kept), key=lambda index: stable_fraction(f"limit {annotations.image_ids[index]}", seed)
    )
    place = np.zeros(len(kept))
    place[order] = np.arange(1, len(order) + 1)
    return place
