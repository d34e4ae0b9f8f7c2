"""Keeps the log within its share of the disk: the oldest goes first, the end of this flight never. Writes nothing."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Dict, List, Tuple

from deploy.flightlog.segments import FRAMES, flights, segments


def free_bytes(folder: Path) -> int:
    """That users may still write on the disk of `folder`."""
    about = os.statvfs(str(folder))
    return about.f_bavail * about.f_frsize


def trim_records(folder: Path, limit: int, current: Path, closed_at: Dict[Path, float], protected_from: float) -> int:
    """Delete the oldest segments until those of all flights have at most `limit` bytes; returns what they then have.

    current: folder of this flight, of which a segment goes only if its last record, by closed_at, is older than
    protected_from; the one that is written has no such time, and stays. A flight without segments and frames goes too.
    """
    found = [segment for _, flight in flights(folder) for segment in _listed(flight)]
    total = sum(segment.bytes for segment in found)
    for segment in found:
        if total <= limit:
            break
        if segment.path.parent == current and closed_at.get(segment.path, float("inf")) >= protected_from:
            continue
        with contextlib.suppress(OSError):
            segment.path.unlink()
            total -= segment.bytes
            closed_at.pop(segment.path, None)
    _remove_empty(folder, current)
    return total


def trim_frames(folder: Path, limit: int, current: Path, kept_at: Dict[Path, float], protected_from: float) -> int:
    """The same for frames worth labelling, each with what is written beside it. kept_at: of this flight's frames."""
    found: List[Tuple[Path, int]] = []
    for _, flight in flights(folder):
        found += _frames(flight / FRAMES)
    total = sum(size for _, size in found)
    for path, size in found:
        if total <= limit:
            break
        if path.parent.parent == current and kept_at.get(path, float("inf")) >= protected_from:
            continue
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size
            kept_at.pop(path, None)
        with contextlib.suppress(OSError):
            path.with_suffix(".json").unlink()
    return total


def _listed(flight: Path) -> list:
    try:
        return segments(flight)
    except OSError:
        return []


def _frames(folder: Path) -> List[Tuple[Path, int]]:
    """Picture and bytes of it with what is beside it, the oldest first: numbers of frames grow in a flight."""
    sizes: Dict[Path, int] = {}
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                name = path.with_suffix(".jpg")
                sizes[name] = sizes.get(name, 0) + path.stat().st_size
    return sorted(sizes.items(), key=lambda item: (len(item[0].name), item[0].name))


def _remove_empty(folder: Path, current: Path) -> None:
    for _, flight in flights(folder):
        if flight != current and not _listed(flight) and not _frames(flight / FRAMES):
            shutil.rmtree(str(flight), ignore_errors=True)
