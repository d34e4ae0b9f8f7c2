"""`skylight-detect fly` as the service runs it: a process, an autopilot in another, a real receiver of systemd."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from autopilot_process import Autopilot, free_port
from drawn import assert_refused
from made_frames import picture
from signed_bundle import edit, make_key, write_signed

from deploy.cli import main
from deploy.errors import UserError
from deploy.flightlog.reading import FlightRecords, find_flight
from deploy.life.install import install
from deploy.life.store import read_notes
from deploy.strict_json import canonical_json

CRITICAL = 5  # MAV_STATE_CRITICAL
COMMAND = Path(sys.executable).with_name("skylight-detect")
SETTINGS = """
[source]
device = {device}
pace = real
patience = 0.5
[mavlink]
connection = udpout:127.0.0.1:{autopilot}
[geometry]
field_of_view = 60
target_size = 1.2x1.5
[web]
port = {web}
[log]
folder = {folder}/log
reserve = 0
[health]
disk = {folder}
[life]
bundles = {folder}/store
lasting = 1
failed_starts = 2
"""


def _flight(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (320, 240))
    for number in range(frames):
        writer.write(picture(number // 10, 320, 240))
    writer.release()
    return path


class Drone:
    """A folder with settings, keys and bundles, and the command run there."""

    def __init__(self, folder: Path, frames: int) -> None:
        self.folder, self.port = folder, free_port()
        self.web = free_port()
        self.key = make_key(folder / "keys", "maker")
        self.bundle = write_signed(folder / "colours-1", self.key).root
        self.set(_flight(folder / "flight.avi", frames))
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.notify.settimeout(30)

    def set(self, device: object) -> None:
        text = SETTINGS.format(device=device, autopilot=self.port, web=self.web, folder=self.folder)
        (self.folder / "detect.ini").write_text(text)

    def start(self, *options: object) -> subprocess.Popen[str]:
        command = [
            COMMAND,
            "fly",
            "--settings",
            self.folder / "detect.ini",
            "--trusted",
            self.folder / "keys",
            *options,
        ]
        environment = os.environ | {"NOTIFY_SOCKET": str(self.folder / "notify"), "WATCHDOG_USEC": "2000000"}
        words = [str(word) for word in command]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def run(self, *options: object) -> "subprocess.CompletedProcess[str]":
        process = self.start(*options)
        output, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess([], process.returncode, output, errors)

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web}/api/status", timeout=5) as answer:
            return json.load(answer)


@pytest.fixture
def drone(tmp_path: Path) -> Iterator[Drone]:
    made = Drone(tmp_path, 100)
    yield made
    made.notify.close()


def test_autopilot_page_log_and_systemd_are_told_until_it_is_stopped(drone):
    autopilot = Autopilot("udp", drone.port)
    process = drone.start("--bundle", drone.bundle)
    assert b"READY=1" in drone.notify.recv(1024)
    autopilot.wait(lambda: len(autopilot.of("LANDING_TARGET")) > 20)
    about = drone.status()["status"]
    assert about["bundle"]["trust"].startswith("signed by maker")
    assert about["loop"]["frames"] > 10
    assert about["loop"]["age_at_publish_ms"][0] < about["loop"]["age_limit_ms"]
    assert about["mavlink"]["sent"]["LANDING_TARGET"] > 10
    assert about["source"]["kind"] == "live"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    said = [drone.notify.recv(1024)]
    while b"STOPPING=1" not in said[-1]:
        said.append(drone.notify.recv(1024))
    assert any(b"WATCHDOG=1" in one for one in said)
    autopilot.close()
    records = FlightRecords(find_flight(drone.folder / "log"))
    kinds = [record["type"] for record in records]
    assert kinds.count("frame") > 20
    assert kinds.count("sent") > 20


def test_every_detection_that_the_autopilot_hears_is_of_that_picture(drone):
    """The square stays for half a second in each cell; the angles tell in which."""
    autopilot = Autopilot("udp", drone.port)
    assert drone.run("--bundle", drone.bundle).returncode == 0  # the video ends
    rows = autopilot.of("LANDING_TARGET")
    autopilot.close()
    places = [(round(row["angle_x"], 2), round(row["angle_y"], 2)) for row in rows]
    assert len(set(places)) >= 8
    assert places[0] != places[-1]


def test_bundle_whose_golden_frames_depart_is_not_flown(drone):
    other = write_signed(drone.folder / "other-1", drone.key).root
    golden = json.loads((other / "golden" / "golden.json").read_text())
    for frame in golden["frames"]:
        for found in frame["expected"].values():
            for one in found:
                one["score"] -= 0.2
    data = canonical_json(golden)
    (other / "golden" / "golden.json").write_bytes(data)
    files = json.loads((other / "bundle.json").read_text())["files"]
    files["golden/golden.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit(other, drone.key, files=files)
    done = drone.run("--bundle", other)
    assert_refused_last(done, "golden", "do not fly it")
    assert not (drone.folder / "log").exists()


def test_installed_bundle_that_never_lasts_gives_way_to_the_one_before(drone):
    store = drone.folder / "store"
    first = install(drone.bundle, store, None, trial=lambda _: None).folder
    edit(drone.bundle, drone.key, version="2")
    second = install(drone.bundle, store, None, trial=lambda _: None).folder
    for _ in range(2):  # cut off before it lasted
        process = drone.start()
        drone.notify.recv(1024)
        process.kill()
        process.communicate()
    assert read_notes(store).starts == 2
    done = drone.run()
    assert done.returncode == 0, done.stderr
    assert f"bundle.failed: {second}" in done.stderr
    assert (store / "current").readlink() == Path(first)
    assert read_notes(store).starts == 0


def test_camera_that_is_not_there_is_not_the_bundles_fault(drone):
    store = drone.folder / "store"
    install(drone.bundle, store, None, trial=lambda _: None)
    drone.set(drone.folder / "gone.avi")
    assert_refused_last(drone.run(), "gone.avi", "no such file")
    assert read_notes(store).starts == 0


def test_refusals_say_what_is_wrong_before_anything_is_opened(drone):
    text = (drone.folder / "detect.ini").read_text()
    for bad, message in (
        ("[source]\npace = slow", "pace=slow"),
        ("[flight]\nage = 1", "[flight]"),
        ("[loop]\nage_ms = 0", "age_ms=0"),
    ):
        (drone.folder / "detect.ini").write_text(bad)
        assert_refused(drone.run("--bundle", drone.bundle), message)
    (drone.folder / "detect.ini").write_text(text)
    assert_refused_last(drone.run(), "store", "no bundle is installed")


def test_lost_camera_means_silence_and_it_comes_back(drone):
    """The server of the stream is killed: no target is told any longer, heartbeats go on, and later targets again."""
    camera, port = Path(__file__).with_name("mjpeg_server.py"), free_port()
    command = [sys.executable, str(camera), str(port)]
    drone.set(f"http://127.0.0.1:{port}/camera.mjpg")
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    autopilot = Autopilot("udp", drone.port)
    process = drone.start("--bundle", drone.bundle)
    autopilot.wait(lambda: len(autopilot.of("LANDING_TARGET")) > 5)
    server.kill()
    server.wait()
    time.sleep(1.0)  # what was on its way has come, what was bridged is over
    targets, beats = len(autopilot.of("LANDING_TARGET")), len(autopilot.of("HEARTBEAT"))
    autopilot.wait(lambda: len(autopilot.of("HEARTBEAT")) >= beats + 3)
    assert len(autopilot.of("LANDING_TARGET")) == targets
    assert autopilot.of("HEARTBEAT")[-1]["system_status"] == CRITICAL
    assert drone.status()["status"]["source"]["is_lost"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        autopilot.wait(lambda: len(autopilot.of("LANDING_TARGET")) > targets + 5)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
        server.kill()
    autopilot.close()
    assert process.returncode == 0, errors
    assert "camera.lost" in errors
    assert "camera.back" in errors


def _silent_server() -> socket.socket:
    """Takes connections and says nothing: a camera that hangs while it is opened."""
    server = socket.create_server(("127.0.0.1", 0))
    server.listen(8)
    return server


def test_stop_while_the_camera_hangs_at_the_start_is_quick_and_no_failed_start(drone):
    store = drone.folder / "store"
    install(drone.bundle, store, None, trial=lambda _: None)
    with _silent_server() as server:
        drone.set(f"http://127.0.0.1:{server.getsockname()[1]}/camera.mjpg\nwait = no")
        text = (drone.folder / "detect.ini").read_text().replace("patience = 0.5", "patience = 30")
        (drone.folder / "detect.ini").write_text(text)
        process = drone.start()
        held, _ = server.accept()  # it is being opened
        assert read_notes(store).starts == 1
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        held.close()
    assert time.monotonic() - begin < 10, "systemd kills what takes longer"
    assert process.returncode == 130, errors
    assert read_notes(store).starts == 0


def test_process_that_the_watchdog_kills_names_the_place_in_every_thread(drone):
    """SIGABRT is what systemd sends; a core of a process with a GPU would fill the disk and take half a minute."""
    process = drone.start("--bundle", drone.bundle)
    assert b"READY=1" in drone.notify.recv(1024)
    process.send_signal(signal.SIGABRT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in errors
    assert "loop.py" in errors
    assert "reader.py" in errors


def test_camera_that_comes_late_is_waited_for(drone):
    """A service that is started again and again for want of a camera would have no page and no heartbeat."""
    camera, port = Path(__file__).with_name("mjpeg_server.py"), free_port()
    drone.set(f"http://127.0.0.1:{port}/camera.mjpg")
    autopilot = Autopilot("udp", drone.port)
    process = drone.start("--bundle", drone.bundle)
    assert b"READY=1" in drone.notify.recv(1024)
    autopilot.wait(lambda: autopilot.of("HEARTBEAT"))
    assert drone.status()["status"]["source"]["is_lost"]
    command = [sys.executable, str(camera), str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        autopilot.wait(lambda: autopilot.of("LANDING_TARGET"))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
        server.kill()
    autopilot.close()
    assert process.returncode == 0, errors


def test_network_that_fails_in_flight_counts_against_its_bundle(drone, monkeypatch, capsys):
    """TensorRT refuses to run as a user's error; a bundle that never flies must give way all the same."""

    def fails(*_: object) -> None:
        raise UserError("TensorRT: the engine did not run")

    store = drone.folder / "store"
    install(drone.bundle, store, None, trial=lambda _: None)
    monkeypatch.setattr("deploy.vision.Vision.look", fails)
    command = ["fly", "--settings", str(drone.folder / "detect.ini"), "--trusted", str(drone.folder / "keys")]
    assert main(command) == 2
    assert "did not run" in capsys.readouterr().err
    assert read_notes(store).starts == 1


def assert_refused_last(done: "subprocess.CompletedProcess[str]", *parts: str) -> None:
    """As `assert_refused`, where events were said before."""
    last = done.stderr.strip().splitlines()[-1]
    assert_refused(subprocess.CompletedProcess([], done.returncode, done.stdout, last + "\n"), *parts)
