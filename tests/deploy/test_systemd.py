"""What systemd is told, received by a real socket, and the unit file itself."""

import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deploy.drone_settings import SECTIONS
from deploy.frame import Detections, Frame, Observation
from deploy.life.systemd import Notifier, Watchdog
from deploy.settings import read_settings, settings_text

PACKAGE = Path(__file__).resolve().parents[2] / "jetson" / "package"
UNIT = PACKAGE / "skylight-detect.service"
SETTINGS = PACKAGE / "skylight-detect.ini"


_LIMIT = 0.4  # seconds of the watchdog in these tests

_LOOP = """
import sys, time
from deploy.life.systemd import Watchdog
watchdog = Watchdog()
for turn in range(int(sys.argv[1])):
    watchdog.idle(time.monotonic())
    time.sleep(0.02)
if sys.argv[2] == "hangs":
    time.sleep(60)
watchdog.close()
"""


@pytest.fixture(params=["file", "abstract"])
def systemd(request, tmp_path):
    """A receiver as systemd is one; its address is that of NOTIFY_SOCKET."""
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    name = str(tmp_path / "notify") if request.param == "file" else f"@skylight-{time.monotonic_ns()}"
    receiver.bind("\0" + name[1:] if name.startswith("@") else name)
    receiver.settimeout(20)
    with receiver:
        yield receiver, name


def _observation(number: int, age: float) -> Observation:
    frame = Frame(number, 0.0, None, np.zeros((2, 2, 3), np.uint8), "camera")
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    return Observation(frame, nothing, (), age, 0.2, 0, (64, 64), {})


def _start(address: str, turns: int, ending: str) -> subprocess.Popen:
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(int(_LIMIT * 1e6))}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen([sys.executable, "-c", _LOOP, str(turns), ending], env=environment)


def _received(receiver: socket.socket) -> set[str]:
    return set(receiver.recv(4096).decode().splitlines())


def test_ready_comes_first_then_pets_and_the_end_is_said(systemd):
    receiver, address = systemd
    process = _start(address, 60, "ends")
    first = _received(receiver)
    assert {"READY=1", "WATCHDOG=1"} <= first
    later: list[set[str]] = []
    while "STOPPING=1" not in (later[-1] if later else ()):
        later.append(_received(receiver))
    assert process.wait(timeout=20) == 0
    assert sum("WATCHDOG=1" in lines for lines in later) >= 3
    assert not any("READY=1" in lines for lines in later)
    assert any(line.startswith("STATUS=no frame for") for lines in later for line in lines)


def test_loop_that_hangs_stops_petting(systemd):
    receiver, address = systemd
    process = _start(address, 15, "hangs")
    try:
        assert "READY=1" in _received(receiver)
        receiver.settimeout(3 * _LIMIT)
        pets = 1
        with pytest.raises(TimeoutError):  # noqa: PT012
            while True:
                pets += "WATCHDOG=1" in _received(receiver)
        assert process.poll() is None  # it lives, and says nothing
        assert 2 <= pets < 15
    finally:
        process.kill()
        process.wait()


def test_frames_pet_and_are_named_also_when_they_are_too_old(systemd):
    receiver, address = systemd
    now = [100.0]
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "10000000"})
    watchdog = Watchdog(notifier, clock=lambda: now[0])
    watchdog.publish(_observation(7, 0.05))
    assert _received(receiver) == {"READY=1", "WATCHDOG=1", "STATUS=frame 7, 50 ms old"}
    now[0] += 0.5
    watchdog.publish(_observation(8, 0.05))  # too early for anything
    now[0] += 2.5
    watchdog.publish(_observation(9, 0.5))
    assert _received(receiver) == {"WATCHDOG=1", "STATUS=frame 9, 500 ms old, TOO OLD"}
    now[0] += 1.5
    watchdog.idle(now[0])
    assert _received(receiver) == {"STATUS=no frame for 2 s"}
    assert watchdog.status() == {"limit": 10.0, "pets": 2, "unsent": 0}
    watchdog.close()
    assert "STOPPING=1" in _received(receiver)


def test_full_socket_does_not_hold_up_the_loop(systemd):
    _, address = systemd
    notifier = Notifier({"NOTIFY_SOCKET": address})
    for _ in range(2000):
        notifier.send("STATUS=" + "x" * 1000)
    assert notifier.unsent > 0
    notifier.close()


def test_ready_that_systemd_could_not_take_is_said_again(systemd):
    """It would kill a flying drone when the time for its start is over."""
    receiver, address = systemd
    now = [100.0]
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "10000000"})
    while not notifier.unsent:
        notifier.send("STATUS=full")
    watchdog = Watchdog(notifier, clock=lambda: now[0])
    watchdog.idle(now[0])
    receiver.settimeout(0.2)
    with pytest.raises(TimeoutError):  # noqa: PT012
        while True:
            assert _received(receiver) == {"STATUS=full"}
    watchdog.idle(now[0])
    assert {"READY=1", "WATCHDOG=1"} <= _received(receiver)
    assert watchdog.status()["pets"] == 1


@pytest.mark.parametrize(
    ("environment", "limit"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_without_systemd_nothing_is_sent(environment, limit):
    notifier = Notifier(environment)
    assert notifier.watchdog == limit
    watchdog = Watchdog(notifier)
    watchdog.idle(0.0)
    watchdog.close()
    assert notifier.unsent == 0


def test_nobody_listening_is_counted_only(tmp_path):
    watchdog = Watchdog(Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}))
    watchdog.idle(0.0)
    assert watchdog.status()["unsent"] == 1


@pytest.fixture(scope="module")
def analyze() -> str:
    path = shutil.which("systemd-analyze")
    if path is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    return path


def test_unit_is_what_systemd_takes(analyze, tmp_path):
    """The program is not installed here; /bin/true stands in its place."""
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE)
    (tmp_path / UNIT.name).write_text(text)
    command = [analyze, "verify", "--man=no", str(tmp_path / UNIT.name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    told = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, told) == (0, []), done.stderr
    (tmp_path / UNIT.name).write_text(text.replace("WatchdogSec=10", "WatchdogSec=soon"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert f"{UNIT.name}:" in done.stderr  # it would have been noticed


def test_unit_has_no_root():
    lines = UNIT.read_text().splitlines()
    for needed in (
        "Type=notify",
        "User=skylight",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
    ):
        assert needed in lines
    assert "PrivateTmp=yes" not in lines  # the camera daemon's socket is in /tmp


def test_unit_never_gives_up_and_does_not_spin():
    """0 turns the limit of starts off (systemd.unit(5)); what systemd 237 does not know would be no limit there."""
    values = _values(UNIT)
    assert values["StartLimitIntervalSec"] == "0"
    assert values["Restart"] == "always"
    assert "RestartPreventExitStatus" not in values
    assert "StartLimitAction" not in values
    assert 1 <= float(values["RestartSec"]) <= 5
    assert float(values["WatchdogSec"]) > 1


def _values(unit: Path) -> dict[str, str]:
    lines = unit.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_settings_file_is_in_step_with_the_settings():
    assert SETTINGS.read_text() == settings_text(SECTIONS), "write it anew: " + str(SETTINGS)
    assert read_settings(SETTINGS, SECTIONS) == read_settings(None, SECTIONS)
