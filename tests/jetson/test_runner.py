"""External commands: what is logged, what is said when they fail, and Ctrl-C, pressed in a process of its own."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flash_bench import Bench

from deploy.errors import UserError
from jetson.runner import Command, Runner

ROOT = Path(__file__).resolve().parents[2]
DRIVER = """
import sys
from pathlib import Path
from jetson.__main__ import main
from jetson.flash.host import Host
host = Host("Linux", "x86_64", "Ubuntu 18.04", None, 0, {path!r})
sys.exit(main(sys.argv[1:], host=host, usb=Path({usb!r})))
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def start(bench: Bench, *words: str) -> subprocess.Popen[str]:
    """Begin to flash in another process."""
    code = DRIVER.format(path=bench.host.path, usb=str(bench.usb))
    given = [sys.executable, "-c", code, "flash", "--board", "jetson-tx2", "--module", "P3310", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        given, cwd=bench.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Read what the process prints until `text` comes."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    assert process.stderr is not None
    pytest.fail(f"ended without {text!r}: {process.stderr.read()}")


def test_one_ctrl_c_warns_and_flashing_goes_on(bench: Bench) -> None:
    bench.plug_in("1-2")
    bench.environment(L4T_STAND_IN_FAULT="waits:5", L4T_STAND_IN_WAIT="15")
    process = start(bench)
    wait_for(process, "Flashing target device started")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "the module at USB 1-2 is being written; stopped now, it boots no more until it is flashed." in said
    assert list(bench.partitions()) == ["1-2"]
    assert bench.records()[0]["result"] == "done"


def test_two_stop_it_and_say_what_to_do(bench: Bench) -> None:
    bench.plug_in("1-2")
    bench.fault("waits:5")
    process = start(bench)
    wait_for(process, "Flashing target device started")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Press Ctrl-C again" in said
    assert "the module at USB 1-2 may be half-flashed; put it into recovery mode and flash it again" in out
    (record,) = bench.records()
    assert (record["result"], record["error"]) == ("stopped", "broken off by Ctrl-C")
    assert bench.partitions() == {}


def test_what_a_command_leaves_behind_is_ended_too(tmp_path: Path) -> None:
    """A script's children are in its group: none goes on writing after it was stopped."""
    script = f"sleep 300 & echo $! > {tmp_path}/child; echo started; wait"
    with (tmp_path / "log").open("w") as log, pytest.raises(UserError, match="enough"):
        Runner(log, 0).run(Command(("sh", "-c", script), tmp_path), lambda line: "enough: of it; stop")
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.05)
    pytest.fail("the child still runs")


def test_the_log_has_commands_output_and_status(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        Runner(log, 0).run(Command(("sh", "-c", "echo one; echo two >&2; echo $USER"), tmp_path, as_root=True))
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines == [
        f"$ cd {tmp_path}",
        "$ sudo sh -c 'echo one; echo two >&2; echo $USER'",
        *("one", "two", "root"),
        "exit status 0",
    ]


def test_a_command_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with (
        (tmp_path / "log").open("w") as log,
        pytest.raises(UserError, match=r"./flash.sh: No such file .*; is .* complete"),
    ):
        Runner(log, 0).run(Command(("./flash.sh",), tmp_path))


def test_a_record_is_json(bench: Bench) -> None:
    bench.plug_in("1-2")
    assert bench.flash("--records", "kept") == 0
    (path,) = bench.folder.glob("kept/*.json")
    assert json.loads(path.read_text())["schema"] == 1


class _FullDisk(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_does_not_stop_a_command_half_way(tmp_path: Path) -> None:
    """The log is lost, the module is not."""
    Runner(_FullDisk(), 0).run(Command(("sh", "-c", f"echo one; echo two; touch {tmp_path}/written"), tmp_path))
    assert (tmp_path / "written").exists()


def test_what_watches_and_fails_leaves_no_command_behind(tmp_path: Path) -> None:
    def broken(_line: str) -> str | None:
        raise ZeroDivisionError

    with (tmp_path / "log").open("w") as log, pytest.raises(ZeroDivisionError):
        Runner(log, 0).run(Command(("sh", "-c", "echo one; sleep 300; echo two"), tmp_path), broken)
    assert "\ntwo" not in (tmp_path / "log").read_text()


def test_what_must_not_be_broken_off_lasts_between_commands_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = Runner(io.StringIO(), uid=0)
    with pytest.raises(KeyboardInterrupt), runner.unbroken("The drone flies nothing."):  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        assert "The drone flies nothing. Press Ctrl-C again" in capsys.readouterr().err
        runner.run(Command(("true",), tmp_path))
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("not stopped")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
