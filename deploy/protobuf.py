"""The wire format of protobuf: the fields of a message one after another, without building anything of them.

Two bytes can be a message that takes a hundred once it is parsed, messages can hold messages without end, and a length
can promise what is not there: all of that shows here, before a parser meets it. Format: protobuf.dev, "Encoding".
Knows nothing of what a field means.
"""

from typing import Any, Iterator, List, NamedTuple, Tuple, Union

Span = Tuple[int, int]  # where bytes begin and end

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


class BrokenError(Exception):
    """The bytes are no message; the text says what is wrong and at which byte."""


class TooManyError(Exception):
    """A message holds more fields than were allowed."""


class Field(NamedTuple):
    """number: of the field. value: a number, 0 to 2^64 - 1, or where its bytes lie."""

    number: int
    value: Union[int, Span]

    @property
    def span(self) -> Span:
        """Where its bytes lie. Raises BrokenError where it is a number."""
        if isinstance(self.value, int):
            raise BrokenError("a number where something else belongs")
        return self.value


class Walker:
    """Walks through the messages in `data`, bytes by index, and counts what it meets.

    most: fields and packed numbers in all; TooManyError is raised beyond.
    """

    def __init__(self, data: Any, most: int) -> None:
        self.data = data
        self._left = most

    @property
    def whole(self) -> Span:
        """All of the data."""
        return 0, len(self.data)

    def fields(self, span: Span) -> Iterator[Field]:
        """The fields of the message there. Raises BrokenError, when it comes to what is none."""
        place, end = span
        while place < end:
            self._count()
            start = place
            key, place = self._varint(place, end)
            number, kind = key >> 3, key & 7
            if not number:
                raise BrokenError("a field 0 at byte {}".format(start))
            if kind == _VARINT:
                value, place = self._varint(place, end)
                yield Field(number, value)
                continue
            if kind == _BYTES:
                length, place = self._varint(place, end)
            elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
                length = 8 if kind == _EIGHT_BYTES else 4
            else:  # groups, which proto3 has not
                raise BrokenError("a field of kind {} at byte {}".format(kind, start))
            if length > end - place:
                raise BrokenError("it breaks off at byte {}".format(place))
            yield Field(number, (place, place + length))
            place += length

    def inside(self, span: Span, *path: int) -> List[Field]:
        """The fields at the end of a path of field numbers."""
        found = [field for field in self.fields(span) if field.number == path[0]]
        for number in path[1:]:
            found = [inner for field in found for inner in self.fields(field.span) if inner.number == number]
        return found

    def integers(self, value: Union[int, Span]) -> List[int]:
        """The numbers of a repeated int64, packed or one by one."""
        if isinstance(value, int):
            return [signed(value)]
        place, end = value
        found = []
        while place < end:
            self._count()
            number, place = self._varint(place, end)
            found.append(signed(number))
        return found

    def text(self, span: Span, most: int) -> str:
        """UTF-8, at most so many bytes of it; what is none is replaced."""
        begin, end = span
        return bytes(self.data[begin : min(end, begin + most)]).decode("utf-8", "replace")

    def _varint(self, place: int, end: int) -> Tuple[int, int]:
        """A number in base 128, and where it ends."""
        value = 0
        for shift in range(0, 70, 7):
            if place >= end:
                raise BrokenError("it breaks off at byte {}".format(place))
            byte = self.data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, place
        raise BrokenError("a number has no end at byte {}".format(place))

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise TooManyError


def signed(value: int) -> int:
    """A number as an int64."""
    return value - (1 << 64) if value >= 1 << 63 else value
