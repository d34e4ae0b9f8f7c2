"""The power goes at every single change that installing, switching, rolling back and starting make on the disk."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from power_cut import MODES, run_cut
from signed_bundle import edit, make_key, write_signed

from deploy.backends import OnnxRuntimeBackend
from deploy.bundle import read_bundle
from deploy.errors import UserError
from deploy.events import Events
from deploy.golden import check_golden
from deploy.life.install import install
from deploy.life.start import Proving, choose_bundle
from deploy.life.store import CURRENT, linked, read_notes, roll_back
from deploy.signature import PublicKey, trusted_keys

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
Keys = tuple[PublicKey, ...]


def _golden(path: Path, keys: Keys) -> None:
    bundle = read_bundle(path, keys)
    check_golden(bundle, OnnxRuntimeBackend(bundle.model, threads=1))


def _prepare(root: Path) -> None:
    """Three bundles, and a store with two of them."""
    key = make_key(root / "keys", "maker")
    first = write_signed(root / "colours-1", key).root
    for version in ("2", "3"):
        other = root / f"colours-{version}"
        shutil.copytree(first, other)
        edit(other, key, version=version)
    keys = trusted_keys(root / "keys")
    for version in ("1", "2"):
        install(root / f"colours-{version}", root / "store", keys, trial=lambda path: None)


def _actions(root: Path, store: Path) -> dict[str, Callable[[], None]]:
    keys = trusted_keys(root / "keys")
    quiet = Events(stream=None)

    def start_three_times() -> None:
        for _ in range(3):
            proving = Proving(choose_bundle(store, keys, 1, quiet), lasting=1.0, events=quiet)
        proving.idle(0.0)
        proving.idle(2.0)
        proving.close()

    return {
        # Only one of three may stay beside current and previous, so that a bundle is deleted as well.
        "install": lambda: void(install(root / "colours-3", store, keys, 1, lambda path: None)),
        "rollback": lambda: void(roll_back(store, keys, "by hand")),
        "start": start_three_times,
    }


def void(_: object) -> None:
    """Nothing comes of it."""


def _cut_everywhere(root: Path, action: str, mode: str) -> None:
    """Child: cut at 0, 1, 2, ... until the action ends; each time what is left flies, and installing works."""
    keys = trusted_keys(root / "keys")
    assert keys is not None
    quiet = Events(stream=None)
    flown = set()
    os.fsync = lambda fd: None  # what is synced is kept account of where it is cut; the disk itself needs not work
    for count in range(1000):
        store = root / f"store-{action}-{mode}"
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(root / "store", store, symlinks=True)
        status = run_cut(store, count, mode, _actions(root, store)[action])
        assert status in (0, -9), (action, mode, count, status)
        try:
            assert linked(store, CURRENT) is not None, "current points nowhere"
            read_bundle(store / CURRENT, keys)
            chosen = choose_bundle(store, keys, 3, quiet)
            _golden(chosen, keys)
            again = install(root / "colours-3", store, keys, 2, lambda path: _golden(path, keys))
            assert choose_bundle(store, keys, 3, quiet) == store / again.folder
            left = sorted(path.name for path in store.iterdir() if path.name.endswith((".part", ".gone")))
            assert not left, left
            for folder in (path for path in store.iterdir() if path.is_dir()):
                read_bundle(folder, keys)
        except (UserError, AssertionError, OSError) as error:
            raise SystemExit(f"{action}, {mode}, cut before change {count}: {error!r}") from error
        flown.add(chosen.name)
        if status == 0:
            print(json.dumps({"cuts": count, "flown": sorted(flown)}))
            return
    raise SystemExit("it never ended")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("power")
    _prepare(root)
    return root


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("action", "least"), [("install", 60), ("rollback", 12), ("start", 30)])
def test_what_flies_is_there_wherever_the_power_goes(prepared, action, least, mode):
    command = [sys.executable, __file__, str(prepared), action, mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    print(action, mode, told)
    assert told["cuts"] >= least
    assert len(told["flown"]) == 2  # before the switch the one, after it the other


def test_broken_off_copy_goes_on_where_it_was(prepared, tmp_path):
    """Of two files that an earlier try left, the whole one is kept as it is, the half one is copied again."""
    keys = trusted_keys(prepared / "keys")
    done = install(prepared / "colours-3", tmp_path / "a", keys, trial=lambda path: None)
    part = tmp_path / "b" / f".{done.folder}.part"
    part.mkdir(parents=True)
    shutil.copy2(prepared / "colours-3" / "model.onnx", part)
    (part / "golden").mkdir()
    (part / "golden" / "golden.json").write_bytes(b"{")
    before = (part / "model.onnx").stat().st_ino
    install(prepared / "colours-3", tmp_path / "b", keys, trial=lambda path: None)
    assert (tmp_path / "b" / done.folder / "model.onnx").stat().st_ino == before
    _golden(tmp_path / "b" / CURRENT, keys or ())


def test_notes_that_are_damaged_do_not_keep_it_from_flying(prepared, tmp_path):
    shutil.copytree(prepared / "store", tmp_path / "store", symlinks=True)
    for text in ("", "{", "[]", '{"schema": 1}', '{"schema": 9, "order": []}', "\0" * 100):
        (tmp_path / "store" / "notes.json").write_text(text)
        assert choose_bundle(tmp_path / "store", None, 3, Events(None)).name == linked(tmp_path / "store", CURRENT)
        assert read_notes(tmp_path / "store").starts == 1


if __name__ == "__main__":
    _cut_everywhere(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
