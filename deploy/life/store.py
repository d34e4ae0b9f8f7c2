"""The bundles that lie on a drone, side by side, and which of them flies.

    NAME-VERSION-HASH/      a bundle, complete; HASH: the first 8 digits of the SHA-256 of its bundle.json
    current, previous       links to two of them
    notes.json              order of installation, which failed and why, and how often the current one was started
    .NAME-VERSION-HASH.part, .lock, .notes.lock                         being installed

Every change is one rename. Between any two of them a cut of the power leaves a `current` that flies. Knows nothing of
how a bundle gets here, nor of what runs it.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from deploy.bundle import MANIFEST, Bundle, read_bundle
from deploy.errors import UserError, refuse
from deploy.files import sync_folder
from deploy.life.durable import link_durably, make_folder, remove_tree, rename_durably, write_durably
from deploy.signature import PublicKey

STORE = Path("/var/lib/skylight/bundles")
CURRENT = "current"
PREVIOUS = "previous"
PART = ".part"

_NOTES = "notes.json"
_GONE = ".gone"
_SCHEMA = 1
_PATIENCE = 20.0  # seconds for the notes' lock: deleting a bundle of hundreds of MiB holds it
_POLL = 0.02


class Notes(NamedTuple):
    """What is remembered of the bundles, all by the name of their folder.

    order: of installation, oldest first. failed: why. starts: of the bundle `started` that were not seen to last.
    lasted: the last one of which a start was seen to last, "" where none was.
    """

    order: Tuple[str, ...] = ()
    failed: Dict[str, str] = {}
    started: str = ""
    starts: int = 0
    lasted: str = ""


class Installed(NamedTuple):
    """One bundle of a store. failed: why it is not taken by itself, or None."""

    folder: str
    is_current: bool
    is_previous: bool
    failed: Optional[str]


def folder_name(bundle: Bundle) -> str:
    """The name of a bundle's folder in a store; other content has another name, whatever its version says."""
    digest = hashlib.sha256((bundle.root / MANIFEST).read_bytes()).hexdigest()
    return "{}-{}-{}".format(bundle.name, bundle.version, digest[:8])


def list_bundles(store: Path) -> List[Installed]:
    """What is installed, newest first."""
    notes = read_notes(store)
    current, previous = linked(store, CURRENT), linked(store, PREVIOUS)
    return [
        Installed(folder, folder == current, folder == previous, notes.failed.get(folder))
        for folder in reversed(_folders(store, notes))
    ]


def linked(store: Path, link: str) -> Optional[str]:
    """The folder to which `current` or `previous` points, or None where it points to none."""
    try:
        target = os.readlink(str(store / link))  # noqa: PTH115  # Path.readlink came with Python 3.9
    except OSError:
        return None
    return target if "/" not in target and _is_bundle(store / target) else None


def candidates(store: Path) -> List[str]:
    """The bundles that may fly, the first one first: current, previous, then the newest. Failed ones are not among."""
    found = [linked(store, CURRENT), linked(store, PREVIOUS)] + [one.folder for one in list_bundles(store)]
    failed = read_notes(store).failed
    return list(dict.fromkeys(folder for folder in found if folder is not None and folder not in failed))


def switch(store: Path, folder: str) -> None:
    """Let `folder` be the current bundle, and what was current the previous one. The caller holds `lock_notes`."""
    current = linked(store, CURRENT)
    if current == folder:
        return
    if current is not None:
        link_durably(store / PREVIOUS, current)
    link_durably(store / CURRENT, folder)


def roll_back(store: Path, trusted: Optional[Sequence[PublicKey]], reason: str, to: Optional[str] = None) -> str:
    """Mark the current bundle as failed and switch to `to`, or to the best other one that still verifies.

    Returns its folder. Raises UserError where there is none; nothing is changed then.
    """
    with lock_notes(store):
        current = linked(store, CURRENT)
        others = [folder for folder in candidates(store) if folder != current] if to is None else [to]
        for folder in others:
            problem = check(store, folder, trusted)
            if problem is None:
                _mark_and_switch(store, current, reason, folder)
                return folder
            if to is not None:
                raise UserError(problem)
        raise refuse(store, "holds no other bundle that verifies and has not failed", "install one")


def check(store: Path, folder: str, trusted: Optional[Sequence[PublicKey]]) -> Optional[str]:
    """Why a bundle cannot be taken, one line, or None where it can: signature, names, lengths, hashes."""
    try:
        read_bundle(store / folder, trusted)
    except UserError as error:
        return str(error)
    except OSError as error:
        return "{}: {}".format(store / folder, error.strerror or error)
    return None


def prune(store: Path, keep: int) -> List[str]:
    """Delete all but the newest `keep` bundles, never the current, the previous and the last one that lasted.

    Returns what was deleted, beside which goes what an earlier deletion or a link left half-done. The caller holds
    `lock_notes`.
    """
    for left in store.glob(".*" + _GONE):
        remove_tree(left)
    bundles = list_bundles(store)
    notes = read_notes(store)
    old = [one for one in bundles[keep:] if not one.is_current and not one.is_previous]
    gone = [one.folder for one in old if one.folder != notes.lasted]
    for folder in gone:
        discard(store, folder)
    there = _folders(store, notes)
    failed = {folder: reason for folder, reason in notes.failed.items() if folder in there}
    if notes.order != tuple(there) or notes.failed != failed:
        write_notes(store, notes._replace(order=tuple(there), failed=failed))
    return gone


def discard(store: Path, folder: str) -> None:
    """Delete a bundle; half deleted it has another name already."""
    away = store / ".{}{}".format(folder, _GONE)
    remove_tree(away)
    rename_durably(store / folder, away)
    remove_tree(away)
    sync_folder(store)


def read_notes(store: Path) -> Notes:
    """What is remembered; nothing where the file is missing or no file of ours, since a drone must fly without it."""
    try:
        content = json.loads((store / _NOTES).read_text(encoding="utf-8"))
        if content["schema"] != _SCHEMA:
            return Notes()
        order = tuple(str(folder) for folder in content["order"])
        failed = {str(folder): str(reason) for folder, reason in content["failed"].items()}
        lasted = str(content.get("lasted", ""))
        return Notes(order, failed, str(content["started"]), int(content["starts"]), lasted)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return Notes()


def write_notes(store: Path, notes: Notes) -> None:
    """Remember. The caller holds `lock_notes`."""
    content: Dict[str, Any] = dict(notes._asdict(), schema=_SCHEMA)
    write_durably(store / _NOTES, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode("utf-8"))


@contextlib.contextmanager
def lock_notes(store: Path) -> Iterator[None]:
    """Only one process at a time changes notes and links; the others wait, which is not long.

    Raises TimeoutError where it is: one that was stopped, or hangs in a disk, must not keep a drone from starting.
    """
    with _locked(store / ".notes.lock", _PATIENCE):
        yield


@contextlib.contextmanager
def lock_store(store: Path) -> Iterator[None]:
    """Only one process at a time installs. Makes the store. Raises UserError where it cannot, or another one does."""
    try:
        make_folder(store)
    except OSError as error:
        remedy = "run it as the user of the service: sudo -u skylight ..."
        raise refuse(store, error.strerror or str(error), remedy) from None
    if store.stat().st_uid != os.geteuid():
        found = "belongs to user {}, and you are {}".format(store.stat().st_uid, os.geteuid())
        raise refuse(store, found, "run it as its owner: sudo -u skylight ...")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_locked(store / ".lock", 0.0))
        except TimeoutError:
            raise refuse(store, "another installation is running", "wait until it is done") from None
        yield


@contextlib.contextmanager
def _locked(path: Path, patience: float) -> Iterator[None]:
    """Hold a lock that a killed process gives back; TimeoutError where it is not free within `patience` seconds."""
    handle = os.open(str(path), os.O_RDONLY | os.O_CREAT, 0o644)
    until = time.monotonic() + patience
    try:
        while not _is_taken(handle):
            if time.monotonic() >= until:
                raise TimeoutError(errno.ETIMEDOUT, "is held by another process", str(path))
            time.sleep(_POLL)
        yield
    finally:
        os.close(handle)


def _is_taken(handle: int) -> bool:
    """Take a lock, if it is free."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _folders(store: Path, notes: Notes) -> List[str]:
    """Folders that hold a bundle, oldest first; what the notes do not know counts as oldest."""
    try:
        names = sorted(path.name for path in store.iterdir())
    except OSError:
        return []
    known = {folder: number for number, folder in enumerate(notes.order)}
    links = (CURRENT, PREVIOUS)
    there = [name for name in names if name not in links and name[0] != "." and _is_bundle(store / name)]
    return sorted(there, key=lambda name: known.get(name, -1))


def _is_bundle(folder: Path) -> bool:
    """Whether a folder holds a bundle; one that may not be read, or lies on a bad block, must not keep others down."""
    try:
        return (folder / MANIFEST).is_file()
    except OSError:
        return False


def _mark_and_switch(store: Path, current: Optional[str], reason: str, folder: str) -> None:
    """The mark comes first: cut off after it, the next start finds the way by itself."""
    notes = read_notes(store)
    failed = {name: why for name, why in notes.failed.items() if name != folder}
    if current is not None:
        failed[current] = reason
    write_notes(store, notes._replace(failed=failed, started="", starts=0))
    switch(store, folder)
