"""JSON from hands that may be hostile: one meaning or none. Knows nothing of what is in it.

Python's own reader takes NaN and Infinity, keeps the last of two equal keys, and needs a time that grows with the
square of a number's digits.
"""

import json
import math
from typing import Any, Dict, List, Tuple

# More digits than any 64-bit integer has.
_DIGITS = 20
_DEPTH = 64  # of lists and objects in one another; a manifest has 8


def parse_json(data: bytes) -> Any:
    """Read UTF-8 JSON. Raises ValueError, whose text says what is wrong, for all that is not plain JSON."""
    try:
        content = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_finite,
        )
        _require_depth(content)
        json.dumps(content, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half a character") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return content


def canonical_json(content: Any) -> bytes:
    """The one way in which a manifest is written: sorted keys, ASCII, a line per value.

    Raises ValueError, whose text says what is wrong, for what `parse_json` would not take.
    """
    _require_depth(content)
    return (json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def short(value: object) -> str:
    """A value for a message: one line of plain ASCII, cut where it is long.

    >>> short("K" + chr(0xF6) + "ln")
    "'K\\\\xf6ln'"
    """
    text = ascii(value)
    return text if len(text) <= 70 else text[:67] + "..."


def _require_depth(content: Any) -> None:
    """Level by level: what is called once per level ends at the interpreter's limit, wherever that happens to be."""
    level = [content]
    for _ in range(_DEPTH):
        lists = [value for value in level if isinstance(value, (list, tuple))]
        dicts = [value for value in level if isinstance(value, dict)]
        level = [inner for value in lists for inner in value] + [inner for value in dicts for inner in value.values()]
        if not level:
            return
    raise ValueError("it is nested more than {} deep".format(_DEPTH))


def _without_duplicates(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    content: Dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError("it has the key {} twice".format(short(key)))
        content[key] = value
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError("{} is no number in JSON".format(name))


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError("it holds a number of {} digits".format(len(text)))
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("{} is too large for a number".format(short(text)))
    return value
