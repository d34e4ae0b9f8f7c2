"""Files in the root file system of an image, with mode and owner, whatever the umask is.

A file that is a link is replaced. A folder that is a link to an absolute path is refused: here it would be one of this
machine.
"""

import os
import shutil
from pathlib import Path

from deploy.errors import refuse

__all__ = ["link", "make_folder", "remove_tree", "write"]


def write(path: Path, content: str | bytes, mode: int = 0o644, uid: int = 0, gid: int = 0) -> None:
    """Write a file, in place of what was there; a link is replaced, not followed. Folders above it are root's."""
    make_folder(path.parent)
    path.unlink(missing_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    os.chown(path, uid, gid)


def link(path: Path, target: str) -> None:
    """Make a symbolic link, in place of what was there."""
    make_folder(path.parent)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def make_folder(path: Path, mode: int | None = None, uid: int = 0, gid: int = 0) -> None:
    """Make a folder; mode and owner are set where a mode is given, or where it is new.

    Raises:
        UserError: it is a link to an absolute path.
    """
    if path.is_symlink() and path.readlink().is_absolute():
        raise refuse(path, f"is a link to {path.readlink()}, which is of this machine here", "take another root")
    is_new = not path.is_dir()
    if is_new:
        make_folder(path.parent)
        path.mkdir()
    if is_new or mode is not None:
        path.chmod(0o755 if mode is None else mode)
        os.chown(path, uid, gid)


def remove_tree(path: Path) -> None:
    """Remove a tree that a step made.

    Raises:
        UserError: something is mounted in it, which would be removed too.
    """
    place = str(path.resolve())
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mounted = line.split()[4]
        if mounted == place or mounted.startswith(place + "/"):
            raise refuse(mounted, "is mounted in the tree that has to be made anew", f"umount {mounted}")
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
