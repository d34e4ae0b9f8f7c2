"""Whether a video file is as long as its container says. MP4, AVI and Matroska say it; other formats may end anywhere.

The number of frames does not tell: a trimmed video announces more than it shows, and a missing end is only seen there.
"""

from pathlib import Path
from typing import BinaryIO


def missing_bytes(file: Path) -> int:
    """How many bytes the video lacks at its end; 0 if it is whole or its container does not say."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(8)
        if head[4:] == b"ftyp":
            end = _end_of_mp4(stream, size)
        elif head[:4] == b"RIFF":
            end = _end_of_avi(stream, size)
        elif head[:4] == b"\x1a\x45\xdf\xa3":
            end = _end_of_matroska(stream, size)
        else:
            end = size
    return max(0, end - size)


def _end_of_mp4(stream: BinaryIO, size: int) -> int:
    """ISO 14496-12: boxes of 4 bytes length, 4 bytes kind; what cameras append behind them is none of ours."""
    place = 0
    while place < size:
        stream.seek(place)
        head = stream.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if length < 8 or (place + length > size and kind not in (b"mdat", b"moov", b"moof")):
            return size
        place += length
    return place


def _end_of_avi(stream: BinaryIO, size: int) -> int:
    """One RIFF part, or several where the file is long."""
    place = 0
    while place < size:
        stream.seek(place)
        head = stream.read(8)
        if head[:4] != b"RIFF":
            return size
        place += 8 + int.from_bytes(head[4:], "little")
    return place


def _end_of_matroska(stream: BinaryIO, size: int) -> int:
    """RFC 8794: the header, then one segment, whose length is all ones where it was recorded live."""
    stream.seek(4)
    header = _length(stream)
    if not 0 <= header < size:
        return size
    stream.seek(header, 1)
    if stream.read(4) != b"\x18\x53\x80\x67":
        return size
    length = _length(stream)
    return stream.tell() + length if length >= 0 else size


def _length(stream: BinaryIO) -> int:
    """A number whose leading zeros say how many bytes follow; -1 if all its bits are ones."""
    first = (stream.read(1) or b"\1")[0]
    count = 8 - first.bit_length()
    bits = 7 * (count + 1)
    value = int.from_bytes(bytes([first]) + stream.read(count), "big") & ((1 << bits) - 1)
    return -1 if value == (1 << bits) - 1 else value
