"""Changes on disk that a power cut leaves either done or not done: each is synced before it returns.

A file's content is synced before its name appears, and a folder after a name in it changed; without the second, a
rename may be undone by the cut (fsync(2), "Notes"; rename(2) says only that nobody sees half of it). Knows nothing of
what the files mean.
"""

import contextlib
import os
import stat
from pathlib import Path
from typing import Iterator

from deploy.files import sync_folder

_BLOCK = 1 << 20


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file by `data`, whole or not at all. Only one process at a time may write to a path."""
    part = path.with_name("." + path.name + ".part")
    with _new(part) as handle:
        _write_all(handle, data)
    part.rename(path)
    sync_folder(path.parent)


def copy_durably(source: Path, target: Path) -> None:
    """Copy a file's content; `target` is synced, its name is not: that takes one sync of the folder for many files."""
    with source.open("rb") as file, _new(target) as handle:
        while True:
            block = file.read(_BLOCK)
            if not block:
                return
            _write_all(handle, block)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o755)
    sync_folder(path.parent)


def rename_durably(source: Path, target: Path) -> None:
    """Rename within one folder."""
    source.rename(target)
    sync_folder(target.parent)


def link_durably(link: Path, target: str) -> None:
    """Let the symbolic link `link` point to `target`; there is no moment without it."""
    part = link.with_name("." + link.name + ".part")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    part.symlink_to(target)
    part.rename(link)
    sync_folder(link.parent)


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it, or a file; follows no link."""
    if not os.path.lexists(str(path)):
        return
    if not stat.S_ISDIR(os.lstat(str(path)).st_mode):
        path.unlink()
        return
    for entry in sorted(path.iterdir()):
        remove_tree(entry)
    path.rmdir()


@contextlib.contextmanager
def _new(path: Path) -> Iterator[int]:
    """A handle for an empty file; its content is synced on leaving without an error."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    handle = os.open(str(path), flags, 0o644)
    try:
        yield handle
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_all(handle: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]
