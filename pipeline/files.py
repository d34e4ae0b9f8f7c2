"""Files that appear complete or not at all. Knows nothing about what is in them."""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import refuse

__all__ = [
    "file_sha256",
    "locked_folder",
    "new_file",
    "new_folder",
    "own_folder",
    "write_bytes",
    "write_json",
    "write_text",
]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Hold `path` alone inside the block; it ends with the process, however that ends.

    Raises:
        UserError: another process holds it.
    """
    path.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refuse(path, "another process works in it", "wait until it is done, or stop it") from None
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on leaving without an error it is synced and renamed to `path`.

    The suffix of `path` is kept, since OpenCV and others choose the format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on leaving without an error it takes the place of `path`.

    An older folder of that name is moved away first and deleted afterwards. What a killed process left half-written
    is removed.
    """
    path = path.resolve()  # a link stays, what it points to is replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}-{os.getpid()}-", dir=path.parent))
    old = part.with_name(part.name + ".old")
    try:
        yield part
        part.chmod(0o755)
        if path.exists():
            path.rename(old)
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def own_folder(parent: Path, name: str) -> tempfile.TemporaryDirectory[str]:
    """A folder in `parent` for this process alone; what processes of this machine that were killed left is removed."""
    host = platform.node()
    for folder in parent.glob(f"{name}-{glob.escape(host)}-*-*"):
        process = folder.name.removeprefix(f"{name}-{host}-").split("-")[0]
        if process.isdecimal() and not _is_alive(int(process)):
            shutil.rmtree(folder, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"{name}-{host}-{os.getpid()}-", dir=parent)


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary folders of `path` whose process lives no more."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}-*-*"):
        process = folder.name.removeprefix(f".{path.name}-").split("-")[0]
        if process.isdecimal() and not _is_alive(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path`, complete or not at all."""
    with new_file(path) as part:
        part.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, complete or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` as indented JSON, complete or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
