"""The settings of a drone: an INI file, a section for each part of the loop, every key with its default.

A part names its settings as a NamedTuple with a default for each field; its types say how a value is written. A method
`check` of it, where there is one, refuses what is out of range. Knows nothing of what the settings mean.
"""

import configparser
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

from deploy.errors import UserError, refuse

SETTINGS = Path("/etc/skylight/detect.ini")  # where the service's lie

_YES_OR_NO = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
_NONE = "none"


def read_settings(path: Optional[Path], sections: Dict[str, Any]) -> Dict[str, Any]:
    """Read a file; sections: by name, the NamedTuple class of each. Without a file everything has its default.

    A field is a bool (yes or no), int, float, str, Tuple[str, ...] (words with commas between) or Optional of these
    (`none`).

    Raises UserError naming file, section, key, what was found and what is allowed.
    """
    given = _parse(path) if path is not None else {}
    for section in given:
        if section not in sections:
            raise refuse("{}: [{}]".format(path, section), "unknown section", "allowed: " + ", ".join(sections))
    return {name: _section(path, name, kind, given.get(name, {})) for name, kind in sections.items()}


def require_ranges(settings: Any, **ranges: Tuple[float, float]) -> None:
    """Refuse a field that is outside of its range: by name, the least and the most allowed. None is not looked at.

    Raises UserError.
    """
    for key, (least, most) in ranges.items():
        value = getattr(settings, key)
        if value is not None and not least <= value <= most:
            raise refuse("{}={}".format(key, value), "is out of range", "allowed: {} to {}".format(least, most))


def settings_text(sections: Dict[str, Any]) -> str:
    """A settings file with every key at its default, each commented out, under its section's text."""
    blocks = []
    for name, kind in sections.items():
        about = (kind.__doc__ or "").strip().splitlines()
        lines = ["# " + line.strip() if line.strip() else "#" for line in about] + ["[{}]".format(name)]
        defaults = kind()
        lines += ["# {} = {}".format(key, _text(getattr(defaults, key))) for key in kind._fields]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _parse(path: Path) -> Dict[str, Dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#",), empty_lines_in_values=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys as they are written
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except OSError as error:
        raise refuse(path, error.strerror or str(error), "give a settings file") from None
    except UnicodeDecodeError:
        raise refuse(path, "is no text", "give a settings file") from None
    except configparser.Error as error:
        raise refuse(path, " ".join(str(error).split()), "write [section] and key = value") from None
    if parser.defaults():
        raise refuse("{}: [DEFAULT]".format(path), "unknown section", "put each key into its own section")
    return {name: dict(parser.items(name)) for name in parser.sections()}


def _section(path: Optional[Path], name: str, kind: Any, given: Dict[str, str]) -> Any:
    values = {}
    for key, text in given.items():
        if key not in kind._fields:
            place = "{}: [{}] {}".format(path, name, key)
            raise refuse(place, "unknown key", "allowed: " + ", ".join(kind._fields))
        try:
            values[key] = _value(text, kind.__annotations__[key])
        except ValueError as error:
            raise refuse("{}: [{}] {}={}".format(path, name, key, text), "cannot be taken", str(error)) from None
    settings = kind(**values)
    check = getattr(settings, "check", None)
    if check is not None:
        try:
            check()
        except UserError as error:
            raise UserError("{}: [{}] {}".format(path, name, error) if path else str(error)) from None
    return settings


def _value(text: str, kind: Any) -> Any:
    """A value of a type, or ValueError that says what is allowed."""
    if getattr(kind, "__origin__", None) is Union:
        if text.lower() == _NONE:
            return None
        kind = next(one for one in kind.__args__ if one is not type(None))
    if kind == Tuple[str, ...]:
        words: List[str] = [word.strip() for word in text.split(",")]
        return tuple(word for word in words if word)
    if kind is bool:
        if text.lower() not in _YES_OR_NO:
            raise ValueError("write yes or no")
        return _YES_OR_NO[text.lower()]
    if kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            raise ValueError("write a whole number" if kind is int else "write a number") from None
        if number != number or number in (float("inf"), -float("inf")):
            raise ValueError("write a finite number")
        return number
    return text


def _text(value: Any) -> str:
    if value is None:
        return _NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value)
