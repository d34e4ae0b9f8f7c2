"""A recipe says what a data set is: its source, classes, limits, split and licence. It applies none of them.

`read_recipe` is the border: an error names the file, the key, the value found and the values allowed.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.settings import read_yaml

__all__ = [
    "Flag",
    "LabelLimits",
    "Limits",
    "NetworkInput",
    "PixelLimits",
    "Recipe",
    "Selection",
    "Source",
    "Split",
    "is_recipe",
    "read_recipe",
]

Flag = Literal["IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"]
_ClassName = Annotated[str, Field(min_length=1)]

_RULES_VERSION = 2  # part of the recipe's hash: raise it when the same recipe would give another set


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Part):
    """Where the photos and boxes are; a path given on the command line or by the experiment wins over `path`.

    options: what the format needs to be told, as in {annotations: annotations/instances_train2017.json}.
    subsets: of the official Open Images files, for the format open-images-v7 alone.
    """

    format: Literal["open-images", "open-images-v7", "yolo", "coco", "voc", "kitti", "wheat"]
    path: Path | None = None
    options: dict[str, str] = {}
    subsets: tuple[Literal["train", "validation", "test"], ...] = ()

    @model_validator(mode="after")
    def _subsets_where_they_mean_something(self) -> "Source":
        if bool(self.subsets) != (self.format == "open-images-v7"):
            raise ValueError("subsets: give them for the format open-images-v7, and for no other")
        return self


class NetworkInput(_Part):
    """What the boxes are measured in: pixels of the network's input after its resize."""

    width: int = Field(default=416, ge=32)
    height: int = Field(default=416, ge=32)
    resize: Literal["stretch", "letterbox"] = "stretch"


class Limits(_Part):
    """What is judged without looking at a pixel. A limit that is not given is not applied.

    Attributes:
        occluded_share, truncated_share: most, of the boxes of an image of which somebody said whether they are.
        boxes_per_image: fewest and most.
        overlap: IoU above which a second box of the same class covers the same object.
        smallest_side: pixels of the network's input.
        aspect_band: k of median ± k·MAD on the logarithm of width by height, in pixels of the photo.
        size_band: the same on the logarithm of the square root of the area, in pixels of the network's input.
    """

    occluded_share: float | None = Field(default=None, ge=0, le=1)
    truncated_share: float | None = Field(default=None, ge=0, le=1)
    boxes_per_image: tuple[int, int] | None = None
    overlap: float | None = Field(default=None, gt=0, le=1)
    smallest_side: float | None = Field(default=None, gt=0)
    aspect_band: float | None = Field(default=None, gt=0)
    size_band: float | None = Field(default=None, gt=0)

    @field_validator("boxes_per_image")
    @classmethod
    def _in_order(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not 0 < value[0] <= value[1]:
            raise ValueError("give fewest and most, as in [1, 40]")
        return value


class PixelLimits(_Part):
    """What is judged from the photos. A limit that is not given is not applied.

    Attributes:
        blur_band: k of median + k·MAD on the blur (0 sharp to 1) of all photos that got so far.
        clipped_share: most, of the pixels that are black or white.
        edge_support_band: k of median - k·MAD on how well the boxes of an image sit on edges.
        near_duplicates: whether of photos that show nearly the same only the largest stays.
    """

    blur_band: float | None = Field(default=None, gt=0)
    clipped_share: float | None = Field(default=None, gt=0, le=1)
    edge_support_band: float | None = Field(default=None, gt=0)
    near_duplicates: Literal["keep", "drop"] = "keep"


class LabelLimits(_Part):
    """What is judged from the predictions of networks that never saw the photo; see `skylight curate --cross-check`.

    Attributes:
        shifted_band: k of median + k·MAD on how far the boxes of an image lie beside their objects.
        missing: most, of the objects of an image, that may have no box.
        merged: most objects that may be found inside one box.
        folds, iterations, size: how many networks, how long each is trained, on which input.
    """

    shifted_band: float | None = Field(default=None, gt=0)
    missing: float | None = Field(default=None, gt=0, lt=1)
    merged: float | None = Field(default=None, ge=1)
    folds: int = Field(default=3, ge=2, le=20)
    iterations: int = Field(default=700, ge=1)
    size: int = Field(default=320, ge=32, multiple_of=32)

    @property
    def is_asked(self) -> bool:
        """Whether any limit is given."""
        return (self.shifted_band, self.missing, self.merged) != (None, None, None)

    def without_limits(self) -> "LabelLimits":
        """The same, judging nothing: what is to be judged must not depend on the judgement."""
        return self.model_copy(update={"shifted_band": None, "missing": None, "merged": None})


class Selection(_Part):
    """How many images are wanted, and from which pool the most diverse are taken: the best `pool` times `images`."""

    images: int = Field(ge=1)
    pool: float = Field(default=2.0, ge=1)


class Split(_Part):
    """Shares of the photos, not counts: a photo keeps its split when others are added.

    Training takes about 70 %. 15 % each is enough to choose a checkpoint on val and to report on test without having
    chosen on it. The test share may be 0.
    """

    train: float = Field(default=0.7, gt=0, le=1)
    val: float = Field(default=0.15, gt=0, le=1)
    test: float = Field(default=0.15, ge=0, le=1)

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Split":
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the sum is {total:g}; train, val and test must sum to 1")
        return self


class Recipe(_Part):
    """What one curated set is made of.

    An object of a class that is not listed stays in its photo as background. That is safe where the source labels every
    object of the listed classes on the photos that hold one, as Open Images does for verified classes. On a photo
    without any such box nobody says that the class is absent: it is left out, unless `keep_backgrounds` says so.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    description: str = ""
    licence: str = Field(min_length=1)
    source: Source
    classes: tuple[_ClassName, ...] = Field(min_length=1)
    merge_as: _ClassName | None = None
    exclude_images_with: tuple[_ClassName, ...] = ()
    drop_flags: tuple[Flag, ...] = ("IsGroupOf", "IsDepiction", "IsInside")
    keep_backgrounds: bool = False
    # In bits of 64. Two unrelated hashes differ in 32 ± 4 bits; 10 or fewer happens by chance once in 40 million pairs.
    # Erring upwards only makes the split a little coarser, erring downwards leaks a test photo into training.
    near_duplicate_distance: int = Field(default=10, ge=0, le=32)
    network: NetworkInput = NetworkInput()
    limits: Limits = Limits()
    pixels: PixelLimits = PixelLimits()
    labels: LabelLimits = LabelLimits()
    prefer_sources: tuple[str, ...] = ()  # what the column Source may say; they are selected before any other
    select: Selection | None = None
    limit: int | None = Field(default=None, ge=1)
    split: Split = Split()
    seed: int = 0

    @field_validator("classes", "exclude_images_with", "drop_flags", "prefer_sources")
    @classmethod
    def _no_repetition(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for index, value in enumerate(values):
            if value in values[:index]:
                raise ValueError(f"{value!r} is listed twice; once is enough")
        return values

    @model_validator(mode="after")
    def _keeps_something(self) -> "Recipe":
        both = set(self.classes) & set(self.exclude_images_with)
        if both:
            raise ValueError(f"{min(both)!r} is in both classes and exclude_images_with; it can be in one")
        return self

    @property
    def output_classes(self) -> tuple[str, ...]:
        """Names of the curated set's classes, in the order of their indices."""
        return (self.merge_as,) if self.merge_as else self.classes

    def as_dict(self) -> dict[str, Any]:
        """Everything that decides what the set holds; where the source lies on this machine does not."""
        return self.model_dump(mode="json", exclude={"source": {"path"}})

    def sha256(self) -> str:
        """Hash of `as_dict` and of the version of the rules."""
        text = json.dumps([_RULES_VERSION, self.as_dict()], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def is_recipe(path: Path) -> bool:
    """Whether a YAML file looks like a recipe rather than an experiment; a file that cannot be read looks like one."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return True
    return not (isinstance(content, dict) and "stages" in content)


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe; its relative path of the source is taken from the file's own folder.

    >>> read_recipe(Path("datasets/facades-arch.yaml")).classes
    ('Arch',)
    """
    recipe = read_yaml(path, Recipe)
    if recipe.source.path is None:
        return recipe
    source = recipe.source.model_copy(update={"path": path.resolve().parent / recipe.source.path.expanduser()})
    return recipe.model_copy(update={"source": source})
