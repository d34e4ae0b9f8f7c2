"""Heat and power on a stand-in for a Jetson's sysfs: limits, sensors that fail, what is told, the part itself."""

import os
import shutil
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from autopilot_process import until
from sysfs_stand_in import SysfsStandIn

from deploy.errors import UserError
from deploy.events import Events
from deploy.health.ladder import Orders
from deploy.health.limits import Limits, with_tegrastats
from deploy.health.part import Health
from deploy.health.settings import HealthSettings
from deploy.health.tegrastats import TegrastatsReader, parse_tegrastats
from deploy.settings import read_settings
from jetson.board import board_names, read_board

BOARD = read_board("jetson-tx2").for_drone()
SIZES = [(416, 416), (288, 288)]
SETTINGS = HealthSettings(tegrastats="none", low_disk=0, patience=0.2)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Flight:
    """A part on a stand-in, looked at by hand."""

    def __init__(self, root: Path, settings: HealthSettings = SETTINGS, board: dict | None = None) -> None:
        self.board = SysfsStandIn(root)
        self.clock, self.events = Clock(), Events(None)
        about = BOARD if board is None else board
        self.health = Health(settings, about, SIZES, self.events, root, self.clock, is_watching=False)

    def look(self, times: int = 1, seconds: float = 1.0) -> None:
        for _ in range(times):
            self.clock.now += seconds
            self.health.look()

    def said(self, kind: str) -> list[str]:
        return [event.text for event in self.events.newest() if event.kind == kind]


@pytest.fixture
def flight(tmp_path: Path) -> Flight:
    return Flight(tmp_path)


def test_look_that_breaks_is_told_and_the_next_one_comes(tmp_path, monkeypatch):
    events = Events(None)
    SysfsStandIn(tmp_path)
    settings = SETTINGS._replace(interval=0.1)
    health = Health(settings, BOARD, SIZES, events, tmp_path)
    until(lambda: health.status().get("reason"))
    read, tries = health._sensors.read, []

    def breaks() -> object:
        tries.append(1)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(health._sensors, "read", breaks)
    until(lambda: len(tries) > 3)
    monkeypatch.setattr(health._sensors, "read", read)
    (tmp_path / "sys/class/thermal/thermal_zone0/temp").write_text("50000")
    until(lambda: 50.0 in health.status()["temperatures"].values())
    health.close()
    told = [(event.level, event.text) for event in events.newest() if event.kind == "heat.failed"]
    assert told == [
        ("error", 'a look at the sensors failed: RuntimeError("can\'t start new thread")'),
        ("info", "the sensors are looked at again"),
    ]


def test_status_says_from_where_each_zone_is_hot(flight):
    flight.look()
    assert flight.health.status()["limits"]["GPU-therm"] == 85.0


def test_everything_is_read(flight):
    flight.look()
    status = flight.health.status()
    assert status["temperatures"] == dict.fromkeys(list(status["temperatures"]), 45.0)
    assert "PMIC-Die" not in status["temperatures"]
    assert status["cpu_mhz"] == {"cpu0": (345.6, 2035.2)}
    assert status["gpu_mhz"] == (1300.5, 1300.5)
    assert status["rails"] == {"VDD_IN": 4276.0}
    assert status["power_mode"] == "MAXP_CORE_ARM"
    assert (status["memory"], status["throttled"], status["problems"]) == (3000.0, [], {})
    assert (status["level"], status["rung"], flight.health.orders) == (0, "normal", Orders())


def test_rails_of_a_newer_kernel_are_volts_times_amperes(flight):
    """Labels and values as on an Orin; the third channel is not connected (Linux, hwmon/ina3221.rst)."""
    folder = "sys/bus/i2c/devices/1-0040/hwmon/hwmon4"
    for number, (name, volts, amperes) in enumerate([("VDD_CV", 4968, 1856), ("VDD_SOC", 4976, 304), ("NC", 0, 0)], 1):
        flight.board.write(f"{folder}/in{number}_label", name)
        flight.board.write(f"{folder}/in{number}_input", str(volts))
        flight.board.write(f"{folder}/curr{number}_input", str(amperes))
    flight.board.write("sys/class/hwmon/hwmon3/oc3_event_cnt", "37")
    flight.look()
    assert flight.health.status()["rails"] == {"VDD_IN": 4276.0, "VDD_CV": 9220.6, "VDD_SOC": 1512.7}
    assert flight.health.status()["overcurrent"] == {"oc3": 37}


def test_a_hot_board_climbs_every_rung_and_comes_back(flight):
    flight.look()
    flight.board.heat("BCPU-therm", 90)  # shutdown at 101, 15 before it is hot
    flight.look(60)
    assert flight.health.orders == Orders(10.0, (288, 288), False, True)
    flight.board.heat("BCPU-therm", 60)
    flight.look(60 * 4 + 10)
    assert flight.health.orders == Orders()
    names = ["normal", "slow", "small 288x288", "quiet", "degraded"]
    steps = [f"{a} -> {b}" for a, b in pairwise(names)]
    back = [f"{b} -> {a}" for a, b in pairwise(names)][::-1]
    assert [text.split(":")[0] for text in flight.said("heat.level")] == steps + back
    assert flight.said("heat.level")[0].endswith("BCPU-therm has 90.0 C, hot from 86.0")


def test_between_hot_and_cool_nothing_moves(flight):
    flight.board.heat("GPU-therm", 87)
    flight.look()
    assert flight.health.level == 1
    flight.board.heat("GPU-therm", 79)  # cool below 85 - 8
    flight.look(300)
    assert flight.health.level == 1


def test_where_the_kernel_slows_clocks_counts_before_where_it_shuts_down(flight):
    flight.board.trip("GPU-therm", 0, "critical", 100)
    flight.board.trip("GPU-therm", 1, "passive", 80)
    flight.board.trip("GPU-therm", 2, "passive", 0)  # switched off
    flight.look()
    flight.board.heat("GPU-therm", 76)
    flight.look()
    assert flight.said("heat.level")[0].endswith("GPU-therm has 76.0 C, hot from 75.0")


def test_a_board_that_holds_its_clocks_back_is_hot(flight):
    flight.board.throttle(2)
    flight.look()
    assert flight.health.level == 1
    assert flight.said("heat.level")[0].endswith("the board holds back gpu-balanced")


def test_an_unknown_machine_is_watched_too(tmp_path):
    flight = Flight(tmp_path, board={"name": "workstation", "thermal": {}})
    flight.board.heat("PMIC-Die", 45)
    flight.board.heat("Tdiode_tegra", 86)
    flight.look()
    assert flight.said("heat.level")[0].endswith("Tdiode_tegra has 86.0 C, hot from 85.0")


def test_a_zone_that_the_board_does_not_name_is_not_watched(tmp_path):
    stand_in = SysfsStandIn(tmp_path, ("GPU-therm", "iwlwifi_1"))
    stand_in.heat("iwlwifi_1", 120)
    health = Health(SETTINGS, BOARD, SIZES, Events(None), tmp_path, is_watching=False)
    health.look()
    assert (health.level, health.status()["temperatures"]["iwlwifi_1"]) == (0, 120.0)


def _hang(file: Path) -> None:
    """A pipe that nobody writes to: who opens it waits for ever."""
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (lambda file: file.write_text("banana\x00\n"), "GPU-therm says 'banana\\x00'"),
        (lambda file: file.write_text("9" * 400), "GPU-therm says '9999999999999999999999999999999999999999'"),
        (lambda file: file.write_text("-256000\n"), "GPU-therm says -256 C"),
        (lambda file: file.write_text("\n"), "GPU-therm is empty"),
        (lambda file: file.unlink(), "GPU-therm No such file or directory"),
        (lambda file: (file.unlink(), file.mkdir()), "GPU-therm Is a directory"),
        (lambda file: (file.unlink(), file.symlink_to("/proc/self/mem")), "GPU-therm Input/output error"),
        (_hang, "GPU-therm hangs"),
    ],
    ids=["garbage", "too long", "asleep", "empty", "vanished", "no file", "bus error", "hangs"],
)
def test_a_sensor_that_fails_is_told_and_the_rest_goes_on(flight, fault, told):
    flight.look()
    fault(flight.board.file("GPU-therm"))
    flight.board.heat("BCPU-therm", 90)
    flight.look(6)
    assert flight.said("heat.sensor") == [told]
    assert flight.health.level == 1
    assert flight.health.status()["problems"].keys() == {"GPU-therm"}


def test_a_sensor_that_hangs_is_asked_again_when_it_has_come_back(flight):
    file = flight.board.file("GPU-therm")
    file.unlink()
    os.mkfifo(file)
    flight.look(4)
    with file.open("w") as writer:  # the one thread that hangs gets its answer
        writer.write("45000\n")
    flight.board.heat("GPU-therm", 45)
    deadline = time.monotonic() + 20
    while "GPU-therm answers again" not in flight.said("heat.sensor"):
        assert time.monotonic() < deadline
        flight.look()
    assert flight.said("heat.sensor") == ["GPU-therm hangs", "GPU-therm answers again"]


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("sys/class/thermal/thermal_zone2/temp", "GPU-therm", "45000"),
        ("sys/bus/i2c/devices/0-0041/iio:device1/in_power0_input", "VDD_IN", "4276"),
        ("sys/class/hwmon/hwmon3/oc3_event_cnt", "oc3", "0"),
    ],
)
def test_sensor_that_reads_again_is_told_and_so_is_its_next_failure(flight, file, name, value):
    flight.board.write("sys/class/hwmon/hwmon3/oc3_event_cnt", "0")
    for text in ("?", value, "?", value):
        flight.board.write(file, text)
        flight.look(3)
    assert flight.said("heat.sensor") == [f"{name} says '?'", f"{name} answers again"] * 2
    assert flight.health.status()["problems"] == {}


def test_trip_point_that_hung_at_first_is_asked_again(flight):
    flight.board.trip("GPU-therm", 1, "passive", 80)
    point = flight.board.file("GPU-therm").with_name("trip_point_1_temp")
    _hang(point)
    flight.look()
    assert flight.health.status()["limits"]["GPU-therm"] == 85.0
    with point.open("w") as writer:
        writer.write("80000\n")
    flight.board.trip("GPU-therm", 1, "passive", 80)
    deadline = time.monotonic() + 20
    while flight.health.status()["limits"]["GPU-therm"] != 75.0:
        assert time.monotonic() < deadline
        flight.look()


def test_without_any_temperature_the_level_holds(flight):
    flight.board.heat("GPU-therm", 95)
    flight.look()
    assert flight.health.level == 1
    for zone in ("BCPU-therm", "MCPU-therm", "GPU-therm", "PLL-therm", "Tboard_tegra", "Tdiode_tegra"):
        flight.board.file(zone).write_text("?\n")
    flight.look(300)
    assert flight.health.level == 1
    assert flight.health.status()["reason"] == "no temperature can be read"


def test_zones_that_vanish_altogether_are_told(flight):
    flight.look()
    shutil.rmtree(flight.board.root / "sys/class/thermal")
    flight.look(3)
    assert len(flight.said("heat.sensor")) == 6
    assert "GPU-therm is gone" in flight.said("heat.sensor")


def test_scarce_memory_is_told_once(flight):
    flight.board.memory(100)
    flight.look(5)
    flight.board.memory(1000)
    flight.look(2)
    assert flight.said("memory.low") == ["100 MiB left of memory", "1000 MiB left of memory again"]


def test_tegrastats_stands_in_for_files_that_fail(tmp_path):
    line = "RAM 2235/7854MB (lfb 208x4MB) CPU [9%@2035,off] GR3D_FREQ 7%@140 BCPU@39.5C GPU@91.5C PMIC@100C"
    program = tmp_path / "tegrastats"
    program.write_text(f"#!/bin/sh\nwhile echo '{line}'; do sleep 0.1; done\n")
    program.chmod(0o755)
    stand_in = SysfsStandIn(tmp_path)
    stand_in.file("GPU-therm").unlink()
    events = Events(None)
    health = Health(SETTINGS._replace(tegrastats=str(program), interval=0.1), BOARD, SIZES, events, tmp_path)
    try:
        deadline = time.monotonic() + 20
        while not health.level:
            assert time.monotonic() < deadline, health.status()
            time.sleep(0.02)
        status = health.status()
    finally:
        health.close()
    assert status["temperatures"]["GPU-therm"] == 91.5
    assert status["tegrastats"]["gpu"] == 7
    assert status["tegrastats"]["cpu"] == [9, None]
    assert "hot from 85.0" in next(event.text for event in events.newest() if event.kind == "heat.level")


def test_nonsense_of_tegrastats_stands_in_for_nothing(flight):
    """A sleeping part says -256 in both places; without any temperature the level holds, and does not go down."""
    line = "RAM 2235/7854MB (lfb 208x4MB) CPU [9%@2035,off] GPU@-256C BCPU@-256C"
    found = parse_tegrastats(line)
    assert found is not None
    flight.board.heat("GPU-therm", -256)
    readings = with_tegrastats(flight.health._sensors.read(), found.temperatures)
    assert "GPU-therm" not in readings.temperatures
    assert readings.problems == {"GPU-therm": "says -256 C"}


def test_tegrastats_that_ends_is_told_and_when_it_speaks_again(tmp_path):
    flight = Flight(tmp_path)
    program, line = tmp_path / "tegrastats", "RAM 2235/7854MB (lfb 208x4MB) CPU [9%@2035,off] GPU@41.5C"
    program.write_text(f"#!/bin/sh\necho '{line}'; exit 3\n")
    program.chmod(0o755)
    reader = TegrastatsReader(str(program), 0.1, flight.clock)
    until(lambda: reader.problem == "ended with status 3")
    flight.health._tegrastats = reader
    flight.look(3)
    assert flight.said("heat.sensor") == []  # what it said is of now still
    flight.look(5)
    assert reader.newest is not None
    reader.newest = (flight.clock(), reader.newest[1])
    flight.look()
    flight.health.close()
    assert flight.said("heat.sensor") == ["tegrastats ended with status 3", "tegrastats answers again"]


def test_a_machine_without_sensors_and_tegrastats_flies(tmp_path):
    health = Health(SETTINGS._replace(tegrastats="no-such-tegrastats"), {"name": "x"}, SIZES, Events(None), tmp_path)
    deadline = time.monotonic() + 20
    while "reason" not in health.status():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert health.orders == Orders()
    health.close()


def test_a_thread_that_is_stuck_is_told(tmp_path):
    flight = Flight(tmp_path)
    flight.health.close()
    flight.health._thread = threading.Thread(target=time.sleep)  # never started: it does not get on
    flight.health.idle(0)
    assert flight.said("heat.stuck") == []
    flight.clock.now += 30
    flight.health.idle(0)
    flight.health.idle(0)
    assert flight.said("heat.stuck") == ["no sensor answers; the orders of before hold"]
    flight.look()
    flight.health.idle(0)
    assert flight.said("heat.stuck")[1:] == ["sensors answer again"]


ONE, TWO = [(416, 416)], [(416, 416), (288, 288)]


@pytest.mark.parametrize(
    ("names", "sizes", "rung"),
    [
        ("normal", ONE, "normal"),
        ("slow", ONE, "slow"),
        ("small 288x288", ONE, "quiet"),
        ("small 288x288", [(416, 416), (352, 352), (256, 256)], "small 256x256"),
        ("quiet", ONE, "quiet"),
        ("degraded", ONE, "degraded"),
    ],
)
def test_another_bundle_keeps_the_rung_and_asks_for_no_less(flight, names, sizes, rung):
    flight.board.heat("BCPU-therm", 90)
    while flight.health.status()["rung"] != names:
        flight.look()
    flight.board.heat("BCPU-therm", 82)  # neither hot nor cool: it holds
    flight.health.change(None, sizes)
    flight.look(2)
    assert flight.health.status()["rung"] == rung
    told = flight.said("heat.level")[-1:]
    assert told == [f"{names} -> {rung}: another bundle flies"] or names == rung


def test_ladder_goes_on_with_the_rungs_of_the_bundle_that_flies(flight):
    flight.health.change(None, ONE)
    flight.board.heat("BCPU-therm", 90)
    flight.look(60)
    assert flight.health.orders == Orders(10.0, None, False, True)
    flight.health.change(None, TWO)
    flight.look()
    assert flight.health.orders == Orders(10.0, (288, 288), False, True)
    flight.board.heat("BCPU-therm", 60)
    flight.look(4 * 60 + 10)
    assert flight.health.orders == Orders()
    steps = [text.split(":")[0] for text in flight.said("heat.level")]
    assert steps[:3] == ["normal -> slow", "slow -> quiet", "quiet -> degraded"]
    assert steps[3:] == [
        "degraded -> quiet", "quiet -> small 288x288", "small 288x288 -> slow", "slow -> normal"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"), [("margin", "-1"), ("better_after", "5"), ("interval", "0"), ("limit", "500")]
)
def test_settings_out_of_range_are_refused(tmp_path, key, value):
    (tmp_path / "detect.ini").write_text(f"[health]\n{key} = {value}\n")
    with pytest.raises(UserError, match=rf"\[health\] {key}={float(value)}: is out of range; "):
        read_settings(tmp_path / "detect.ini", {"health": HealthSettings})


@pytest.mark.parametrize("name", board_names())
def test_every_board_gives_limits_for_its_zones(name):
    thermal = read_board(name).for_drone()["thermal"]
    limits = Limits(thermal, HealthSettings())
    for zone in thermal["zones"]:
        assert 50 <= limits.hot_at(zone["name"], None) <= 101
