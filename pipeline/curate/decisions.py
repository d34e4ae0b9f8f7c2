"""What was decided about every image and box, by which rule, and what a person said instead. It applies no rule."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.curate.annotations import Annotations
from pipeline.errors import refuse

__all__ = ["KEPT", "Decisions", "Remaining", "Verdicts"]

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
    pinned: (N,) bool, what no rule may drop. overruled: (N,) object array of str, for what is pinned the first rule
    that would have dropped it, else "".
    """

    def __init__(self, count: int) -> None:
        self.rule = np.full(count, KEPT, dtype=object)
        self.value = np.full(count, np.nan)
        self.threshold = np.full(count, np.nan)
        self.pinned = np.zeros(count, dtype=bool)
        self.overruled = np.full(count, "", dtype=object)

    @property
    def kept(self) -> np.ndarray:
        """(N,) bool."""
        return self.rule == KEPT

    def drop(self, which: np.ndarray, rule: str, value: np.ndarray | float = np.nan, threshold: float = np.nan) -> None:
        """Drop those of `which`, (N,) bool, that are still there; a rule that came earlier keeps its word."""
        self.overruled[which & self.pinned & (self.overruled == "")] = rule
        new = which & self.kept & ~self.pinned
        self.rule[new] = rule
        self.value[new] = np.broadcast_to(value, which.shape)[new]
        self.threshold[new] = threshold


class Decisions:
    """The verdicts on every image and box of `annotations`, and what was left after each rule.

    classes: (N,) int64, index into the recipe's output classes for every box, -1 for an object that is not labelled.
    overrides: by image id keep, drop or fix, as a person said. What is to be kept no rule drops; what is to be dropped
    or fixed goes first.
    strain: (images,) float64, how near an image came to the limit that it was nearest to: 1 is at the limit, above 1
    beyond it; NaN where no limit was applied.
    """

    def __init__(
        self, name: str, annotations: Annotations, classes: np.ndarray, overrides: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.annotations = annotations
        self.classes = classes
        self.images = Verdicts(len(annotations.image_ids))
        self.boxes = Verdicts(len(annotations.row))
        self.remaining: list[Remaining] = []
        self.strain = np.full(len(annotations.image_ids), np.nan)
        self.note("read")
        said = np.array([(overrides or {}).get(image_id, "") for image_id in annotations.image_ids], dtype=object)
        self.overrides = said
        self.images.pinned = said == "keep"
        for verdict in ("drop", "fix"):
            self.images.drop(said == verdict, f"review_{verdict}")
        if (said != "").any():
            self.note("review")

    @property
    def is_own(self) -> np.ndarray:
        """(N,) bool, the boxes of the recipe's classes."""
        return self.classes >= 0

    @property
    def live(self) -> np.ndarray:
        """(N,) bool, the boxes that are kept on images that are kept."""
        return self.boxes.kept & self.images.kept[self.annotations.image]

    def per_image(self, which: np.ndarray) -> np.ndarray:
        """(images,) int64: how many of the boxes `which`, (N,) bool, each image has."""
        return np.bincount(self.annotations.image[which], minlength=len(self.images.rule))

    def drop_images(
        self, rule: str, which: np.ndarray, value: np.ndarray | float = np.nan, threshold: float = np.nan
    ) -> None:
        """Drop the images `which`, (images,) bool, and note what remains; refuse when nothing does."""
        self.images.drop(which, rule, value, threshold)
        self.note(rule)

    def drop_images_of(self, rule: str, boxes: np.ndarray, value: np.ndarray | float, threshold: float) -> None:
        """Drop every image that has a box among `boxes`, (N,) bool, and remember which boxes spoke against it.

        value: (N,) float64, of each box; the image's value is the number of its offending boxes.
        """
        boxes = boxes & self.live
        offending = self.per_image(boxes)
        unpinned = boxes & ~self.images.pinned[self.annotations.image]
        self.images.drop(offending > 0, rule, offending, 0)
        self.boxes.drop(unpinned, rule, value, threshold)
        self.note(rule)

    def limit_images(self, rule: str, value: np.ndarray, limit: float, is_floor: bool = False) -> None:
        """Drop images whose `value`, (images,), lies above `limit`, or below where `is_floor`; NaN passes."""
        self._feel(_strain(value, limit, is_floor))
        self.drop_images(rule, value < limit if is_floor else value > limit, value, limit)

    def limit_boxes(self, rule: str, value: np.ndarray, limit: float, is_floor: bool = False) -> None:
        """Drop images that have a box whose `value`, (N,), lies above `limit`, or below where `is_floor`."""
        worst = np.full(len(self.images.rule), np.nan)
        live = self.live
        np.fmax.at(worst, self.annotations.image[live], _strain(value, limit, is_floor)[live])
        self._feel(worst)
        self.drop_images_of(rule, value < limit if is_floor else value > limit, value, limit)

    def _feel(self, strain: np.ndarray) -> None:
        """Remember how near the images that are still there come to a limit."""
        self.strain = np.where(self.images.kept, np.fmax(self.strain, strain), self.strain)

    def note(self, rule: str) -> None:
        """Count what remains after `rule`.

        Raises:
            UserError: the rule leaves no image.
        """
        self.remaining.append(Remaining(rule, int(self.images.kept.sum()), int(self.live.sum())))
        if not self.images.kept.any():
            raise refuse(f"recipe {self.name}", f"rule {rule} leaves no image", "loosen it or add photos")

    def finish(self) -> None:
        """Drop what is left of the boxes of dropped images, as `image`: their image went for another reason."""
        self.boxes.drop(~self.images.kept[self.annotations.image], "image")


def _strain(value: np.ndarray, limit: float, is_floor: bool) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return limit / value if is_floor else value / limit
