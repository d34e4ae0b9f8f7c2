"""Whether a file is an ONNX model that may be parsed: walks the messages in it without building them.

Two bytes can be an empty node that takes a hundred once it is parsed, messages can hold messages without end, and a
length can promise what is not there. All of that shows in the tags and lengths. Knows nothing of what a graph means.
"""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError, refuse

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

    fields = 0
    pending = [(0, len(data), onnx.ModelProto.DESCRIPTOR, 1)]
    while pending:
        position, end, kind, depth = pending.pop()
        if depth > limits.depth:
            raise refuse(name, f"nests messages more than {limits.depth} deep", "take the graph out of its loops")
        while position < end:
            fields += 1
            if fields > limits.fields:
                raise refuse(name, f"holds more than {limits.fields} values", "no detector has that many nodes")
            start = position
            tag, position = _varint(data, position, end, name)
            wire = tag & 7
            field = None
            begin = position
            if wire == 2:
                length, begin = _varint(data, position, end, name)
                field = kind.fields_by_number.get(tag >> 3)
                position = begin + length
            elif wire == 0:
                _, position = _varint(data, position, end, name)
            else:
                position += {1: 8, 5: 4}.get(wire, end + 1)  # groups, which ONNX has not, end beyond the end
            if position > end or not tag >> 3:
                raise _damaged(name, start)
            if field is not None and field.message_type is not None:
                # What is inside comes first, so that no more waits than is nested.
                pending += [(position, end, kind, depth), (begin, position, field.message_type, depth + 1)]
                break
            if field is not None and field.type == field.TYPE_STRING:
                _require_text(data[begin:position], begin, name, limits)


def _require_text(text: bytes, position: int, name: str, limits: ScanLimits) -> None:
    if len(text) > limits.text:
        raise refuse(name, f"holds a text of {len(text)} bytes", f"a name has at most {limits.text}")
    try:
        text.decode()
    except UnicodeDecodeError:
        raise _damaged(name, position) from None


def _varint(data: Any, position: int, end: int, name: str) -> tuple[int, int]:
    """A base-128 number and where it ends."""
    value = shift = 0
    start = position
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise _damaged(name, start)


def _damaged(name: str, position: int) -> UserError:
    return refuse(name, f"{_DAMAGED} (byte {position})", _REMEDY)
