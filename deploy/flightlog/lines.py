"""A record as a line: JSON whose last key is the CRC-32 of what stands before it.

    {"n":17,"type":"event","kind":"camera.lost",...,"crc":"1c291ca3"}

Why a checksum: after a power cut a file can have its length without its content; the file system then gives zeros, or
what a block held before, perhaps a line of an older log, which may well be JSON. A line counts only where it is whole.
"""

import json
import zlib
from typing import Any, Dict, Optional

_MARK = b',"crc":"'
_TAIL = len(_MARK) + 8 + len(b'"}')


def encode(record: Dict[str, Any]) -> bytes:
    """A line with its end. record: JSON values, without `crc`; what is not finite becomes null, what is no
    JSON its text."""
    try:
        body = json.dumps(record, separators=(",", ":"), allow_nan=False, default=str).encode("ascii")[:-1]
    except ValueError:
        body = json.dumps(_finite(record), separators=(",", ":"), default=str).encode("ascii")[:-1]
    return body + _MARK + b"%08x" % (zlib.crc32(body) & 0xFFFFFFFF) + b'"}\n'


def decode(line: bytes) -> Optional[Dict[str, Any]]:
    """The record of a line with its end; None where it is not whole."""
    if not line.endswith(b'"}\n') or len(line) <= _TAIL:
        return None
    body, tail = line[: -_TAIL - 1], line[-_TAIL - 1 : -1]
    if tail != _MARK + b"%08x" % (zlib.crc32(body) & 0xFFFFFFFF) + b'"}':
        return None
    try:
        record = json.loads(body.decode("ascii") + "}")
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return None
    return value
