"""`skylight push` where it cannot end well: the drone falls silent, cannot go back, or Ctrl-C comes in between."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from field import Field, draw_video, new_version, read_until

from jetson.__main__ import main

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_video(tmp_path_factory.mktemp("video") / "flight.avi")


@pytest.fixture
def field(tmp_path: Path, video: Path) -> Iterator[Field]:
    made = Field(tmp_path, video)
    yield made
    made.close()


def _guard(field: Field, name: str, script: str) -> None:
    """Let the drone's command do `script` before `name`."""
    path = field.bin / "skylight-detect"
    path.write_text(path.read_text().replace("exec ", f'[ "$1" != {name} ] || {{ {script}; }}\nexec '))


def _slow(field: Field, name: str) -> Path:
    """Let the drone's command take a while for `name`; the file that is there once it has begun."""
    mark = field.drone / f"{name}-begun"
    _guard(field, name, f'touch "{mark}"; sleep 3')
    return mark


def _crash(field: Field) -> None:
    process = field.service()["MainPID"]
    assert process > 1
    os.kill(process, signal.SIGSEGV)


def _press(process: "subprocess.Popen[str]") -> str:
    """Press Ctrl-C once; what is warned of."""
    assert process.stderr is not None
    process.send_signal(signal.SIGINT)
    for line in process.stderr:
        if "Press Ctrl-C again" in line:
            return line
    pytest.fail("no warning")


def test_drone_that_cannot_go_back_is_told_as_unknown(field: Field) -> None:
    field.fly_old()
    process = field.start(new_version(field, "2"), "--watch", "60", "--json")
    field.wait(lambda: field.service()["ActiveState"] == "active" and str(field.current()).startswith("colours-2"))
    (field.drone / "forbidden").write_text(f"skylight-detect rollback --json --store {field.store}\n")
    assert process.stderr is not None
    for line in process.stderr:
        if "first turn of the loop passed" in line:
            break
    _crash(field)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 3, output + errors
    (outcome,) = json.loads(output)
    assert (outcome["result"], outcome["stands"]) == ("unknown", "flies nothing: stopped")
    assert outcome["before"].startswith("colours-1")
    assert outcome["reason"].endswith("not taken back: sudo: a password is required")
    assert errors.count("jetson push:") == 1
    assert "unknown: the service ended and was started again; not taken back" in errors
    assert field.service()["ActiveState"] == "inactive"


def test_drone_that_falls_silent_after_the_switch_is_told_as_unknown(
    field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Out of reach of the radio, once it was restarted: what it flies then is its own matter, and it says so later."""
    field.fly_old()
    laptop = tmp_path / "laptop"
    laptop.mkdir()
    (laptop / "ssh").write_text(
        f"""#!/bin/sh
[ ! -e {laptop}/silent ] || {{ echo "ssh: connect to host drone port 22: No route to host" >&2; exit 255; }}
case "$*" in *"command -v"*) ;; *"--no-block restart skylight-detect"*) touch {laptop}/silent ;; esac
exec /usr/bin/ssh "$@"
"""
    )
    (laptop / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{laptop}:{os.environ['PATH']}")
    monkeypatch.setattr("jetson.push.update._SILENCE", 1.0)
    words = field.words(new_version(field, "2"), "--watch", "60")
    assert main(words[words.index("push") :]) == 3
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1, errors
    assert "unknown: no connection (ssh: connect to host drone port 22: No route to host)" in errors
    assert f"(flies {field.current()} now or from its next start; taken back by: ssh " in errors
    field.wait(lambda: field.service()["ActiveState"] == "active")
    assert str(field.current()).startswith("colours-2")


def test_one_ctrl_c_while_it_is_taken_back_warns_and_it_is_taken_back(field: Field) -> None:
    old = field.fly_old()
    begun = _slow(field, "rollback")
    process = field.start(new_version(field, "2"), "--watch", "60")
    read_until(process, "first turn of the loop passed")
    _crash(field)
    field.wait(begun.exists)
    assert "the drone may fly nothing" in _press(process)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1, output + errors
    assert field.current() == old
    assert field.service()["ActiveState"] == "active"


def test_a_second_one_breaks_off_and_says_how_it_flies_again(field: Field) -> None:
    field.fly_old()
    begun = _slow(field, "rollback")
    process = field.start(new_version(field, "2"), "--watch", "60")
    read_until(process, "first turn of the loop passed")
    _crash(field)
    field.wait(begun.exists)
    _press(process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopped; service stopped, or about to be; what is current there then flies by: ssh " in errors
    assert "sudo -n systemctl --no-block restart skylight-detect.service" in errors
    assert field.service()["ActiveState"] == "inactive"


def test_ctrl_c_while_the_drone_installs_says_what_it_may_do_by_itself(field: Field) -> None:
    old = field.fly_old()
    begun = _slow(field, "install")
    running = field.service()["MainPID"]
    process = field.start(new_version(field, "2"), "--json")
    field.wait(begun.exists)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    (outcome,) = json.loads(output)
    assert outcome["result"] == "stopped"
    assert outcome["stands"].startswith(f"flies {old}; if it finishes installing by itself, it flies the new one from")
    assert field.service()["MainPID"] == running
    field.wait(lambda: str(field.current()).startswith("colours-2"))  # it did


def test_service_that_was_tried_again_and_again_is_so_afterwards(field: Field) -> None:
    """Its camera is not there, say: a push that fails must not leave it stopped."""
    old = field.fly_old()
    _guard(field, "fly", "kill -SEGV $$")
    _crash(field)
    done = field.push(new_version(field, "2"), "--watch", "2", "--ready", "5")
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"service started (it was activating before), current is {old}" in done.stderr
    assert field.current() == old
    assert field.service()["ActiveState"] == "activating"
