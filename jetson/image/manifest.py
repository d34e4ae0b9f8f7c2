"""Every file of a tree, one line each: kind, mode, owner, size, SHA-256, path. The same inputs give the same lines.

Times are not in it: they say when something was made. Knows nothing of what the files are for.
"""

import hashlib
import os
import stat
from pathlib import Path

from deploy.files import new_file

__all__ = ["tree_lines", "write_manifest"]

_BLOCK = 1 << 20


def write_manifest(tree: Path, path: Path) -> str:
    """Write the lines of `tree` to `path`; returns the SHA-256 of that text."""
    text = "".join(line + "\n" for line in tree_lines(tree))
    with new_file(path, 0o600) as part:  # hashes of files that hold passwords
        part.write_text(text, encoding="utf-8", errors="surrogateescape")
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def tree_lines(tree: Path) -> list[str]:
    """Lines of a tree, sorted by path: "f 0644 0:0 12 5c...e1 etc/hostname", links with their target, devices."""
    lines = []
    for folder, folders, names in os.walk(tree):
        folders.sort()
        for name in sorted([*folders, *names]):
            path = Path(folder) / name
            lines.append((str(path.relative_to(tree)), _line(path)))
    return [f"{line} {_shown(path)}" for path, line in sorted(lines)]


def _line(path: Path) -> str:
    found = path.lstat()
    owner = f"{stat.S_IMODE(found.st_mode):04o} {found.st_uid}:{found.st_gid}"
    if stat.S_ISREG(found.st_mode):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return f"f {owner} {found.st_size} {digest.hexdigest()}"
    if stat.S_ISLNK(found.st_mode):
        return f"l {owner} - {_shown(os.readlink(path))}"  # noqa: PTH115 -- the text, not a path made of it
    if stat.S_ISDIR(found.st_mode):
        return f"d {owner} - -"
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        kind = "c" if stat.S_ISCHR(found.st_mode) else "b"
        return f"{kind} {owner} - {os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    return f"p {owner} - -"


def _shown(name: str) -> str:
    """A name on one line."""
    return name.replace("\\", "\\\\").replace("\n", "\\n")
