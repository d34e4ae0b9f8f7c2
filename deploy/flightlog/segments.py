"""The files of one flight's records: appended to, synced at an interval, a new one when one is full.

    flight-000012/segment-000000.jsonl      its first line is the header, as in every segment
    flight-000012/frames/000345.jpg         a frame worth labelling, beside 000345.json, which says why

A segment appears under its name with its first line, and its name is on disk before more is written. Knows nothing of
what the records mean.
"""

import contextlib
import errno
import os
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from deploy.files import sync_folder
from deploy.flightlog.lines import encode

FLIGHT = re.compile(r"flight-(\d{6,})$")
SEGMENT = re.compile(r"segment-(\d{6,})\.jsonl$")
FRAMES = "frames"


class Segment(NamedTuple):
    """A file of records of the flight `flight`."""

    flight: int
    number: int
    path: Path
    bytes: int


def flights(folder: Path) -> List[Tuple[int, Path]]:
    """Number and folder of every flight, the oldest first."""
    found = [(FLIGHT.match(path.name), path) for path in (folder.iterdir() if folder.is_dir() else ())]
    return sorted((int(name.group(1)), path) for name, path in found if name is not None and path.is_dir())


def segments(flight: Path) -> List[Segment]:
    """Of a flight, in order; one that vanishes meanwhile is left out."""
    of = FLIGHT.match(flight.name)
    found = []
    for path in flight.iterdir():
        name = SEGMENT.match(path.name)
        try:
            if name is not None:
                found.append(Segment(int(of.group(1)) if of else 0, int(name.group(1)), path, path.stat().st_size))
        except FileNotFoundError:
            continue
    return sorted(found)


def new_flight(folder: Path) -> Tuple[int, Path]:
    """Make the folder of the next flight: a number above every one that is there, whatever the clock says."""
    folder.mkdir(parents=True, exist_ok=True)
    number = max([number for number, _ in flights(folder)], default=0) + 1
    while True:
        path = folder / "flight-{:06d}".format(number)
        try:
            path.mkdir()
        except FileExistsError:  # another process was faster
            number += 1
            continue
        sync_folder(folder)
        return number, path


class SegmentWriter:
    """Appends records to a flight's segments.

    header: first record of every segment. limit: bytes of a segment. written: records in the files. synced: of these,
    those that a power cut leaves. closed_at: when the last record of each closed segment was written, by path.
    """

    def __init__(self, flight: Path, header: Dict[str, Any], limit: int) -> None:
        self._flight, self._header, self._limit = flight, header, limit
        self._handle: Optional[int] = None
        self._number = 0
        self._length = self._head = 0  # bytes, and those of the header
        self._is_dirty = False
        self.path: Optional[Path] = None
        self.written = self.synced = 0
        self.closed_at: Dict[Path, float] = {}

    def append(self, lines: List[bytes], now: float) -> None:
        """Write lines, each whole or not at all; `written` says how many.

        Raises OSError where the disk does not take them; after `abandon` the next call starts a new segment.
        """
        if self._handle is None:
            self._open()
        start = size = 0
        for index, line in enumerate(lines):
            if self._length + size + len(line) > self._limit and self._length + size > self._head:
                self._write_lines(lines[start:index])
                self.finish(now)
                self._open()
                start, size = index, 0
            size += len(line)
        self._write_lines(lines[start:])

    def sync(self) -> None:
        """Have everything written on disk. Raises OSError where that fails."""
        if self._handle is not None and self._is_dirty:
            os.fsync(self._handle)
            self._is_dirty = False
        self.synced = self.written

    def finish(self, now: float) -> None:
        """Sync and close the segment; the next record starts another."""
        if self._handle is None:
            return
        try:
            self.sync()
        finally:
            self.abandon(now)

    def abandon(self, now: float) -> None:
        """Close the segment as it is."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
            assert self.path is not None
            self.closed_at[self.path] = now

    def _open(self) -> None:
        """Start the next segment; where its header does not fit nothing stays behind."""
        path = self._flight / "segment-{:06d}.jsonl".format(self._number)
        self._handle = os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._length, self._number = 0, self._number + 1  # also where it fails: the name may stay behind
        try:
            self._write(encode(self._header))
            os.fsync(self._handle)
            sync_folder(self._flight)
        except OSError:
            os.close(self._handle)
            self._handle = None
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self.path, self._head = path, self._length

    def _write_lines(self, lines: List[bytes]) -> None:
        if lines:
            self._write(b"".join(lines))
            self.written += len(lines)

    def _write(self, data: bytes) -> None:
        """Append all of it, or cut off what was written of it and raise."""
        assert self._handle is not None
        done = 0
        try:
            while done < len(data):
                count = os.write(self._handle, data[done:])
                if not count:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                done += count
        except OSError:
            os.ftruncate(self._handle, self._length)
            raise
        self._length += done
        self._is_dirty = True
