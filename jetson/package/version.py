"""The version of package and image, which grows with every commit, so that dpkg and apt upgrade.

0.1.0                                                    a release: no checkout, or a commit with the tag v0.1.0
0.1.0+git20261121.211324.97c9f69a                        any other commit: when it was committed, in UTC, and its hash
0.1.0+git20261121.211324.97c9f69a.dirty20261121.220102   with changes to what is packed: when the newest was made

For dpkg each of these is newer than the one above it, and older than a commit of a later second. Nothing in it depends
on the clone (git's own short names grow with it), so that a commit has one version everywhere.
"""

import functools
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from deploy.errors import refuse
from deploy.version import VERSION

__all__ = ["version"]

_ROOT = Path(__file__).resolve().parents[2]
_PACKED = ("deploy", "jetson/package", "jetson/boards")
_DIGITS = 8  # of a commit's hash


@functools.cache
def version(root: Path = _ROOT) -> str:
    """The version of what lies in `root`; the same for as long as this process runs.

    Raises:
        UserError: it is a checkout, and git does not say of which commit.
    """
    if not (root / ".git").exists():
        return VERSION
    changed = _changed(root)
    if changed is None and f"v{VERSION}" in _git(root, "tag", "--points-at", "HEAD").splitlines():
        return VERSION
    seconds, commit = _git(root, "show", "--no-patch", "--format=%ct %H", "HEAD").split()
    text = f"{VERSION}+git{_stamp(int(seconds))}.{commit[:_DIGITS]}"
    return text if changed is None else f"{text}.dirty{_stamp(changed)}"


def _changed(root: Path) -> int | None:
    """When the newest of the changes to what is packed was made, in seconds since 1970; None where there is none."""
    listed = _git(root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *_PACKED)
    paths = [root / entry[3:] for entry in listed.split("\0") if entry]
    if not paths:
        return None
    return max(int(path.lstat().st_mtime) if path.exists() else 0 for path in paths)


def _stamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d.%H%M%S")


def _git(root: Path, *words: str) -> str:
    """What git says of `root`, whoever it belongs to (sudo, containers) and whatever a hook has set; writes nothing."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-c", f"safe.directory={root}", "-C", str(root), *words]
    remedy = "apt-get install git, or take the sources of a release"
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise refuse(f"git, for the version of {root}", error.strerror or error, remedy) from None
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise refuse(f"git, for the version of {root}", said, remedy)
    return done.stdout
