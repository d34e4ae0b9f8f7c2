"""Keeps what was measured on photos, so that a rerun and a broken-off run measure nothing twice.

One SQLite file. A key is what the value depends on, hashed: content of the photo, boxes, version of the measure. So an
entry can be missing, never wrong, and the file may be deleted at any time.
"""

import hashlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import numpy as np

from pipeline.errors import refuse

__all__ = ["ScoreCache", "cache_key"]

_COMMIT_EVERY = 200  # entries that a killed process may lose


def cache_key(measure: str, photo_sha256: str, *arrays: np.ndarray) -> str:
    """Key of what `measure`, a name with its version, says about a photo and `arrays` of any shape that go with it."""
    digest = hashlib.sha256(f"{measure} {photo_sha256}".encode())
    for array in arrays:
        digest.update(f" {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


class ScoreCache:
    """Float64 vectors by key; use as a context manager. Several processes may share the file.

    path: None remembers for as long as the object lives.
    """

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._new = 0
        try:
            self._connection = sqlite3.connect(path or ":memory:", timeout=60)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
        except sqlite3.DatabaseError as error:
            raise refuse(str(path), f"no usable score cache ({error})", "delete it; it is made again") from None

    def __enter__(self) -> "ScoreCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.commit()
        self._connection.close()

    def get(self, keys: Iterable[str]) -> dict[str, np.ndarray]:
        """What is known of `keys`: (n,) float64 each."""
        found = {}
        for key in keys:
            for (value,) in self._connection.execute("SELECT value FROM scores WHERE key = ?", [key]):
                found[key] = np.frombuffer(value, dtype=np.float64)
        return found

    def put(self, key: str, value: np.ndarray) -> None:
        """Remember (n,) float64 under `key`."""
        blob = np.ascontiguousarray(value, dtype=np.float64).tobytes()
        self._connection.execute("INSERT OR REPLACE INTO scores VALUES (?, ?)", [key, blob])
        self._new += 1
        if self._new % _COMMIT_EVERY == 0:
            self._connection.commit()
