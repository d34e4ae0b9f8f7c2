"""`skylight-detect install`: a bundle is copied beside the old one, checked, tried, and then takes its place.

copy      into a hidden folder; a copy that was broken off goes on with the file where it was
verify    signature, names, lengths and hashes of the copy
try       the golden frames, in a process of its own with a time limit
switch    by rename; the old bundle stays, for `skylight-detect rollback`
"""

import argparse
import glob
import hashlib
import json
import shutil
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Sequence

from deploy.bundle import MANIFEST, Bundle, read_bundle
from deploy.errors import refuse
from deploy.files import sync_folder
from deploy.life.durable import copy_durably, make_folder, remove_tree, rename_durably
from deploy.life.store import (
    CURRENT,
    PART,
    STORE,
    Notes,
    check,
    discard,
    folder_name,
    linked,
    lock_notes,
    lock_store,
    prune,
    read_notes,
    switch,
    write_notes,
)
from deploy.life.trial import TIME_LIMIT, run_trial
from deploy.manifest import FileEntry
from deploy.settings import SETTINGS, read_settings
from deploy.signature import SIGNATURE, TRUSTED, PublicKey, trusted_keys

KEEP = 3
_SPARE = 64 * 2**20  # bytes that stay free, for the log and for notes
_BLOCK = 1 << 20


class Done(NamedTuple):
    """folder: in the store. is_new: whether it was copied. before: what was current, or None. deleted: older ones."""

    folder: str
    is_new: bool
    before: Optional[str]
    deleted: List[str]


def install(
    source: Path,
    store: Path = STORE,
    trusted: Optional[Sequence[PublicKey]] = None,
    keep: int = KEEP,
    trial: Callable[[Path], None] = run_trial,
) -> Done:
    """Install the bundle `source`, so that the next start flies it.

    trusted: whose bundles are taken, None for everybody's. keep: how many bundles stay. trial: raises UserError where
    the golden frames do not give what they must. What failed in flight and is installed again gets a new chance.

    Raises UserError: no bundle to trust, no room, another installation runs. What was current stays so then.
    """
    bundle = read_bundle(source, trusted)
    with lock_store(store):
        folder = folder_name(bundle)
        _clear(store, folder)
        is_new = check(store, folder, trusted) is not None
        if is_new:
            _bring(bundle, store, folder, trusted, trial)
        else:
            trial(store / folder)
        with lock_notes(store):
            before = linked(store, CURRENT)
            _note(store, folder)
            switch(store, folder)
            deleted = prune(store, keep)
    return Done(folder, is_new, before, deleted)


def _bring(
    bundle: Bundle,
    store: Path,
    folder: str,
    trusted: Optional[Sequence[PublicKey]],
    trial: Callable[[Path], None],
) -> None:
    """Copy, verify, try; then the folder appears. Refused, it leaves nothing; killed, it goes on next time."""
    part = store / ".{}{}".format(folder, PART)
    try:
        _copy(bundle, part)
        read_bundle(part, trusted)
        trial(part)
        if (store / folder).exists():  # it was damaged, or it would not be brought
            discard(store, folder)
        rename_durably(part, store / folder)
    except OSError as error:
        remove_tree(part)
        raise refuse(store, error.strerror or str(error), "free some space, or give another --store") from None
    except BaseException:
        remove_tree(part)
        raise


def _copy(bundle: Bundle, part: Path) -> None:
    """Copy what is missing; the manifest comes last, so that a folder without one is no bundle."""
    missing = [name for name in sorted(bundle.files) if not _is_copied(part / name, bundle.files[name])]
    _require_space(part.parent, sum(bundle.files[name].bytes for name in missing))
    folders = sorted({(part / name).parent for name in bundle.files})
    for folder in [part] + folders:
        make_folder(folder)
    for name in missing:
        copy_durably(bundle.root / name, part / name)
    for name in (SIGNATURE, MANIFEST):
        if (bundle.root / name).is_file():
            copy_durably(bundle.root / name, part / name)
    for folder in folders + [part]:
        sync_folder(folder)


def _is_copied(path: Path, entry: FileEntry) -> bool:
    """Whether a file of an earlier try is whole."""
    try:
        if path.is_symlink() or path.stat().st_size != entry.bytes:
            return False
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for block in iter(lambda: file.read(_BLOCK), b""):
                digest.update(block)
    except OSError:
        return False
    return digest.hexdigest() == entry.sha256


def _require_space(store: Path, size: int) -> None:
    free = shutil.disk_usage(str(store)).free
    if free < size + _SPARE:
        found = "{:.0f} MiB free, the bundle needs {:.0f} MiB and {:.0f} MiB stay free"
        text = found.format(free / 2**20, size / 2**20, _SPARE / 2**20)
        raise refuse(store, text, "delete old flight logs, or give a smaller --keep")


def _clear(store: Path, folder: str) -> None:
    """Remove what broken-off installations of other bundles left."""
    for left in store.glob(".*" + PART):
        if left.is_dir() and left.name != ".{}{}".format(folder, PART):
            remove_tree(left)


def _note(store: Path, folder: str) -> None:
    """It is the newest now, with a clean record."""
    notes = read_notes(store)
    order = tuple(name for name in notes.order if name != folder) + (folder,)
    failed = {name: reason for name, reason in notes.failed.items() if name != folder}
    write_notes(store, Notes(order, failed, lasted=notes.lasted))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("bundle", type=Path, help="folder that skylight export made")
    add_store_arguments(parser)
    parser.add_argument("--keep", type=int, default=KEEP, metavar="N", help="bundles that stay [%(default)s]")
    limit = "seconds that the golden frames may take, with building an engine [%(default)s]"
    text = "settings, of which [network] holds for the golden frames [{}, where that exists]".format(SETTINGS)
    parser.add_argument("--settings", type=Path, metavar="FILE", help=text)
    parser.add_argument("--time-limit", type=int, default=TIME_LIMIT, metavar="S", help=limit)


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that all commands of the store have."""
    parser.add_argument("--store", type=Path, default=STORE, help="folder of the installed bundles [%(default)s]")
    trusted = "folder of the public keys whose bundles are taken [{}, where that exists]".format(TRUSTED)
    parser.add_argument("--trusted", type=Path, metavar="FOLDER", help=trusted)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Install, and say what comes next."""
    for name in ("keep", "time_limit"):
        if getattr(arguments, name) < 1:
            raise refuse("--" + name.replace("_", "-"), getattr(arguments, name), "give a whole number from 1")

    def trial(path: Path) -> None:
        run_trial(path, arguments.trusted, arguments.time_limit, settings)

    settings = arguments.settings or (SETTINGS if SETTINGS.exists() else None)
    done = install(arguments.bundle, arguments.store, trusted_keys(arguments.trusted), arguments.keep, trial)
    _remove_engines(arguments.store, done.deleted, settings)
    if arguments.json:
        print(json.dumps(dict(done._asdict())))
        return 0
    print("{}: {}".format(arguments.store / done.folder, "installed" if done.is_new else "was there, is current"))
    if done.before not in (None, done.folder):
        print("before: {} (skylight-detect rollback brings it back)".format(done.before))
    for folder in done.deleted:
        print("deleted: {}".format(folder))
    print("flies from the next start: sudo systemctl restart skylight-detect")
    return 0


def _remove_engines(store: Path, deleted: Sequence[str], settings: Optional[Path]) -> None:
    """Delete what was built for bundles that are gone: engines take more room than they do."""
    if not deleted:
        return
    from deploy.drone_settings import SECTIONS  # heavy, and seldom needed

    engines = Path(read_settings(settings, SECTIONS)["network"].engines)
    for folder in deleted:
        name = folder.rpartition("-")[0]  # without the hash
        if not any(store.glob(glob.escape(name) + "-????????")) and (engines / name).is_dir():
            remove_tree(engines / name)
