"""Installs the package into a root file system of another machine, whose programs do not run here.

The host's dpkg unpacks, and the package's own scripts run on the host with DPKG_ROOT set: no emulator, and the same
files each time. Triggers of other packages (man-db) wait for the next dpkg on the board: they know no DPKG_ROOT.
"""

import re
from pathlib import Path

from deploy.errors import refuse
from jetson.package.build import epoch
from jetson.package.contents import NAME
from jetson.runner import Command, Runner

__all__ = ["NEEDED", "install_offline"]

NEEDED = ("python3", "passwd")
_PYTHON = (3, 6)


def install_offline(package: Path, root: Path, log_folder: Path, runner: Runner) -> None:
    """Install the Debian package into `root`. Needs root, or fakeroot; may be called again.

    log_folder: takes dpkg's log, which would tell the time of day in the image.

    Raises:
        UserError: `root` has no dpkg, or misses what the package needs; dpkg refuses.
    """
    _require(root)
    words = ("dpkg", f"--root={root.resolve()}", f"--log={log_folder.resolve()}/dpkg.log", "--no-triggers")
    # Dependencies are of the board's architecture, which the host's dpkg does not count; _require did.
    force = ("--force-script-chrootless", "--force-depends", "--force-confold")
    environment = ("env", f"SOURCE_DATE_EPOCH={epoch()}", "LC_ALL=C")
    runner.run(Command((*environment, *words, *force, "--install", str(package.resolve())), folder=log_folder))


def _require(root: Path) -> None:
    """Check what --force-depends turns off."""
    path = root / "var/lib/dpkg/status"
    try:
        status = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise refuse(path, error.strerror or error, "give a root file system of Debian or Ubuntu") from None
    for name in NEEDED:
        version = _installed(status, name)
        if version is None:
            raise refuse(root, f"{name} is not installed, {NAME} needs it", "take the whole sample root file system")
        if name == "python3" and tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _PYTHON:
            raise refuse(root, f"has Python {version}", "Python 3.6 is the oldest that runs what flies")


def _installed(status: str, name: str) -> str | None:
    """Version of a package that is installed, from dpkg's database."""
    for entry in status.split("\n\n"):
        if entry.startswith(f"Package: {name}\n") and re.search(r"^Status: .* installed$", entry, re.MULTILINE):
            found = re.search(r"^Version: (\S+)$", entry, re.MULTILINE)
            return found[1] if found else None
    return None
