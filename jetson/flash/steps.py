"""How NVIDIA's scripts are called for a board: the part of its file that flashing reads. Knows no host."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["FlashSteps"]

_Words = Annotated[tuple[str, ...], Field(min_length=1)]
_KEYS = ("usb", "target", "file")


class FlashSteps(BaseModel):
    """Commands in Linux_for_Tegra, as words: {usb} is the USB instance, {target} the flash target, {file} a path.

    Every command names the USB instance, so that none takes a module that was not meant.

    Attributes:
        hosts: versions of Ubuntu that NVIDIA flashes from.
        needs: Debian packages by a command that the scripts call.
        write: makes system.img of the root file system and writes everything.
        reuse: writes everything, with the system.img that is there.
        clone: reads the partition APP into {file}; restoring is `reuse` with that file as system.img.
        without_clone: in place of `clone`, why there is none and what to do instead.
        clone_gib: disk space that cloning may take.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hosts: tuple[str, ...]
    needs: dict[str, str]
    write: _Words
    reuse: _Words
    clone: _Words | None = None
    without_clone: str | None = None
    clone_gib: Annotated[float, Field(gt=0)] = 1

    @field_validator("write", "reuse", "clone")
    @classmethod
    def _names_the_module(cls, words: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if words is None:
            return None
        for key in ("usb", "target"):
            if f"{{{key}}}" not in words:
                raise ValueError(f"{{{key}}} is missing, as a word of its own")
        for word in words:
            if word.startswith("{") and word[1:-1] not in _KEYS:
                raise ValueError(f"{word} is unknown; allowed: {', '.join(f'{{{key}}}' for key in _KEYS)}")
        return words

    @model_validator(mode="after")
    def _clones_or_says_why_not(self) -> "FlashSteps":
        if (self.clone is None) == (self.without_clone is None):
            raise ValueError("give either clone or, with the reason, without_clone")
        return self

    def words(self, template: tuple[str, ...], **values: str) -> tuple[str, ...]:
        """The words of a command with its placeholders filled."""
        return tuple(values[word[1:-1]] if word.startswith("{") else word for word in template)
