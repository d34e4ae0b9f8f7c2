"""Which bundle a start flies, and whether that start lasted.

Each start is counted on disk before it is tried, and the count is cleared when the loop has turned for some seconds. A
bundle that was started too often without that is marked, and the one before it flies. Where a start cannot be counted,
the last bundle that lasted flies: a new one might fail for ever unseen. Nothing here looks at the wall clock. Knows
nothing of how bundles are installed.
"""

import contextlib
import errno
import threading
import time
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Sequence

from deploy.errors import UserError, refuse
from deploy.events import Events
from deploy.frame import Observation
from deploy.life.store import (
    CURRENT,
    STORE,
    candidates,
    check,
    linked,
    list_bundles,
    lock_notes,
    read_notes,
    switch,
    write_notes,
)
from deploy.part import Part
from deploy.settings import require_ranges
from deploy.signature import PublicKey

# What a disk says that takes nothing more: room, quota, mounted read-only after an error, broken.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class LifeSettings(NamedTuple):
    """Which bundle flies, and when a start counts as failed.

    bundles: folder of the installed bundles.
    failed_starts: so many in a row bring the bundle before back; 1 to 100. The service itself never gives up.
    lasting: seconds that the loop must turn for a start to count as good, 1 to 3600; a cut before counts as a failure.
    """

    bundles: str = str(STORE)
    failed_starts: int = 3
    lasting: float = 20.0

    def check(self) -> None:
        """Refuse what is out of range."""
        require_ranges(self, failed_starts=(1, 100), lasting=(1, 3600))


def choose_bundle(
    store: Path = STORE,
    trusted: Optional[Sequence[PublicKey]] = None,
    failed_starts: int = LifeSettings().failed_starts,
    events: Optional[Events] = None,
) -> Path:
    """The folder of the bundle to fly, whose start is counted now.

    That is the current one, unless it does not verify or failed `failed_starts` times in a row: then the previous one,
    then the newest other. Where all have failed, the current one is tried again: it may not have been its fault. On a
    disk that takes nothing more it is the last one that was seen to last, if any was; a lock that is held, or a user
    who may not write there, only leaves the start uncounted.

    Raises UserError where no bundle is installed, or none verifies.
    """
    events = events or Events()
    try:
        with lock_notes(store):
            _mark_if_it_failed(store, failed_starts, events)
            folder = _first(store, trusted, events)
            if folder != linked(store, CURRENT):
                switch(store, folder)
            notes = read_notes(store)
            starts = notes.starts + 1 if notes.started == folder else 1
            write_notes(store, notes._replace(started=folder, starts=starts))
    except OSError as error:
        events.add("warning", "bundle.uncounted", "{}: {}".format(store, error.strerror or error))
        lasting = _lasting(store, trusted, events) if error.errno in _FULL else None
        folder = lasting or _first(store, trusted, events)
    return store / folder


class Proving(Part):
    """Clears the count of starts when the loop has turned for `lasting` seconds.

    A loop that turns without frames counts: the golden frames passed before it began, and a lost camera is not the
    bundle's fault. path: what `choose_bundle` gave.
    """

    name = "bundle"

    def __init__(
        self,
        path: Path,
        lasting: float = LifeSettings().lasting,
        events: Optional[Events] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._lasting, self._clock = path, lasting, clock
        self._events = events or Events()
        self._begin: Optional[float] = None
        self._thread: Optional[threading.Thread] = None
        self._is_forgiven = False

    def publish(self, observation: Observation) -> None:
        """The loop turned."""
        self.idle(self._clock())

    def idle(self, now: float) -> None:
        """The loop turned."""
        if self._begin is None:
            self._begin = now
        if self._thread is None and now - self._begin >= self._lasting:
            self._thread = threading.Thread(target=self._clear, daemon=True)
            self._thread.start()

    def forgive(self) -> None:
        """Take this start out of the count, once: it ends on demand, or by what is not the bundle's fault."""
        if not self._is_forgiven:
            self._is_forgiven = True
            self._change(is_proven=False)

    def close(self) -> None:
        """Wait until what is being noted is noted."""
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _clear(self) -> None:
        self._change(is_proven=True)

    def _change(self, is_proven: bool) -> None:
        store, folder = self._path.parent, self._path.name
        try:
            with lock_notes(store):
                notes = read_notes(store)
                failed = dict(notes.failed)
                starts, lasted = notes.starts, folder if is_proven else notes.lasted
                if notes.started == folder:
                    starts = 0 if is_proven else max(0, starts - 1)
                if is_proven:
                    failed.pop(folder, None)
                changed = notes._replace(starts=starts, failed=failed, lasted=lasted)
                if changed != notes:
                    write_notes(store, changed)
        except OSError as error:
            self._events.add("warning", "bundle.uncounted", "{}: {}".format(store, error.strerror or error))


def _mark_if_it_failed(store: Path, failed_starts: int, events: Events) -> None:
    notes = read_notes(store)
    current = linked(store, CURRENT)
    if current is None or notes.started != current or notes.starts < failed_starts or current in notes.failed:
        return
    reason = "{} starts in a row did not last".format(notes.starts)
    write_notes(store, notes._replace(failed=dict(notes.failed, **{current: reason}), started="", starts=0))
    events.add("error", "bundle.failed", "{}: {}".format(current, reason))


def _lasting(store: Path, trusted: Optional[Sequence[PublicKey]], events: Events) -> Optional[str]:
    """The last bundle that lasted, made the current one where the disk lets it; None where none did or it is no more.

    Without a count a bundle that fails would be tried for ever, so that one that is new has to wait for room.
    """
    notes = read_notes(store)
    folder = notes.lasted
    if not folder or folder in notes.failed or check(store, folder, trusted) is not None:
        return None
    current = linked(store, CURRENT)
    if folder != current:
        text = "{} flies, the last that lasted, instead of {}, whose starts cannot be counted"
        events.add("warning", "bundle.rolled_back", text.format(folder, current or "none"))
        with contextlib.suppress(OSError), lock_notes(store):
            switch(store, folder)
    return folder


def _first(store: Path, trusted: Optional[Sequence[PublicKey]], events: Events) -> str:
    """The first bundle that verifies, of those that have not failed, then of all, the current one before others."""
    good = candidates(store)
    bad = sorted((one for one in list_bundles(store) if one.failed is not None), key=lambda one: not one.is_current)
    problems = []
    for folder in good + [one.folder for one in bad]:
        problem = check(store, folder, trusted)
        if problem is None:
            if folder not in good:
                events.add("error", "bundle.last", "{}: it failed before, and there is no other".format(folder))
            elif folder != linked(store, CURRENT):
                events.add("warning", "bundle.rolled_back", "{} flies, instead of the current one".format(folder))
            return folder
        problems.append(problem)
        events.add("error", "bundle.refused", problem)
    if problems:
        raise UserError(problems[0])
    raise refuse(store, "no bundle is installed", "skylight-detect install BUNDLE")
