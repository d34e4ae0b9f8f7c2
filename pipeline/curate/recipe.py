"""A recipe says what a data set is: its source, classes, limits, split and licence. It knows nothing about pixels.

`read_recipe` is the border: an error names the file, the key, the value found and the values allowed.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.settings import read_yaml

__all__ = ["Flag", "Recipe", "Source", "Split", "read_recipe"]

Flag = Literal["IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"]
ClassName = Annotated[str, Field(min_length=1)]

_RULES_VERSION = 1  # part of the recipe's hash: raise it when the same recipe would give another set


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Part):
    """Where the photos and boxes are; a path given on the command line or by the experiment wins over `path`."""

    format: Literal["open-images"]
    path: Path | None = None


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
    classes: tuple[ClassName, ...] = Field(min_length=1)
    merge_as: ClassName | None = None
    exclude_images_with: tuple[ClassName, ...] = ()
    drop_flags: tuple[Flag, ...] = ("IsGroupOf", "IsDepiction", "IsInside")
    keep_backgrounds: bool = False
    # In bits of 64. Two unrelated hashes differ in 32 ± 4 bits; 10 or fewer happens by chance once in 40 million pairs.
    # Erring upwards only makes the split a little coarser, erring downwards leaks a test photo into training.
    near_duplicate_distance: int = Field(default=10, ge=0, le=32)
    limit: int | None = Field(default=None, ge=1)
    split: Split = Split()
    seed: int = 0

    @field_validator("classes", "exclude_images_with", "drop_flags")
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


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    >>> read_recipe(Path("datasets/facades-arch.yaml")).classes
    ('Arch',)
    """
    return read_yaml(path, Recipe)
