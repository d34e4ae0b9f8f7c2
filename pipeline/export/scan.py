"""Whether a file is an ONNX model that may be parsed: walks the messages in it without building them.

Two bytes can be an empty node that takes a hundred once it is parsed, messages can hold messages without end, and a
length can promise what is not there. All of that shows in the tags and lengths. Knows nothing of what a graph means.
"""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.protobuf import BrokenError, TooManyError, Walker
from pipeline.errors import refuse

__all__ = ["LIMITS", "ScanLimits", "read_checked"]


@dataclass(frozen=True)
class ScanLimits:
    """What a model may hold at most.

    Attributes:
        size: bytes; protobuf itself reads no more than 2 GiB.
        fields: single values, texts and messages together; a network of 50,000 nodes has about a million.
        depth: of messages in messages; a loop in a loop has 10.
        text: bytes of a name or a description.
    """

    size: int = 2**31 - 1
    fields: int = 2_000_000
    depth: int = 32
    text: int = 2**24


LIMITS = ScanLimits()
_DAMAGED = "is damaged, or no ONNX file"
_REMEDY = "give an ONNX model, exported or copied again"


def read_checked(source: Path | bytes, limits: ScanLimits = LIMITS) -> tuple[Any, str]:
    """Parse a model that was found sound; returns it (onnx.ModelProto) and what to call it.

    Raises:
        UserError: no file, no ONNX, damaged, or made to take more memory than a model needs.
    """
    if isinstance(source, bytes):
        return _parsed(source, "model", limits), "model"
    name = str(source)
    try:
        size = source.stat().st_size
        if source.is_dir() or not source.is_file():
            raise refuse(name, "is no file", _REMEDY)
        _require_size(size, name, limits)
        with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parsed(data, name, limits), name
    except OSError as error:
        raise refuse(name, error.strerror or str(error), "give the path of an ONNX file") from None


def _require_size(size: int, name: str, limits: ScanLimits) -> None:
    if size == 0:
        raise refuse(name, "is empty", _REMEDY)
    if size > limits.size:
        raise refuse(name, f"has {size} bytes", f"an ONNX file has at most {limits.size}")


def _parsed(data: Any, name: str, limits: ScanLimits) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    _require_size(len(data), name, limits)
    _scan(data, name, limits)
    try:
        model = onnx.ModelProto.FromString(bytes(data))
    except DecodeError:
        raise refuse(name, _DAMAGED, _REMEDY) from None
    if not model.HasField("graph") or not model.opset_import:
        raise refuse(name, "holds no graph or names no operator set", _REMEDY)
    return model


def _scan(data: Any, name: str, limits: ScanLimits) -> None:
    """Follow every tag and length; `data` gives bytes by index."""
    import onnx

    walker = Walker(data, limits.fields)
    # What is inside a message comes before what follows it, so that no more waits than is nested.
    pending = [(walker.fields(walker.whole), onnx.ModelProto.DESCRIPTOR)]
    try:
        while pending:
            fields, kind = pending[-1]
            found = next(fields, None)
            if found is None:
                pending.pop()
                continue
            field = kind.fields_by_number.get(found.number)
            if field is None or isinstance(found.value, int):
                continue
            if field.message_type is not None:
                if len(pending) >= limits.depth:
                    found_depth = f"nests messages more than {limits.depth} deep"
                    raise refuse(name, found_depth, "take the graph out of its loops")
                pending.append((walker.fields(found.value), field.message_type))
            elif field.type == field.TYPE_STRING:
                _require_text(data[slice(*found.value)], found.value[0], name, limits)
    except BrokenError as error:
        raise refuse(name, f"{_DAMAGED} ({error})", _REMEDY) from None
    except TooManyError:
        raise refuse(name, f"holds more than {limits.fields} values", "no detector has that many nodes") from None


def _require_text(text: bytes, position: int, name: str, limits: ScanLimits) -> None:
    if len(text) > limits.text:
        raise refuse(name, f"holds a text of {len(text)} bytes", f"a name has at most {limits.text}")
    try:
        text.decode()
    except UnicodeDecodeError:
        raise BrokenError(f"no text at byte {position}") from None
