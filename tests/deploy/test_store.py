"""Bundles side by side: what is installed and switched, what is refused, and what a failed start leads to."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from signed_bundle import edit, make_key, rewrite, write_signed

from deploy.errors import UserError
from deploy.events import Events
from deploy.life import install as install_command
from deploy.life import list_bundles, roll_back
from deploy.life.install import install
from deploy.life.start import LifeSettings, Proving, choose_bundle
from deploy.life.store import CURRENT, PREVIOUS, linked, lock_store, read_notes, write_notes
from deploy.life.trial import run_trial
from deploy.signature import trusted_keys
from deploy.strict_json import canonical_json


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles colours-1 to colours-4, signed, and the keys."""
    root = tmp_path_factory.mktemp("made")
    key = make_key(root / "keys", "maker")
    first = write_signed(root / "colours-1", key).root
    for version in ("2", "3", "4"):
        edit(shutil.copytree(first, root / f"colours-{version}"), key, version=version)
    return root


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


@pytest.fixture
def put(made: Path, store: Path) -> Callable[[str], str]:
    """Install a version without its trial; returns the folder's name."""

    def install_version(version: str, keep: int = 5) -> str:
        keys = trusted_keys(made / "keys")
        return install(made / f"colours-{version}", store, keys, keep, lambda path: None).folder

    return install_version


def _run(command: ModuleType, *texts: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(text) for text in texts]))


def _choose(store: Path, made: Path) -> str:
    return choose_bundle(store, trusted_keys(made / "keys"), 3, Events(None)).name


def _names(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir() if path.name[0] != ".")


def test_commands_from_installing_to_rolling_back(made, store, capsys):
    """With the real trial, in a process of its own."""
    options = ("--store", store, "--trusted", made / "keys")
    assert _run(install_command, made / "colours-1", *options) == 0
    assert _run(install_command, made / "colours-2", *options, "--json") == 0
    printed = capsys.readouterr().out.splitlines()
    second = json.loads(printed[-1])
    assert printed[0] == f"{store / second['before']}: installed"
    assert second["folder"].startswith("colours-2-")
    assert Path(os.path.realpath(store / CURRENT)).name == second["folder"]
    assert _run(list_bundles, *options) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{second['folder']}: current; verifies",
        f"{second['before']}: previous; verifies",
    ]
    assert _run(roll_back, *options) == 0
    assert linked(store, CURRENT) == second["before"]
    assert _run(list_bundles, *options, "--json") == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert rows[0]["failed"] == "taken back by hand"
    with pytest.raises(UserError, match="holds no other bundle that verifies and has not failed"):
        _run(roll_back, *options)
    assert _run(roll_back, second["folder"], *options) == 0  # who names it wants it
    assert linked(store, CURRENT) == second["folder"]
    assert read_notes(store).failed == {second["before"]: "taken back by hand"}


def test_bundle_whose_golden_frames_fail_is_not_installed(made, put, store, tmp_path):
    """Signed and whole, but its detections are not those that it promises: only the trial finds it."""
    before = put("1")
    bad = shutil.copytree(made / "colours-2", tmp_path / "bad")
    golden = json.loads((bad / "golden" / "golden.json").read_text())
    for frame in golden["frames"]:
        for rows in frame["expected"].values():
            for row in rows:
                row["score"] = 0.7
    data = canonical_json(golden)
    (bad / "golden" / "golden.json").write_bytes(data)
    _rehash(bad, "golden/golden.json", data)
    with pytest.raises(UserError, match=r"instead of 0\.700"):
        install(bad, store)
    assert linked(store, CURRENT) == before
    assert _names(store) == sorted([before, CURRENT, "notes.json"])
    assert not list(store.glob(".*.part"))


def _rehash(bundle: Path, name: str, data: bytes) -> None:
    import hashlib

    manifest = json.loads((bundle / "bundle.json").read_bytes())
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (bundle / "signature").unlink()
    rewrite(bundle, None, canonical_json(manifest))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import time; time.sleep(60)", "took longer than 1 s"),
        ("import os; os.kill(os.getpid(), 11)", "died by SIGSEGV"),
        ("raise SystemError('of the GPU')", "failed (SystemError: of the GPU)"),
        ("import os; os.kill(os.getpid(), 4)", "died by SIGILL"),
    ],
)
def test_trial_that_hangs_or_dies_is_told(made, tmp_path, monkeypatch, code, message):
    """A library that does that, found before the real one."""
    (tmp_path / "onnxruntime.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UserError) as caught:
        run_trial(made / "colours-1", made / "keys", time_limit=1 if "sleep" in code else 60)
    assert message in str(caught.value)
    assert "does not fly here" in str(caught.value)


def test_bundle_of_a_stranger_is_refused(made, put, store, tmp_path):
    put("1")
    make_key(tmp_path / "others", "other")
    with pytest.raises(UserError, match="who is not trusted here"):
        install(made / "colours-2", store, trusted_keys(tmp_path / "others"))
    assert len(_names(store)) == 3


def test_same_bundle_again_is_tried_again_and_copied_never(made, put, store):
    first = put("1")
    tried: list[Path] = []
    done = install(made / "colours-1", store, None, 5, tried.append)
    assert (done.folder, done.is_new, done.before, tried) == (first, False, first, [store / first])


def test_same_version_with_other_content_lies_beside(made, put, store, tmp_path):
    first = put("1")
    other = shutil.copytree(made / "colours-1", tmp_path / "colours-1")
    (other / "signature").unlink()
    edit(other, None, score_threshold=0.61)
    second = install(other, store, None, 5, lambda path: None).folder
    assert first.rsplit("-", 1)[0] == second.rsplit("-", 1)[0] == "colours-1"
    assert first != second


def test_oldest_are_deleted_but_never_what_flies(made, put, store):
    folders = [put(version, keep=5) for version in "123"]
    assert roll_back_to(store, folders[0]) == folders[0]
    fourth = put("4", keep=1)
    assert _names(store) == sorted([fourth, folders[0], CURRENT, PREVIOUS, "notes.json"])
    assert linked(store, PREVIOUS) == folders[0]
    assert read_notes(store).order == (folders[0], fourth)


def roll_back_to(store: Path, folder: str) -> str:
    from deploy.life.store import roll_back as go_back

    return go_back(store, None, "by hand", folder)


def test_no_room_is_said_before_anything_is_copied(made, store, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=60 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="60 MiB free, the bundle needs 0 MiB and 64 MiB stay free"):
        install(made / "colours-1", store, None, 3, lambda path: None)
    assert _names(store) == []


def test_disk_that_fills_up_is_refused_and_leaves_the_old_one(made, put, store):
    """A limit on the size of files stands in for the disk."""
    before = put("1")
    code = (
        "import resource, signal, sys; from pathlib import Path; from deploy.life.install import install\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))\n"
        "install(Path(sys.argv[1]), Path(sys.argv[2]), trial=lambda path: None)"
    )
    command = [sys.executable, "-c", code, str(made / "colours-2"), str(store)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "UserError" in done.stderr
    assert "File too large; free some space" in done.stderr
    assert linked(store, CURRENT) == before
    assert not list(store.glob(".*.part"))


def test_two_installations_do_not_meet(made, put, store):
    put("1")
    with lock_store(store), pytest.raises(UserError, match="another installation is running"):
        put("2")
    put("2")


def test_start_does_not_wait_for_a_process_that_hangs_with_the_notes(made, put, store, monkeypatch):
    """An installation that somebody stopped with Ctrl-Z, or that hangs in a disk; what it installed flies."""
    lasting, folder = put("1"), put("2")
    write_notes(store, read_notes(store)._replace(lasted=lasting))
    monkeypatch.setattr("deploy.life.store._PATIENCE", 0.2)
    code = "import fcntl, sys; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); input()"
    command = [sys.executable, "-c", code, str(store / ".notes.lock")]
    events = Events(None)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert choose_bundle(store, None, 3, events).name == folder
        other.kill()
    assert [event.text for event in events.newest()] == [f"{store}: is held by another process"]


def test_start_does_not_wait_for_an_installation(made, put, store):
    folder = put("1")
    with lock_store(store):
        assert _choose(store, made) == folder


def test_three_starts_that_did_not_last_bring_the_one_before_back(made, put, store):
    first, second = put("1"), put("2")
    assert [_choose(store, made) for _ in range(3)] == [second] * 3
    assert [_choose(store, made) for _ in range(3)] == [first] * 3
    assert read_notes(store).failed == {second: "3 starts in a row did not last"}
    assert linked(store, CURRENT) == first
    # Both failed now: the cause is elsewhere, and the current one goes on being tried.
    assert [_choose(store, made) for _ in range(5)] == [first] * 5
    third = put("3")
    assert _choose(store, made) == third
    assert put("2") == second  # who installs it again wants it tried again
    assert _choose(store, made) == second


def test_killed_processes_are_counted(made, put, store):
    """For real: each start is a process that is killed as it flies."""
    first, second = put("1"), put("2")
    code = (
        "import os, sys; from pathlib import Path; from deploy.life.start import choose_bundle\n"
        "print(choose_bundle(Path(sys.argv[1])).name, flush=True); os.kill(os.getpid(), 9)"
    )
    flown = []
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, "-c", code, str(store)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == -signal.SIGKILL
        flown.append(done.stdout.strip())
    assert flown == [second, second, second, first]


def test_start_that_lasts_clears_the_count(made, put, store):
    put("1")
    second = put("2")
    for _ in range(9):
        assert _choose(store, made) == second
        proving = Proving(store / second, lasting=20.0, events=Events(None))
        for now in (1000.0, 1010.0, 1019.0):
            proving.idle(now)
        assert read_notes(store).starts == 1
        proving.idle(1020.0)
        proving.close()
        assert read_notes(store).starts == 0


def test_end_on_demand_is_no_failure(made, put, store):
    put("1")
    second = put("2")
    for _ in range(9):
        assert _choose(store, made) == second
        Proving(store / second, events=Events(None)).forgive()
    assert read_notes(store).failed == {}


def test_damaged_bundle_is_passed_over(made, put, store):
    first, second = put("1"), put("2")
    with (store / second / "model.onnx").open("r+b") as file:
        file.write(b"x")
    events = Events(None)
    assert choose_bundle(store, None, 3, events).name == first
    assert [event.kind for event in events.newest()] == ["bundle.refused", "bundle.rolled_back"]
    assert "has SHA-256" in events.newest()[0].text
    assert linked(store, CURRENT) == first


def test_damaged_bundle_is_mended_by_installing_it_again(made, put, store):
    folder = put("1")
    (store / folder / "model.onnx").unlink()
    assert put("1") == folder
    assert _choose(store, made) == folder
    (store / folder / "bundle.json").unlink()
    assert put("1") == folder
    assert _choose(store, made) == folder
    assert not list(store.glob(".*.gone"))


@pytest.mark.parametrize("damage", ["gone", "dangling", "outside"])
def test_link_that_points_nowhere_is_set_right(made, put, store, damage):
    put("1")
    second = put("2")
    (store / CURRENT).unlink()
    if damage != "gone":
        (store / CURRENT).symlink_to("nothing" if damage == "dangling" else "../../etc")
    (store / PREVIOUS).unlink()
    assert _choose(store, made) == second
    assert linked(store, CURRENT) == second


def test_disk_that_cannot_be_written_still_flies(made, put, store, monkeypatch):
    folder = put("1")

    def refuse_to_write(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deploy.life.store.write_durably", refuse_to_write)
    events = Events(None)
    assert choose_bundle(store, None, 3, events).name == folder
    assert [event.kind for event in events.newest()] == ["bundle.uncounted"]


_FULL_DISK = """
import os, subprocess, sys
from pathlib import Path
from deploy.events import Events
from deploy.life.install import install
from deploy.life.start import Proving, choose_bundle
from deploy.life.store import CURRENT, linked

made, disk = Path(sys.argv[1]), Path(sys.argv[2])
store = disk / "bundles"
if sys.argv[3:]:  # a start that is cut off
    print(choose_bundle(store, None, 3).name, flush=True)
    os.kill(os.getpid(), 9)

def start():
    return subprocess.run([sys.executable, *sys.argv, "start"], stdout=subprocess.PIPE).stdout.decode().strip()

def bring(version):
    return install(made / ("colours-" + version), store, None, 5, lambda path: None).folder

first = bring("1")
proving = Proving(choose_bundle(store, None, 3, Events(None)), lasting=1.0, events=Events(None))
proving.idle(0.0), proving.idle(2.0), proving.close()
second = bring("2")
names = {first: "first", second: "second"}
print("room", names[start()])
with (disk / "filler").open("wb", buffering=0) as file:
    try:
        while True:
            file.write(b"x" * 4096)
    except OSError:
        pass
print("full", *[names[start()] for _ in range(5)])
(disk / "filler").unlink()
print("again", *[names[start()] for _ in range(2)], names[linked(store, CURRENT)])
assert bring("2") == second
print("installed", names[start()])
"""


def test_last_bundle_that_lasted_is_remembered_and_never_deleted(made, put, store):
    first = put("1")
    assert read_notes(store).lasted == ""
    proving = Proving(store / _choose(store, made), lasting=1.0, events=Events(None))
    for now in (0.0, 2.0):
        proving.idle(now)
    proving.close()
    assert read_notes(store).lasted == first
    put("2")
    put("3", keep=1)
    put("4", keep=1)
    assert first in _names(store)
    assert read_notes(store).lasted == first


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"schema": 1, "order": [], "failed": {}, "started": "", "starts": 1e999}']
)
def test_notes_that_a_bad_disk_has_changed_keep_nothing_down(made, put, store, text):
    folder = put("1")
    (store / "notes.json").write_text(text)
    assert _choose(store, made) == folder


def test_folder_that_may_not_be_read_keeps_no_other_bundle_down(made, put, store):
    """As root's copy of one, among those of the service's user."""
    folder = put("1")
    (store / "colours-9-01234567").mkdir(mode=0o700)
    code = (
        "import os; from pathlib import Path; from deploy.events import Events\n"
        "from deploy.life.start import choose_bundle\n"
        "if os.geteuid() == 0:\n    os.chown('.', 65534, -1)\n    os.setuid(65534)\n"
        "else:\n    os.chmod('colours-9-01234567', 0)\n"
        "print(choose_bundle(Path(), None, 3, Events(None)).name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=store)
    assert done.stdout.split() == [folder], done.stderr


def test_new_bundle_whose_starts_cannot_be_counted_gives_way_at_once(made, tmp_path):
    """On a disk that is really full. What was switched to has not lasted yet, and would be tried for ever."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    script = 'mount -t tmpfs -o size=72m none "$0" || { echo cannot mount; exit 1; }; exec "$@"'
    (tmp_path / "disk").mkdir()
    (tmp_path / "full.py").write_text(_FULL_DISK)
    program = [sys.executable, tmp_path / "full.py", made, tmp_path / "disk"]
    command = ["unshare", "-rm", "sh", "-c", script, tmp_path / "disk", *program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == [
        "room second",
        "full first first first first first",
        "again first first first",
        "installed second",
    ], done.stderr
    assert "whose starts cannot be counted" in done.stderr


def test_nothing_installed_is_refused(tmp_path):
    with pytest.raises(UserError, match="no bundle is installed; skylight-detect install BUNDLE"):
        choose_bundle(tmp_path, None, 3, Events(None))
    with pytest.raises(UserError, match="no bundle is installed"):
        choose_bundle(tmp_path / "nowhere", None, 3, Events(None))


def test_settings_of_life_have_ranges():
    LifeSettings().check()
    for settings in (LifeSettings(failed_starts=0), LifeSettings(lasting=0.5), LifeSettings(lasting=1e9)):
        with pytest.raises(UserError, match="is out of range"):
            settings.check()
