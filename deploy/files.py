"""Files and folders that appear complete or not at all, for drone and workstation. Knows nothing of what is in them."""

import contextlib
import glob
import os
import shutil
import tempfile
from pathlib import Path
from typing import Iterator

_OLD = ".old"


@contextlib.contextmanager
def new_file(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on leaving without an error it is synced and renamed to `path`.

    The suffix of `path` is kept, since OpenCV and others choose the format by it. mode: permissions, which the file has
    when it appears; until then only this user can read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".{}-".format(path.stem), suffix=path.suffix, dir=str(path.parent))
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(mode)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on leaving without an error it takes the place of `path`.

    An older folder of that name is moved away first and deleted afterwards; where the new one does not come, it comes
    back. What a killed process left half-written is removed.
    """
    path = path.resolve()  # a link stays, what it points to is replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    prefix = ".{}-{}-".format(path.name, os.getpid())
    part = Path(tempfile.mkdtemp(prefix=prefix, dir=str(path.parent)))
    old = part.with_name(part.name + _OLD)
    try:
        yield part
        part.chmod(0o755)
        if path.exists():
            path.rename(old)
        part.rename(path)
    finally:
        shutil.rmtree(str(part), ignore_errors=True)
        _restore_or_remove(old, path)


def sync_folder(path: Path) -> None:
    """Make the names in a folder last: a file that was renamed in it may else be gone after a power cut."""
    handle = os.open(str(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_alive(process: int) -> bool:
    """Whether a process of that number runs on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _restore_or_remove(old: Path, path: Path) -> None:
    """Deal with what was moved away from `path`: it is the only one left if nothing took its place."""
    if old.exists() and not path.exists():
        old.rename(path)
    shutil.rmtree(str(old), ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary folders of `path` whose process lives no more, and take back what it had moved away."""
    prefix = ".{}-".format(path.name)
    for folder in path.parent.glob(glob.escape(prefix) + "*-*"):
        process = folder.name[len(prefix) :].split("-")[0]
        if process.isdecimal() and not is_alive(int(process)):
            if folder.name.endswith(_OLD):
                _restore_or_remove(folder, path)
            shutil.rmtree(str(folder), ignore_errors=True)
