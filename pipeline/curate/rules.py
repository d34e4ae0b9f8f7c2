"""The rules of a recipe that need no pixel, in their order. What was decided lies in `Decisions`.

A rule drops the whole image where dropping one box would leave an object without a label, since a detector learns that
whatever is unlabelled is background. So it is for the flags: a group-of box covers several objects, the object in a
depiction looks like the object, and what is seen from inside is still there; and for every band and limit: an object
that is too small or too long is still there. Only three rules drop a single box: `duplicate_row`, a second box that
says exactly the same; `overlap`, a second box over the same object; and `no_area`, a box that holds nothing.

Rules of images: class (no box of the recipe's classes), the flags' names, exclude_images_with, occluded_share,
truncated_share, boxes_per_image, limit, and once sizes are known smallest_side, aspect_band, size_band.
A box's rule is one of: kept; class (another object, not labelled in this set); duplicate_row, overlap, no_area; the
rule it broke, where it speaks against its image; image (its image went for another reason). The value of an image is
the number of its offending boxes, for class the number of boxes of the classes, for limit the place in the queue; that
of a box is what was measured on it.
"""

import numpy as np

from deploy.nms import iou
from pipeline.curate.annotations import FLAGS, UNKNOWN, Annotations
from pipeline.curate.decisions import Decisions
from pipeline.curate.recipe import NetworkInput, Recipe
from pipeline.curate.splits import stable_fraction

__all__ = ["apply_rules", "apply_size_rules", "boxes_by_image", "deviations", "output_classes"]


def output_classes(annotations: Annotations, recipe: Recipe) -> np.ndarray:
    """Class of every box in the curated set: (N,) int64, -1 for an object that is not labelled there."""
    indices = annotations.class_indices(recipe.classes, f"recipe {recipe.name}: classes")
    table = np.full(len(annotations.class_names), -1)
    table[indices] = 0 if recipe.merge_as else np.arange(len(indices))
    return table[annotations.label]


def apply_rules(decisions: Decisions, recipe: Recipe) -> None:
    """Judge by what the annotations say; refuse when a rule leaves nothing."""
    annotations, own = decisions.annotations, decisions.is_own
    excluding = _of_classes(annotations, recipe)
    decisions.boxes.drop(excluding, "exclude_images_with", 1, 0)
    decisions.boxes.drop(~own, "class")
    decisions.boxes.drop(own & _without_area(annotations.boxes), "no_area")
    decisions.boxes.drop(own & _repeated(annotations, decisions.classes), "duplicate_row")
    if not recipe.keep_backgrounds:
        decisions.images.drop(decisions.per_image(decisions.boxes.kept) == 0, "class", 0, 1)
    decisions.note("class")

    for flag in recipe.drop_flags:
        decisions.drop_images_of(flag, own & (annotations.flags[:, FLAGS.index(flag)] == 1), 1, 0)
    if recipe.exclude_images_with:
        offending = decisions.per_image(excluding)
        decisions.drop_images("exclude_images_with", offending > 0, offending, 0)
    for flag, most in (("IsOccluded", recipe.limits.occluded_share), ("IsTruncated", recipe.limits.truncated_share)):
        if most is not None:
            share = _share(decisions, flag)
            decisions.limit_images(f"{flag.removeprefix('Is').lower()}_share", share, most)
    _drop_overlaps(decisions, recipe)
    _limit_counts(decisions, recipe)
    if recipe.limit is not None:
        place = _queue(annotations, decisions.images.kept, recipe.seed)
        decisions.drop_images("limit", place > recipe.limit, place, recipe.limit)


def apply_size_rules(decisions: Decisions, recipe: Recipe, sizes: np.ndarray) -> None:
    """Judge by what needs the photos' sizes: (images, 2) float64, width and height as seen, for every kept image."""
    limits = recipe.limits
    width, height = _network_sides(decisions.annotations, recipe.network, sizes)
    if limits.smallest_side is not None:
        side = np.fmin(width, height)
        decisions.limit_boxes("smallest_side", side, limits.smallest_side, is_floor=True)
    pixels = decisions.annotations.boxes[:, 2:] - decisions.annotations.boxes[:, :2]
    pixels = pixels * sizes[decisions.annotations.image]
    with np.errstate(divide="ignore", invalid="ignore"):
        aspect = np.log(pixels[:, 0] / pixels[:, 1])
        size = np.log(width * height) / 2
    for rule, value, width_of_band in (
        ("aspect_band", aspect, limits.aspect_band),
        ("size_band", size, limits.size_band),
    ):
        if width_of_band is not None:
            deviation = abs(deviations(value, decisions.live))
            decisions.limit_boxes(rule, deviation, width_of_band)


def deviations(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """How many MADs each of `values`, (N,), lies above the median of those `among`, (N,) bool; robust to half of them.

    Where more than half of them are the same the MAD is 0, and whatever differs is infinitely far.
    """
    chosen = values[among & np.isfinite(values)]
    middle = np.median(chosen) if len(chosen) else np.nan
    spread = np.median(abs(chosen - middle)) if len(chosen) else np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(values == middle, 0.0, (values - middle) / spread)


def _of_classes(annotations: Annotations, recipe: Recipe) -> np.ndarray:
    """(N,) bool: the boxes whose class the recipe excludes."""
    indices = annotations.class_indices(recipe.exclude_images_with, f"recipe {recipe.name}: exclude_images_with")
    return np.isin(annotations.label, np.array(indices, dtype=np.int64))


def _without_area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])


def _repeated(annotations: Annotations, classes: np.ndarray) -> np.ndarray:
    """(N,) bool: boxes that an earlier row gave already, to the last digit. Ultralytics drops those, Darknet not."""
    rows = np.column_stack([annotations.image, classes, annotations.boxes])
    repeated = np.ones(len(rows), dtype=bool)
    repeated[np.unique(rows, axis=0, return_index=True)[1]] = False
    return repeated


def _share(decisions: Decisions, flag: str) -> np.ndarray:
    """Share of each image's boxes that have the flag, of those about which somebody said yes or no: (images,)."""
    said = decisions.annotations.flags[:, FLAGS.index(flag)]
    known = decisions.per_image(decisions.live & (said != UNKNOWN))
    return decisions.per_image(decisions.live & (said == 1)) / np.maximum(known, 1)


def _drop_overlaps(decisions: Decisions, recipe: Recipe) -> None:
    """Drop the later of two boxes of a class that cover the same object; the object keeps the earlier one."""
    if recipe.limits.overlap is None:
        return
    overlap = np.zeros(len(decisions.boxes.rule))
    live = np.flatnonzero(decisions.live)
    for boxes in boxes_by_image(decisions.annotations.image[live]):
        rows = live[boxes]
        covers = iou(decisions.annotations.boxes[rows], decisions.annotations.boxes[rows])
        covers[decisions.classes[rows][:, None] != decisions.classes[rows][None, :]] = 0
        is_kept = np.ones(len(rows), dtype=bool)
        for place in range(1, len(rows)):
            overlap[rows[place]] = covers[place, :place][is_kept[:place]].max(initial=0)
            is_kept[place] = overlap[rows[place]] <= recipe.limits.overlap
    decisions.boxes.drop(overlap > recipe.limits.overlap, "overlap", overlap, recipe.limits.overlap)
    decisions.note("overlap")


def boxes_by_image(image: np.ndarray) -> list[np.ndarray]:
    """Indices of the boxes of each image that has any, in their order; image: (N,) int64, the image of each box."""
    order = np.argsort(image, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(image[order])) + 1) if len(order) else []


def _limit_counts(decisions: Decisions, recipe: Recipe) -> None:
    if recipe.limits.boxes_per_image is None:
        return
    fewest, most = recipe.limits.boxes_per_image
    count = decisions.per_image(decisions.live)
    is_background = recipe.keep_backgrounds & (count == 0)
    decisions.images.drop((count < fewest) & ~is_background, "boxes_per_image", count, fewest)
    decisions.drop_images("boxes_per_image", count > most, count, most)


def _queue(annotations: Annotations, kept: np.ndarray, seed: int) -> np.ndarray:
    """Place of each kept image, from 1, in an order that depends on nothing but the ids and the seed."""
    order = sorted(
        np.flatnonzero(kept), key=lambda index: stable_fraction(f"limit {annotations.image_ids[index]}", seed)
    )
    place = np.zeros(len(kept))
    place[order] = np.arange(1, len(order) + 1)
    return place


def _network_sides(annotations: Annotations, network: NetworkInput, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Width and height of every box in pixels of the network's input, (N,) each."""
    shares = annotations.boxes[:, 2:] - annotations.boxes[:, :2]
    scale = np.array([network.width, network.height]) / sizes
    if network.resize == "letterbox":
        scale = np.broadcast_to(scale.min(axis=1, keepdims=True), scale.shape)
    sides = shares * (sizes * scale)[annotations.image]
    return sides[:, 0], sides[:, 1]
