"""Reads a flight back, whatever a crash, a full disk or a power cut left of it. Judges nothing.

A line that is not whole is dropped and said; the whole ones around it stand.
"""

import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from deploy.errors import refuse
from deploy.flightlog.lines import decode
from deploy.flightlog.segments import flights, segments

_LINE_LIMIT = 1 << 20  # bytes; a frame with 1000 detections has 150 kB
_REMEDY = "give the folder of a flight, or the one that holds the flights"


def find_flight(path: Path, number: Optional[int] = None) -> Path:
    """The folder of a flight: `path` itself, or in it that of `number`, by default the newest that has records.

    Raises UserError where there is none.
    """
    if not path.is_dir():
        raise refuse(path, "no such folder", _REMEDY)
    if is_flight(path):
        return path
    found = flights(path)
    if number is not None:
        found = [(one, folder) for one, folder in found if one == number]
        if not found:
            raise refuse("flight {}".format(number), "is not in {}".format(path), "give a number that is there")
    for _, folder in reversed(found):
        if is_flight(folder):
            return folder
    raise refuse(path, "holds no flight", _REMEDY)


def is_flight(path: Path) -> bool:
    """Whether a folder holds the records of a flight."""
    return path.is_dir() and bool(segments(path))


class FlightRecords:
    """An iterator over the records of one flight, header first; may be iterated again.

    problems: what could not be read, a line each, known when an iteration is over. header: the first one, {} without.
    """

    def __init__(self, flight: Path) -> None:
        self.folder = flight
        self.problems: List[str] = []
        try:
            self._segments = segments(flight)
        except OSError as error:
            raise refuse(flight, error.strerror or str(error), _REMEDY) from None
        if not self._segments:
            raise refuse(flight, "holds no records", _REMEDY)
        self.header: Dict[str, Any] = next((one for one in self if one.get("type") == "header"), {})

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        self.problems = []
        has_header, last = False, -1
        if self._segments[0].number > 0:
            self.problems.append("segments 0 to {} were deleted for room".format(self._segments[0].number - 1))
        for segment in self._segments:
            for record in self._records(segment.path):
                if record.get("type") == "header":
                    if has_header:
                        continue
                    has_header = True
                else:
                    number = record.get("n", -1)
                    if not isinstance(number, int) or number <= last:
                        self.problems.append("{}: record {} comes twice".format(segment.path.name, number))
                        continue
                    last = number
                yield record

    def _records(self, path: Path) -> Iterator[Dict[str, Any]]:
        place = 0
        try:
            with path.open("rb") as file:
                while True:
                    line = file.readline(_LINE_LIMIT)
                    if not line:
                        return
                    record = decode(line)
                    if record is not None:
                        yield record
                    else:
                        is_last = not line.endswith(b"\n")
                        what = "the last line is torn" if is_last else "a line is not whole"
                        self.problems.append("{}: {}, {} bytes at {}".format(path.name, what, len(line), place))
                    place += len(line)
        except OSError as error:
            self.problems.append("{}: {}".format(path.name, error.strerror or error))


def flight_name(header: Dict[str, Any], folder: Path) -> str:
    """A name that no other flight has, also not that of another drone: flight-000012-5f3a9c01."""
    ending = re.sub(r"[^0-9a-f]", "", str(header.get("id", "")))[:8]
    return folder.resolve().name + ("-" + ending if ending else "")
