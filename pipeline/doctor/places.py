"""The doctor's look at where things lie: disks, folders, cache, keys, and the browser of the tests."""

import os
import shutil
import tempfile
from pathlib import Path

from deploy.life.checks import OK, PROBLEM, WARNING, Check
from pipeline.doctor.workstation import Workstation, amount
from pipeline.errors import UserError

__all__ = ["check_cache", "check_chromium", "check_disk", "check_folders", "check_keys"]

# GiB. A sweep of 27 trials keeps about 3 of weights; the box files of Open Images and 2000 photos take 5.
_LEAST_DISK = 1
_GOOD_DISK = 10
_LEAST_TEMPORARY = 0.2
_GOOD_TEMPORARY = 2

_FOLDERS = ("data", "runs", "bundles", "cache")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def check_disk(workstation: Workstation) -> list[Check]:
    """Room where data, runs, bundles and cache go, a line for each file system, and for temporary files."""
    places: dict[int, list[str]] = {}
    for name in _FOLDERS:
        places.setdefault(_existing(workstation.workspace.root / name).stat().st_dev, []).append(name)
    checks = []
    for names in places.values():
        free = shutil.disk_usage(_existing(workstation.workspace.root / names[0])).free / 2**30
        about = f"free for {', '.join(names)}"
        checks.append(amount("disk", free, _LEAST_DISK, _GOOD_DISK, about, "delete old runs, or give another --root"))
    temporary = Path(workstation.environment.get("TMPDIR") or tempfile.gettempdir())
    free = shutil.disk_usage(_existing(temporary)).free / 2**30
    remedy = "name a larger folder in TMPDIR"
    return [*checks, amount("disk", free, _LEAST_TEMPORARY, _GOOD_TEMPORARY, f"free in {temporary}", remedy)]


def check_folders(workstation: Workstation) -> list[Check]:
    """Every folder that commands write can be written, or made."""
    checks = []
    for name in _FOLDERS:
        folder = workstation.workspace.root / name
        there = _existing(folder)
        if os.path.lexists(folder) and not folder.is_dir():
            checks.append(Check("folders", PROBLEM, f"{folder} is no folder", "move it away, or give another --root"))
        elif not os.access(there, os.W_OK | os.X_OK):
            remedy = f"sudo chown -R $USER {there}, or give another --root"
            checks.append(Check("folders", PROBLEM, f"{folder}: {there} may not be written", remedy))
    return checks or [Check("folders", OK, f"{', '.join(_FOLDERS)} in {workstation.workspace.root.resolve()}")]


def check_cache(workstation: Workstation) -> list[Check]:
    """How large it is; it may be deleted."""
    cache = workstation.workspace.cache
    if not cache.is_dir():
        return [Check("cache", OK, f"{cache}: none yet")]
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    return [Check("cache", OK, f"{cache}: {size / 2**30:.1f} GiB; it may be deleted, and is made again")]


def check_keys(workstation: Workstation) -> list[Check]:
    """One key signs bundles without being named, and nobody else can read it."""
    from pipeline.export.keys import chosen_key, key_folder, list_keys

    folder = key_folder()
    own = [public.name for public, signs in list_keys(folder) if signs]
    if not own:
        return [Check("keys", WARNING, f"none in {folder}; bundles are not signed", "skylight keys new")]
    readable = [name for name in own if (folder / f"{name}.key").stat().st_mode & 0o077]
    if readable:
        return [Check("keys", PROBLEM, f"others can read {readable[0]}.key", f"chmod 600 {folder}/*.key")]
    try:
        chosen_key(None)
    except UserError as error:
        return [Check("keys", WARNING, str(error), "give skylight export --key")]
    return [Check("keys", OK, f"{', '.join(own)} in {folder}")]


def check_chromium(workstation: Workstation) -> list[Check]:
    """A browser for the tests of pages."""
    found = next(filter(None, map(workstation.which, _BROWSERS)), None)
    if found is None:
        return [Check("Chromium", WARNING, "none; tests in a browser skip", "sudo apt-get install chromium")]
    outcome = workstation.run(found, "--version")
    if outcome.status != 0:
        return [Check("Chromium", WARNING, f"{found}: {outcome.ending}", "sudo apt-get install --reinstall chromium")]
    return [Check("Chromium", OK, f"{outcome.output.strip()} ({found})")]


def _existing(path: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())
