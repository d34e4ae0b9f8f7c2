"""Files that hold what only root may read on the drone, hash and wireless password: closed to others on this computer.

NVIDIA's scripts write them as root with the usual permissions, and are not told otherwise: what they put into the root
file system has theirs.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jetson.flash.image import Image
from jetson.runner import Command, Runner

__all__ = ["close_system_image", "keep_clone", "part_folder", "private_folder"]


def close_system_image(image: Image, runner: Runner) -> None:
    """Let root alone read system.img, and the raw one that may lie beside it; a failure of it is only in the log."""
    folder = image.system_image.parent
    names = sorted(path.name for path in folder.glob(f"{image.system_image.name}*"))
    if names:
        runner.attempt(Command(("chmod", "600", *names), folder=folder, as_root=True))


def part_folder(file: Path) -> Path:
    """Folder that a clone is read into, beside its file."""
    return file.resolve().with_name(f"{file.name}.part")


@contextmanager
def private_folder(file: Path) -> Iterator[Path]:
    """That folder, empty, for us and root alone; it is gone afterwards."""
    folder = part_folder(file)
    _remove(folder)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        _remove(folder)


def keep_clone(file: Path, runner: Runner) -> None:
    """Give a clone its name, as ours; mksparse, where it is there, leaves a raw one too."""
    made = sorted(path for path in part_folder(file).iterdir())
    words = ("chown", f"{os.getuid()}:{os.getgid()}", *(path.name for path in made))
    runner.run(Command(words, folder=part_folder(file), as_root=True))
    for path in made:
        path.chmod(0o600)
        path.replace(file.resolve().with_name(path.name))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
