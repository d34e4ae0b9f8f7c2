"""Files that appear complete or not at all. Knows nothing about what is in them.

Files and folders appear as they do on the drone, whose own module does it.
"""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.files import is_alive, new_file, new_folder
from pipeline.errors import refuse

__all__ = [
    "file_sha256",
    "locked_folder",
    "locked_name",
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
def locked_name(path: Path) -> Iterator[None]:
    """Hold the name `path` alone inside the block, whether anything is there or not, by a hidden file beside it.

    It ends with the process, however that ends; the hidden file, and a folder made for it, are removed.

    Raises:
        UserError: another process holds it; the message says which.
    """
    is_new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    handle = _locked(lock, path)
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {platform.node()}, since {time.strftime('%F %T %z')}".encode(), 0)
        yield
    finally:
        lock.unlink(missing_ok=True)  # while it is held, so that it is nobody else's
        os.close(handle)
        if is_new:
            with contextlib.suppress(OSError):
                path.parent.rmdir()


def _locked(lock: Path, path: Path) -> int:
    """An open file that is locked, and that still has its name."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode("utf-8", "replace") or "another process"
            os.close(handle)
            raise refuse(path, f"is being made by {holder}", "wait until it is done, or stop it") from None
        with contextlib.suppress(FileNotFoundError):
            if lock.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)  # its holder removed it between the two


def own_folder(parent: Path, name: str) -> tempfile.TemporaryDirectory[str]:
    """A folder in `parent` for this process alone; what processes of this machine that were killed left is removed."""
    host = platform.node()
    for folder in parent.glob(f"{name}-{glob.escape(host)}-*-*"):
        process = folder.name.removeprefix(f"{name}-{host}-").split("-")[0]
        if process.isdecimal() and not is_alive(int(process)):
            shutil.rmtree(folder, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"{name}-{host}-{os.getpid()}-", dir=parent)


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
