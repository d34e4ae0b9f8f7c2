"""Settings that people write: a YAML file into a checked model. Knows no model itself."""

from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from deploy.errors import UserError, refuse

__all__ = ["read_yaml"]

_AnyModel = TypeVar("_AnyModel", bound=BaseModel)


def read_yaml(path: Path, kind: type[_AnyModel]) -> _AnyModel:
    """Read a YAML file into a pydantic model; anything wrong is one line with file, key, value and what is allowed."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise refuse(path, error.strerror or str(error), "give the path of a YAML file") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no date, or not UTF-8
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or " ".join(str(error).split())[:80]
        raise refuse(where, f"not YAML: {problem}", "correct the line") from None
    if not isinstance(content, dict):
        raise refuse(path, "holds no mapping of keys", f"write keys such as {', '.join(list(kind.model_fields)[:3])}")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise _first_problem(path, error, kind) from None


def _first_problem(path: Path, error: ValidationError, kind: type[BaseModel]) -> UserError:
    # A key that is misspelt is missing too, and the misspelling is what there is to see.
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in problem["loc"])
    others = error.error_count() - 1
    more = f" ({others} more problem{'s' if others > 1 else ''})" if others else ""
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        allowed = ", ".join(_fields_at(kind, problem["loc"][:-1]))
        return refuse(path, f"unknown key {key}: {problem['input']!r}"[:200], f"allowed here: {allowed}{more}")
    if problem["type"] == "missing":
        return refuse(path, f"key {key} is missing", f"add it{more}")
    if problem["type"] == "value_error":
        return UserError(f"{path}: {key + ': ' if key else ''}{message}{more}")
    return refuse(path, f"{key}: found {problem['input']!r}"[:200], f"{message}{more}")


def _fields_at(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the model that stands at `location` below `kind`."""
    for part in location:
        field = kind.model_fields.get(str(part))
        if field is None:
            continue
        found: list[Any] = [field.annotation]
        while found:
            candidate = found.pop()
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                kind = candidate
                break
            found += list(get_args(candidate))
    return list(kind.model_fields)
