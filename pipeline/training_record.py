"""The JSON file beside trained weights: the settings they were trained with, and the result once it is finished.

Knows nothing about what was trained.
"""

import json
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import BaseModel

from pipeline.errors import refuse
from pipeline.files import file_sha256, write_json

__all__ = ["read_record", "require_equal", "require_weights", "write_record"]


class _Result(Protocol):
    @property
    def best_weights_sha256(self) -> str: ...


_SettingsT = TypeVar("_SettingsT", bound=BaseModel)
_ResultT = TypeVar("_ResultT", bound=BaseModel)


def write_record(path: Path, settings: BaseModel, result: BaseModel | None) -> None:
    """Write both; the result is None until there is one."""
    content = {"settings": settings.model_dump(mode="json")}
    write_json(path, content | {"result": result.model_dump(mode="json") if result else None})


def read_record(
    path: Path, settings: type[_SettingsT], result: type[_ResultT], missing: str
) -> tuple[_SettingsT, _ResultT | None]:
    """Read both. missing: what to do where there is no such file.

    Raises:
        UserError: no such file, or one of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kept = content["result"]
        return settings.model_validate(content["settings"]), None if kept is None else result.model_validate(kept)
    except FileNotFoundError:
        raise refuse(path, "no such file", missing) from None
    except (ValueError, KeyError, TypeError):
        found = "is not what this version of Skylight writes"
        raise refuse(path, found, f"remove {path.parent} and train again") from None


def require_weights(path: Path, result: _Result) -> None:
    """Refuse weights that are not those of the result."""
    expected = result.best_weights_sha256
    try:
        found = file_sha256(path)[:12]
    except OSError as error:
        found = error.strerror or str(error)
    if found != expected[:12]:
        what = f"not the file that training wrote ({found}, its record says {expected[:12]})"
        raise refuse(path, what, f"restore it, or remove {path.parent} and train again")


def require_equal(folder: Path, before: BaseModel, now: BaseModel, rename: str) -> None:
    """Refuse to go on with other settings than before. rename: how to train beside what lies there."""
    old, new = before.model_dump(mode="json"), now.model_dump(mode="json")
    for key, value in old.items():
        if new[key] != value:
            found = f"was trained with {key}={_short(value)}, now {key}={_short(new[key])}"
            raise refuse(folder, found, f"undo the change, remove the folder, or {rename}")


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 70 else text[:67] + "..."
