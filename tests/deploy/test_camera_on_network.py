"""A real camera on the network: it is killed, comes back, falls silent; nothing of it holds the process."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_camera import take, wait_for

from deploy.errors import UserError
from deploy.events import Events
from deploy.sources import SourceSettings, open_source

SERVER = Path(__file__).with_name("mjpeg_server.py")
QUICK = SourceSettings(patience=1.0, retry=0.05, longest_retry=0.2)


class Camera:
    """The server as a process, on one port for as long as the test lasts."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/camera.mjpg"

    def start(self, frames: int = 0) -> None:
        command = [sys.executable, str(SERVER), str(self.port), str(frames)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.line().startswith("ready")

    def line(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@pytest.fixture
def camera() -> Iterator[Camera]:
    camera = Camera()
    camera.start()
    yield camera
    camera.kill()


@contextlib.contextmanager
def _ended(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """Leave no process behind, whatever the test found."""
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_camera_that_is_killed_and_started_again_is_back(camera):
    events = Events(stream=None)
    with open_source(camera.address, QUICK, events=events) as source:
        before = take(source)
        camera.kill()
        limit = time.monotonic() + 20
        while not events.counts.get("camera.lost"):
            source.newest(0.05)
            assert time.monotonic() < limit
        source.newest(0)  # what had come before
        assert source.newest(0.3) is None
        camera.start()
        after = take(source, 20)
        wait_for(lambda: "camera.back" in events.counts)
    assert after.number > before.number
    assert after.captured > before.captured
    assert abs(float(after.image.mean()) - 20) < 60
    assert [event.kind for event in events.newest()] == ["camera.lost", "camera.back"]


def test_camera_that_falls_silent_is_opened_anew(camera):
    camera.kill()
    camera.start(frames=5)
    events = Events(stream=None)
    with open_source(camera.address, QUICK._replace(patience=0.4), events=events) as source:
        limit = time.monotonic() + 20
        while events.counts.get("camera.back", 0) < 1:
            source.newest(0.05)
            assert time.monotonic() < limit
    assert camera.line() == "opened\n"
    assert camera.line() == "closed\n"
    assert camera.line() == "opened\n"


_FLY = """
import signal, sys
from deploy.sources import SourceSettings, open_source
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
with open_source(sys.argv[1], SourceSettings(patience=60)) as source:
    while source.newest(1) is not None:
        pass
    print("silent", flush=True)
    if sys.argv[2] == "crash":
        raise RuntimeError("a programming error")
    while not stopped:
        source.newest(0.1)
    print("leaving", flush=True)
"""


@pytest.mark.parametrize(("how", "status"), [("term", 0), ("crash", 1), ("kill", -signal.SIGKILL)])
def test_silent_camera_does_not_hold_the_process_and_is_closed(camera, how, status):
    """FFmpeg sits in a read that would last a minute; the server sees the line closed when the process has ended."""
    camera.kill()
    camera.start(frames=5)
    command = [sys.executable, "-c", _FLY, camera.address, how]
    with _ended(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)) as fly:
        assert fly.stdout is not None
        assert fly.stdout.readline() == "silent\n"
        if how != "crash":
            fly.send_signal(signal.SIGTERM if how == "term" else signal.SIGKILL)
        out, errors = fly.communicate(timeout=10)
    assert fly.returncode == status, errors
    assert ("leaving" in out) == (how == "term")
    assert ("a programming error" in errors) == (how == "crash")
    assert camera.line() == "opened\n"
    assert camera.line() == "closed\n"


def test_camera_whose_driver_never_returns_does_not_hold_the_process(tmp_path):
    """A pipe without a writer blocks whoever opens it for ever, as a dead driver does."""
    os.mkfifo(tmp_path / "camera")
    code = """
import signal, sys, time
from deploy.sources import LiveSource, SourceSettings
from deploy.sources.capture import Capture
class Pipe(Capture):
    def read(self):
        open(sys.argv[1]).read()
source = LiveSource("pipe", Pipe, SourceSettings(patience=60))
print("reading", flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
while True:
    source.newest(60)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "camera")]
    with _ended(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) as fly:
        assert fly.stdout is not None
        assert fly.stdout.readline() == "reading\n"
        time.sleep(0.2)
        fly.send_signal(signal.SIGTERM)
        fly.communicate(timeout=10)
    assert fly.returncode == 7


@pytest.mark.parametrize("address", ["rtsp://127.0.0.1:1/none", "http://127.0.0.1:1/none"])
def test_stream_that_is_not_there_is_refused(address):
    with pytest.raises(UserError, match=f"{address}: the camera or stream cannot be opened"):
        open_source(address)
