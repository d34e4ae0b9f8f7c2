"""What an autopilot in another process decodes: targets in numbers, times, silence, over UDP and a serial line."""

import json
import math
import os
import pty
import select
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from autopilot_process import Autopilot, free_port, observation, start, track, until
from drawn_board import CAMERA

from deploy.autopilot.messages import TUNNEL_TYPE, tunnelled
from deploy.autopilot.part import MavlinkPart
from deploy.autopilot.settings import MavlinkSettings
from deploy.errors import UserError
from deploy.events import Events
from deploy.geometry import GeometrySettings, Sight

CLASSES = ("Arch", "Window")
Make = Callable[..., MavlinkPart]


def calibration(folder: Path) -> str:
    """A file with the drawn boards' camera, without its distortion."""
    matrix = {"fx": CAMERA.fx, "fy": CAMERA.fy, "cx": CAMERA.cx, "cy": CAMERA.cy}
    content = {
        "schema": 1,
        "image": {"width": 640, "height": 480},
        "matrix": matrix,
        "matrix_error": dict.fromkeys(matrix, 0.5),
        "distortion": dict.fromkeys(("k1", "k2", "p1", "p2", "k3"), 0.0),
    }
    (folder / "camera.json").write_text(json.dumps(content))
    return str(folder / "camera.json")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Parts on a connection, with a calibrated camera that looks down on a target of 1 m x 1 m; closed afterwards."""
    made: list[MavlinkPart] = []

    def part(
        connection: str, events: Events | None = None, sight: dict[str, Any] | None = None, **settings: Any
    ) -> MavlinkPart:
        geometry = GeometrySettings(**({"calibration": calibration(tmp_path), "target_size": ("1x1",)} | (sight or {})))
        mavlink = MavlinkSettings(connection=connection, **settings)
        mavlink.check()
        made.append(MavlinkPart(mavlink, Sight(geometry, CLASSES), CLASSES, events or Events(None)))
        return made[-1]

    yield part
    for one in made:
        one.close()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def autopilot(port: int) -> Iterator[Autopilot]:
    made = Autopilot("udp", port)
    yield made
    made.close()


def settled(part: MavlinkPart) -> MavlinkPart:
    until(lambda: part.status()["time_synchronised"])
    return part


def kinds(events: Events) -> list[str]:
    return [event.kind for event in events.newest()]


def test_the_target_is_decoded_as_it_was_seen(make, autopilot, port):
    part = settled(make(f"udpout:127.0.0.1:{port}"))
    seen = observation(track(300, box=(377.0, 184.0, 477.0, 284.0)))  # 100 x 100 pixels, its middle 100 right of cx
    part.publish(seen)
    row = autopilot.wait(lambda: autopilot.of("LANDING_TARGET"))[0]
    assert row["version"] == 0xFD, "MAVLink 2"
    assert row["from"] == [1, 191]
    assert (row["frame"], row["type"], row["position_valid"]) == (12, 3, 1)
    assert row["target_num"] == (300 - 1) % 255 + 1
    assert math.tan(row["angle_x"]) == pytest.approx(100 / CAMERA.fx, rel=1e-5)
    assert row["angle_y"] == pytest.approx(0, abs=1e-6)
    depth = (5.33 + 5.37) / 2  # metres, by width and by height
    assert row["z"] == pytest.approx(depth, rel=1e-3)
    assert row["y"] == pytest.approx(depth * 100 / CAMERA.fx, rel=1e-3), "to the right of the drone"
    assert row["x"] == pytest.approx(0, abs=1e-3)
    assert row["distance"] == pytest.approx(math.hypot(row["y"], row["z"]), rel=1e-5)
    assert row["size_y"] == pytest.approx(2 * math.atan(50 / CAMERA.fy), rel=1e-5)
    assert row["q"] == [0, 0, 0, 0]
    truth = int((seen.frame.captured + 1000.0) * 1e6)  # on the autopilot's clock, which is 1000 s ahead
    assert row["time_usec"] == pytest.approx(truth, abs=20_000)


def test_what_is_above_in_the_picture_is_ahead(make, autopilot, port):
    """ArduPilot: direction in the body = (-tan(angle_y), tan(angle_x), 1)."""
    settled(make(f"udpout:127.0.0.1:{port}")).publish(observation(track(box=(277, 34, 377, 134))))
    row = autopilot.wait(lambda: autopilot.of("LANDING_TARGET"))[0]
    assert row["angle_y"] < -0.1
    assert row["x"] > 0.5
    assert row["x"] / row["z"] == pytest.approx(-math.tan(row["angle_y"]), rel=1e-4)


def test_angles_alone_where_the_place_is_not_known(make, autopilot, port):
    events = Events(None)
    part = make(f"udpout:127.0.0.1:{port}", events, {"calibration": None, "field_of_view": 60.0})
    part.publish(observation(track(box=(420, 190, 520, 290))))
    row = autopilot.wait(lambda: autopilot.of("LANDING_TARGET"))[0]
    assert (row["position_valid"], row["distance"], row["x"], row["y"], row["z"]) == (0, 0, 0, 0, 0)
    assert math.tan(row["angle_x"]) == pytest.approx(150 / 320 * math.tan(math.radians(30)), rel=1e-5)
    assert part.status()["position_doubt"] == "not calibrated"
    assert any("not calibrated" in event.text for event in events.newest())


def test_a_foretold_target_is_told_as_no_place_and_then_not_at_all(make, autopilot, port):
    part = settled(make(f"udpout:127.0.0.1:{port}", max_bridge=0.3))
    for number, bridged in enumerate((0.0, 0.2, 0.31)):
        part.publish(observation(track(bridged=bridged), number=number))
        until(lambda: part._slot is None)
        time.sleep(0.1)
    until(lambda: part.status()["silent"] == 1)
    assert [row["position_valid"] for row in autopilot.of("LANDING_TARGET")] == [1, 0]


def test_silence_for_what_is_old_or_not_there(make, autopilot, port):
    part = settled(make(f"udpout:127.0.0.1:{port}", classes=("Window",)))
    part.publish(observation(track(class_index=1), age=0.6))
    until(lambda: part.status()["stale"] == 1)
    part.publish(observation())
    until(lambda: part.status()["silent"] == 1)
    part.publish(observation(track(class_index=0)))
    until(lambda: part.status()["silent"] == 2)
    part.publish(observation(track(class_index=1)))
    autopilot.wait(lambda: autopilot.of("LANDING_TARGET"))
    time.sleep(0.3)
    assert len(autopilot.of("LANDING_TARGET")) == 1, "each observation once"


def test_what_waited_until_it_was_old_is_not_told(make, autopilot, port):
    part = settled(make(f"udpout:127.0.0.1:{port}", rate=1))
    part.publish(observation(track()))
    autopilot.wait(lambda: autopilot.of("LANDING_TARGET"))
    part.publish(observation(track(), limit=0.2))  # its turn comes after a second
    until(lambda: part.status()["stale"] == 1)
    assert len(autopilot.of("LANDING_TARGET")) == 1


def test_no_more_than_the_rate_and_the_newest(make, autopilot, port):
    part = settled(make(f"udpout:127.0.0.1:{port}", rate=10))
    begin = time.monotonic()
    for number in range(1, 101):
        part.publish(observation(track(box=(200 + number, 200, 300 + number, 300)), number=number))
        time.sleep(0.01)
    spent = time.monotonic() - begin
    part.publish(observation())
    told = autopilot.of("LANDING_TARGET")
    assert 3 <= len(told) <= spent * 10 + 2
    assert [row["angle_x"] for row in told] == sorted(row["angle_x"] for row in told)


def test_the_target_does_not_change_while_it_can_be_seen(make, autopilot, port):
    part = settled(make(f"udpout:127.0.0.1:{port}"))
    for others in ([], [track(7, box=(100, 100, 200, 200), score=0.99)]):
        part.publish(observation(track(5, score=0.5), *others))
        time.sleep(0.15)
    part.publish(observation(track(7, box=(100, 100, 200, 200), score=0.99)))
    autopilot.wait(lambda: [row["target_num"] for row in autopilot.of("LANDING_TARGET")] == [5, 5, 7])


def test_heartbeats_say_how_it_is(make, autopilot, port):
    part = make(f"udpout:127.0.0.1:{port}")
    first = autopilot.wait(lambda: autopilot.of("HEARTBEAT"))[0]
    assert (first["type"], first["autopilot"], first["system_status"]) == (18, 8, 1)
    part.publish(observation())
    autopilot.wait(lambda: autopilot.of("HEARTBEAT")[-1]["system_status"] == 4)
    autopilot.wait(lambda: autopilot.of("HEARTBEAT")[-1]["system_status"] == 5)  # nothing was seen for two seconds
    part.publish(observation(age=0.6))
    autopilot.wait(lambda: len(autopilot.of("HEARTBEAT")) >= 5)
    assert autopilot.of("HEARTBEAT")[-1]["system_status"] == 5, "what is old is not seen"
    part.health = False
    part.publish(observation())
    count = len(autopilot.of("HEARTBEAT"))
    autopilot.wait(lambda: len(autopilot.of("HEARTBEAT")) > count)
    assert autopilot.of("HEARTBEAT")[-1]["system_status"] == 5
    part.close()
    autopilot.wait(lambda: autopilot.of("HEARTBEAT")[-1]["system_status"] == 7)
    times = [row["monotonic"] for row in autopilot.of("HEARTBEAT")][:-1]
    assert all(0.8 < after - before < 2 for before, after in pairwise(times))


def test_it_tells_the_autopilot_its_time(make, autopilot, port):
    make(f"udpout:127.0.0.1:{port}")
    autopilot.wait(lambda: autopilot.of("HEARTBEAT"))
    autopilot.tell("ask")
    answer = autopilot.wait(lambda: [row for row in autopilot.of("TIMESYNC") if row["tc1"]])[0]
    assert answer["tc1"] / 1e9 == pytest.approx(time.monotonic(), abs=5)
    assert answer["arrived"] >= answer["ts1"]


def test_times_follow_a_clock_that_jumps(make, autopilot, port):
    events = Events(None)
    part = settled(make(f"udpout:127.0.0.1:{port}", events))
    for jump, offset in (("37.5", 1037.5), ("-900", 137.5)):
        jumps = part.status()["clock_jumps"]
        autopilot.tell(f"jump {jump}")
        until(lambda: part.status()["clock_jumps"] > jumps and part.status()["time_synchronised"])  # noqa: B023
        assert part.status()["time_offset_ms"] == pytest.approx(offset * 1000, abs=20)
        count = len(autopilot.of("LANDING_TARGET"))
        seen = observation(track())
        part.publish(seen)
        row = autopilot.wait(lambda: autopilot.of("LANDING_TARGET")[count:])[0]  # noqa: B023
        assert row["time_usec"] == pytest.approx((seen.frame.captured + offset) * 1e6, abs=20_000)
    assert kinds(events).count("mavlink.clock") == 2


def test_a_link_is_lost_and_comes_back(make, autopilot, port):
    events = Events(None)
    part = settled(make(f"udpout:127.0.0.1:{port}", events, link_timeout=1))
    autopilot.tell("mute")
    until(lambda: "mavlink.lost" in kinds(events))
    assert part.status()["autopilot"] is None
    assert not part.status()["time_synchronised"]
    autopilot.tell("speak")
    settled(part)
    assert kinds(events).count("mavlink.link") == 2


def test_a_line_that_loses_reorders_and_corrupts(make, autopilot, port):
    """Seed 4: a fifth is lost, a tenth corrupted. No wrong number arrives, and time is told right."""
    listen = free_port()
    proxy = start("udp_proxy.py", listen, port, 4, 0.2, 0.1)
    try:
        assert proxy.stdout is not None
        assert proxy.stdout.readline() == "ready\n"
        part = settled(make(f"udpout:127.0.0.1:{listen}", rate=100))
        captured = {}
        for number in range(1, 201):
            seen = observation(track(number), number=number)
            captured[number] = seen.frame.captured
            part.publish(seen)
            time.sleep(0.015)
        rows = autopilot.wait(lambda: len(autopilot.of("LANDING_TARGET")) > 60 and autopilot.of("LANDING_TARGET"))
        assert len({row["target_num"] for row in rows}) < 190, "the line loses"
        for row in rows:
            assert row["position_valid"] == 1
            assert row["time_usec"] == pytest.approx((captured[row["target_num"]] + 1000) * 1e6, abs=40_000)
        until(lambda: part.status()["garbage"] > 0)
        assert autopilot.of("BAD_DATA")
    finally:
        proxy.kill()
        proxy.wait()
        assert proxy.stdout is not None
        assert proxy.stdin is not None
        proxy.stdout.close()
        proxy.stdin.close()


def test_udpin_waits_for_the_autopilot_to_speak(make, port):
    part = make(f"udpin:127.0.0.1:{port}")
    autopilot = Autopilot("udpto", port)
    settled(part).publish(observation(track(3)))
    assert autopilot.wait(lambda: autopilot.of("LANDING_TARGET"))[0]["target_num"] == 3
    autopilot.close()


@pytest.fixture
def serial() -> Iterator[tuple[str, str]]:
    """Both ends of a serial line, names of devices."""
    files = [*pty.openpty(), *pty.openpty()]
    ends = [os.ttyname(files[1]), os.ttyname(files[3])]
    stop = _bridge(files[0], files[2])
    yield ends[0], ends[1]
    stop()
    for file in files:
        os.close(file)


def _bridge(left: int, right: int) -> Callable[[], None]:
    is_over = threading.Event()

    def carry() -> None:
        while not is_over.is_set():
            for file in select.select([left, right], [], [], 0.05)[0]:
                os.write(right if file == left else left, os.read(file, 4096))

    thread = threading.Thread(target=carry, daemon=True)
    thread.start()

    def stop() -> None:
        is_over.set()
        thread.join()

    return stop


def test_a_serial_line_with_garbage_on_it(make, serial):
    drone, far = serial
    autopilot = Autopilot("serial", far)
    part = make(f"{drone},921600", rate=50)
    for seed in range(20):
        autopilot.tell(f"garbage 300 {seed}")
    settled(part)
    for number in range(1, 31):
        if number % 3 == 0:
            autopilot.tell(f"garbage 700 {number}")
        part.publish(observation(track(number)))
        time.sleep(0.03)
    rows = autopilot.wait(lambda: len(autopilot.of("LANDING_TARGET")) >= 10 and autopilot.of("LANDING_TARGET"))
    assert all(row["position_valid"] == 1 and row["z"] == pytest.approx(5.35, rel=1e-2) for row in rows)
    assert part.status()["garbage"] > 10
    assert part.status()["autopilot"] == [1, 1]
    autopilot.close()


def test_a_serial_device_that_appears_later_and_goes_and_returns(make, tmp_path):
    events = Events(None)
    device = tmp_path / "ttyTHS1"
    part = make(f"{device},115200", events)
    until(lambda: "mavlink.line" in kinds(events))
    assert not part.status()["open"]
    for _ in range(2):
        near, far = pty.openpty()
        device.symlink_to(os.ttyname(far))
        until(lambda: part.status()["open"])
        until(lambda: os.read(near, 1)[0] == 0xFD)  # noqa: B023
        device.unlink()
        os.close(far)
        os.close(near)
        until(lambda: not part.status()["open"])
    levels = [event.level for event in events.newest() if event.kind == "mavlink.line"]
    assert levels == ["warning", "info", "warning", "info", "warning"]


def test_signed_messages_are_taken_and_others_are_not(make, tmp_path, port):
    key = bytes(range(32)).hex()
    (tmp_path / "key").write_text(key)
    autopilot = Autopilot("udp", port, key)
    part = settled(make(f"udpout:127.0.0.1:{port}", signing_key=str(tmp_path / "key")))
    part.publish(observation(track()))
    assert autopilot.wait(lambda: autopilot.of("LANDING_TARGET"))[0]["signed"]
    other = make(f"udpout:127.0.0.1:{port}", component=192)
    autopilot.wait(lambda: autopilot.of("BAD_DATA"))
    assert other.status()["autopilot"] is None
    autopilot.close()


def test_detections_for_a_log(make, autopilot, port):
    seen = observation(track(4), track(9, box=(10.4, 20, 30, 700), score=0.5), number=77)
    make(f"udpout:127.0.0.1:{port}", detections="named").publish(seen)
    autopilot.wait(lambda: len(autopilot.of("NAMED_VALUE_INT")) == 2 and len(autopilot.of("NAMED_VALUE_FLOAT")) == 2)
    values = {row["name"]: row["value"] for row in autopilot.rows if row["kind"].startswith("NAMED_VALUE")}
    assert values["det_count"] == 2
    assert values["det_target"] == 4
    assert values["det_score"] == pytest.approx(0.9)
    assert 10 <= values["det_age"] < 2000
    make(f"udpout:127.0.0.1:{port}", detections="tunnel", component=192).publish(seen)
    row = autopilot.wait(lambda: autopilot.of("TUNNEL"))[0]
    assert row["payload_type"] == TUNNEL_TYPE
    told = tunnelled(bytes(row["payload"][: row["payload_length"]]))
    assert (told["frame"], told["count"]) == (77, 2)
    assert told["detections"][1] == {"class": 0, "score": pytest.approx(0.5, abs=0.002), "box": [10, 20, 30, 700]}


def test_publish_does_not_wait_for_a_line_that_takes_nothing(make):
    """A serial line whose other end reads nothing fills up; what does not fit is dropped and counted."""
    near, far = pty.openpty()
    part = make(f"{os.ttyname(far)},921600", rate=100, detections="tunnel", detections_rate=50)
    deadline = time.monotonic() + 15
    while part.status()["not_sent"] == 0 and time.monotonic() < deadline:
        part.publish(observation(track()))
        time.sleep(0.005)
    assert part.status()["not_sent"] > 0
    part.close()
    os.close(near)
    os.close(far)


def test_settings_that_cannot_be_are_refused(make, tmp_path):
    (tmp_path / "key").write_text("abc")
    for settings, message in (
        ({"connection": "tcp:1.2.3.4:5"}, "is no line to an autopilot; write /dev/ttyTHS1,921600"),
        ({"connection": "/dev/ttyS0,12345"}, "no such rate"),
        ({"connection": "udpout:127.0.0.1:99999"}, "is no line"),
        ({"connection": "udpout:127.0.0.1:9", "rate": 0}, "rate=0: is out of range; allowed: 1 to 100"),
        ({"connection": "udpout:127.0.0.1:9", "angles": "up"}, "allowed: body, image"),
        (
            {"connection": "udpout:127.0.0.1:9", "classes": ("Door",)},
            "classes=Door: no such class; allowed: Arch, Window",
        ),
        ({"connection": "udpout:127.0.0.1:9", "signing_key": str(tmp_path / "key")}, "64 hexadecimal digits"),
        (
            {"connection": "udpout:127.0.0.1:9", "sight": {"pitch": 0.0}},
            "the camera does not look down; write angles = image",
        ),
        ({"connection": "udpout:127.0.0.1:9", "sight": {"calibration": None}}, "no angle is known without it"),
    ):
        with pytest.raises(UserError, match=message):
            make(**settings)
