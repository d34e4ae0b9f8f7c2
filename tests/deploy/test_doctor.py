"""The doctor on stand-ins for a drone: a tree of files, tools on a path, libraries that are missing, old or deadly."""

import argparse
import dataclasses
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from signed_bundle import edit, make_key, write_signed

from deploy.engine_cache import EngineKey, keep_engine
from deploy.engines import ENGINES, engine_folder
from deploy.life import doctor
from deploy.life.check_flight import check_bundle, check_engine, check_keys, check_service, check_settings
from deploy.life.check_machine import check_cameras, check_disk, check_memory, check_power, check_serial, check_time
from deploy.life.check_software import check_libraries, check_network, check_numpy, check_opencv, check_python
from deploy.life.checks import Check, Machine
from deploy.life.install import install
from deploy.life.store import CURRENT, Notes, linked, write_notes
from deploy.signature import trusted_keys
from jetson.board import read_board


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for the TX2, and its key."""
    root = tmp_path_factory.mktemp("made")
    key = make_key(root / "keys", "maker")
    bundle = write_signed(root / "colours-1", key).root
    edit(bundle, key, board=read_board("jetson-tx2").for_drone())
    return root


@dataclasses.dataclass
class Drone:
    """A tree, and what is on the path of its programs."""

    root: Path
    made: Path

    def write(self, absolute: str, text: str, mode: int = 0o644) -> Path:
        path = self.root / absolute.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def tool(self, name: str, output: str, status: int = 0) -> None:
        self.write(f"/tools/{name}", f"#!/bin/sh\ncat <<'END'\n{output}\nEND\nexit {status}\n", 0o755)

    def module(self, name: str, text: str) -> None:
        self.write(f"/modules/{name}.py", text)

    def install(self) -> str:
        keys = trusted_keys(self.made / "keys")
        store = self.root / "var/lib/skylight/bundles"
        return install(self.made / "colours-1", store, keys, trial=lambda path: None).folder

    def machine(self) -> Machine:
        environment = dict(os.environ, PATH=f"{self.root}/tools:/usr/bin:/bin", PYTHONPATH=f"{self.root}/modules")
        return doctor.look_at(self.root, environment=environment)


@pytest.fixture
def drone(tmp_path: Path, made: Path) -> Drone:
    """A TX2 on which all is well; a test breaks one thing."""
    drone = Drone(tmp_path, made)
    group = tmp_path.stat().st_gid
    drone.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nskylight:x:990:990::/nonexistent:/bin/false\n")
    drone.write("/etc/group", f"root:x:0:\nvideo:x:{group}:skylight\ndialout:x:98765:skylight\nskylight:x:990:\n")
    drone.write("/etc/nv_tegra_release", "# R32 (release), REVISION: 7.6, GCID: 1, BOARD: t186ref\n")
    drone.write("/proc/meminfo", "MemTotal: 8000000 kB\nMemFree: 100 kB\nMemAvailable:    4000000 kB\n")
    drone.write("/dev/video0", "", 0o660)
    drone.write("/dev/ttyTHS2", "", 0o660)
    drone.write("/tmp/argus_socket", "")
    drone.write("/usr/local/cuda/version.txt", "CUDA Version 10.2.300\n")
    drone.write("/var/lib/nvpmodel/status", "pmode:0000\n")
    for name in ("min_freq", "max_freq"):
        drone.write(f"/sys/class/devfreq/17000000.gp10b/{name}", "1300500000\n")
        drone.write(f"/sys/devices/system/cpu/cpufreq/policy0/scaling_{name}", "2035200\n")
    drone.write("/etc/skylight/detect.ini", "[life]\nfailed_starts = 4\n# /dev/ttyUSB7 is not meant\n")
    shutil.copytree(made / "keys", tmp_path / "etc/skylight/trusted_keys")
    drone.tool("timedatectl", "System clock synchronized: yes")
    drone.tool("systemctl", _service())
    drone.module("tensorrt", "__version__ = '8.2.1.9'")
    drone.install()
    return drone


def _service(**changes: str) -> str:
    about = {
        "LoadState": "loaded", "ActiveState": "active", "SubState": "running", "UnitFileState": "enabled",
        "NRestarts": "0", "Result": "success", "Type": "notify", "WatchdogUSec": "10s", "User": "skylight",
    } | changes  # fmt: skip
    return "\n".join(f"{name}={value}" for name, value in about.items())


def _one(checks: list[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


def test_all_is_well_on_a_drone_that_flies(drone):
    machine = drone.machine()
    assert machine.user == "skylight"
    checks = check_cameras(machine) + check_serial(machine) + check_power(machine) + check_memory(machine)
    checks += check_time(machine) + check_keys(machine) + check_settings(machine) + check_bundle(machine)
    checks += check_service(machine) + check_libraries(machine)
    assert [check for check in checks if check.level != "ok"] == []
    assert "signed by maker" in _one(checks, "bundle").value
    assert _one(checks, "power mode").value == "0 (MAXN)"


def test_command_prints_a_line_each_and_knows_a_problem(drone, capsys):
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    drone.write("/etc/skylight/detect.ini", "[life]\nfailed_starts = often\n")
    assert doctor.run(parser.parse_args(["--root", str(drone.root)])) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("ok ", "warning ", "problem ")) for line in lines[:-1])
    (line,) = [line for line in lines if " settings " in line]
    assert line.endswith("failed_starts=often: cannot be taken -> write a whole number")
    assert doctor.run(parser.parse_args(["--root", str(drone.root), "--json"])) == 1
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == len(lines) - 1
    assert all(row["remedy"] for row in rows if row["level"] != "ok")


def test_empty_tree_gives_remedies_and_no_traceback(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    assert doctor.run(parser.parse_args(["--root", str(tmp_path)])) == 1
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    assert "could not be looked at" not in printed.out
    assert "no bundle is installed -> skylight-detect install BUNDLE" in printed.out
    assert list(tmp_path.iterdir()) == []  # it changes nothing


def test_tree_of_nonsense_gives_no_traceback(drone):
    """Folders where files should be, bytes where text should be."""
    for path in sorted(drone.root.rglob("*")):
        is_tool = {"tools", "modules"} & set(path.relative_to(drone.root).parts)
        if path.is_file() and not path.is_symlink() and not is_tool:
            path.write_bytes(b"\xff\x00:=[{\n" * 3)
    found = doctor.diagnose(drone.machine())
    assert [check for check in found if "could not be looked at" in check.value] == []
    assert _one(found, "bundle").level == "problem"


def test_check_that_breaks_is_told_and_the_others_go_on(drone, monkeypatch):
    def check_moon(machine: Machine) -> list[Check]:
        raise ZeroDivisionError("moon")

    monkeypatch.setattr(doctor, "CHECKS", (check_moon, check_keys))
    first, second = doctor.diagnose(drone.machine())
    assert (first.name, first.level) == ("moon", "warning")
    assert "ZeroDivisionError: moon" in first.value
    assert second.level == "ok"


def test_numpy_that_dies_is_reported_and_not_suffered(drone):
    drone.module("numpy", "import os; os.kill(os.getpid(), 4)")
    (check,) = check_numpy(drone.machine())
    assert (check.level, check.value) == ("problem", "dies on an illegal instruction")
    assert "OPENBLAS_CORETYPE=ARMV8" in check.remedy
    assert _one(check_opencv(drone.machine()), "OpenCV").level == "problem"


def test_numpy_that_would_die_elsewhere_is_a_warning(drone):
    drone.module("numpy", "__version__ = '1.19.5'\nclass ones:\n    def __init__(s, *a): pass\n    "
                          "def __matmul__(s, o): return s\n    def sum(s): return 262144\n")  # fmt: skip
    assert check_numpy(drone.machine())[0].level == "ok"
    (check,) = check_numpy(drone.machine()._replace(architecture="aarch64"))
    assert check.level == "warning"


def test_python_of_another_version_than_the_board(drone):
    (check,) = check_python(drone.machine())
    assert check.level == "warning"
    assert "belong to 3.6.9" in check.remedy
    (check,) = check_python(drone.machine()._replace(python="/nowhere/python3"))
    assert check.level == "problem"


@pytest.mark.parametrize(("line", "level"), [("YES (1.14.5)", "ok"), ("NO", "problem")])
def test_opencv_without_gstreamer_is_found(drone, line, level):
    text = f"__version__ = '4.1.1'\ndef getBuildInformation(): return 'Video I/O:\\n    GStreamer:      {line}\\n'\n"
    drone.module("cv2", text)
    assert _one(check_opencv(drone.machine()), "OpenCV with GStreamer").level == level


def test_two_packages_of_opencv_are_found(drone):
    for name in ("opencv_python", "opencv_python_headless"):
        drone.write(f"/modules/{name}-4.1.1.dist-info/METADATA", "")
    check = _one(check_opencv(drone.machine()), "OpenCV packages")
    assert check.level == "problem"
    assert "pip uninstall opencv_python opencv_python_headless" in check.remedy


def test_libraries_are_compared_with_the_board(drone):
    checks = check_network(drone.machine())
    assert _one(checks, "TensorRT") == Check("TensorRT", "ok", "8.2.1.9")
    assert _one(checks, "CUDA") == Check("CUDA", "ok", "10.2.300")
    drone.module("tensorrt", "__version__ = '8.5.2'")
    drone.write("/usr/local/cuda/version.json", '{"cuda": {"name": "CUDA SDK", "version": "11.4.19"}}')
    drone.module("onnxruntime", "raise ImportError('no wheel')")
    checks = check_network(drone.machine())
    assert [_one(checks, name).level for name in ("TensorRT", "CUDA", "ONNX Runtime")] == ["warning"] * 3
    drone.module("tensorrt", "raise ImportError('no')")
    assert [check.level for check in check_network(drone.machine())] == ["problem", "problem", "warning"]


def test_missing_libraries_are_named(drone):
    drone.module("nacl", "raise ImportError('gone')")
    drone.module("pymavlink", "raise ImportError('gone')")
    checks = check_libraries(drone.machine())
    assert [check.level for check in checks] == ["problem", "warning"]
    assert all("pip install" in check.remedy for check in checks)


def test_device_that_is_open_to_nobody_needs_a_rule(drone):
    (drone.root / "dev/ttyTHS2").chmod(stat.S_IRUSR | stat.S_IWUSR)
    (check,) = check_serial(drone.machine())
    assert (check.level, check.value) == ("problem", "/dev/ttyTHS2: skylight may not open it")
    assert 'KERNEL=="ttyTHS2", GROUP="dialout", MODE="0660"' in check.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another group")
def test_user_who_is_not_in_the_group_is_told_its_name(drone):
    device = drone.root / "dev/ttyTHS2"
    os.chown(device, -1, 4242)
    drone.write("/etc/group", "root:x:0:\ndialout:x:4242:somebody\nskylight:x:990:\n")
    (check,) = check_serial(drone.machine())
    assert (check.level, check.remedy) == ("problem", "sudo usermod -aG dialout skylight")
    drone.write("/etc/group", "root:x:0:\ndialout:x:4242:somebody,skylight\nskylight:x:990:\n")
    assert check_serial(drone.machine())[0].level == "ok"


def test_no_camera_and_no_daemon(drone):
    (drone.root / "dev/video0").unlink()
    (drone.root / "tmp/argus_socket").unlink()
    assert [check.level for check in check_cameras(drone.machine())] == ["problem", "warning"]


def test_serial_port_of_the_settings_must_be_there(drone):
    drone.write("/etc/skylight/detect.ini", "[life]\n[autopilot]\nport = /dev/ttyACM3:57600\n")
    (check,) = check_serial(drone.machine())
    assert (check.level, check.value) == ("problem", "/dev/ttyACM3 is not there")


def test_stream_needs_no_camera(drone):
    (drone.root / "dev/video0").unlink()
    drone.write("/etc/skylight/detect.ini", "[source]\nspec = rtsp://10.0.0.2/main\n")
    assert _one(check_cameras(drone.machine()), "cameras").level == "ok"


def test_slow_power_mode_and_moving_clocks_are_warnings(drone):
    drone.write("/var/lib/nvpmodel/status", "pmode:0003\n")
    drone.write("/sys/class/devfreq/17000000.gp10b/min_freq", "114750000\n")
    mode, clocks = check_power(drone.machine())
    assert (mode.level, mode.value) == ("warning", "3 (MAXP_CORE_ARM), not the fastest")
    assert "sudo nvpmodel -m 0 (MAXN)" in mode.remedy
    assert (clocks.level, clocks.value) == ("warning", "go up and down: 17000000.gp10b")


@pytest.mark.parametrize(("kib", "level"), [(100_000, "problem"), (700_000, "warning"), (2_000_000, "ok")])
def test_memory(drone, kib, level):
    drone.write("/proc/meminfo", f"MemAvailable: {kib} kB\n")
    assert check_memory(drone.machine())[0].level == level


@pytest.mark.parametrize(("mib", "level"), [(100, "problem"), (1000, "warning"), (9000, "ok")])
def test_disk(drone, monkeypatch, mib, level):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: argparse.Namespace(free=mib * 2**20))
    assert check_disk(drone.machine())[0].level == level


def test_clock_that_nobody_set(drone):
    assert check_time(drone.machine()._replace(now=86400.0 * 5))[0].level == "problem"
    drone.tool("timedatectl", "System clock synchronized: no")
    drone.tool("chronyc", "", 1)
    (check,) = check_time(drone.machine())
    assert (check.level, check.value.endswith("not synchronised")) == ("warning", True)
    drone.tool("chronyc", "Leap status     : Normal")
    assert check_time(drone.machine())[0].level == "ok"
    drone.tool("chronyc", "Leap status     : Not synchronised")
    assert check_time(drone.machine())[0].level == "warning"


def test_keys_that_are_missing_or_damaged(drone):
    shutil.rmtree(drone.root / "etc/skylight/trusted_keys")
    assert check_keys(drone.machine())[0].level == "warning"
    assert _one(check_bundle(drone.machine()), "bundle").level == "warning"
    drone.write("/etc/skylight/trusted_keys/a.pub", "no key\n")
    (check,) = check_keys(drone.machine())
    assert (check.level, check.remedy) == ("problem", "copy the .pub file of skylight keys new again")


def test_bundle_that_is_damaged_or_does_not_start(drone):
    machine = drone.machine()
    folder = linked(machine.store, CURRENT) or ""
    write_notes(machine.store, Notes((folder,), {folder: "3 starts in a row did not last"}, folder, 2))
    checks = check_bundle(drone.machine())
    assert [check.level for check in checks] == ["ok", "warning", "warning"]
    assert "is marked: 3 starts" in checks[2].value
    (machine.store / folder / "model.onnx").write_bytes(b"")
    (check,) = check_bundle(drone.machine())
    assert check.level == "problem"
    assert "has 0 bytes" in check.value


def test_engine_is_fresh_only_for_this_bundle_and_these_libraries(drone):
    machine = drone.machine()
    assert machine.bundle is not None
    (check,) = check_engine(machine)
    assert (check.level, check.value[:10]) == ("warning", "none built")
    engine = engine_folder(machine.path(str(ENGINES)), machine.bundle) / "model-fp16.engine"
    engine.parent.mkdir(parents=True)
    sha256 = machine.bundle.files["model.onnx"].sha256
    key = EngineKey(sha256, "tensorrt", "8.2.1.9", 1, "NVIDIA Tegra X2", "6.2", "32.7.6", "fp16", {})
    keep_engine(engine, b"plan", key, {})
    assert check_engine(machine) == [Check("engine", "ok", "model-fp16.engine is fresh")]
    for change in ({"onnx_sha256": "0" * 64}, {"version": "8.0"}, {"l4t": "32.6.1"}, {"builder": 0}):
        changed = key._replace(**change)
        keep_engine(engine, b"plan", changed, {})
        (check,) = check_engine(machine)
        assert check.level == "warning", changed
    keep_engine(engine, b"plan", key, {})
    engine.write_bytes(b"pla")
    assert "cut off or changed" in check_engine(machine)[0].value


def test_engine_is_looked_for_where_the_settings_say(drone):
    machine = drone.machine()
    assert machine.bundle is not None
    sha256 = machine.bundle.files["model.onnx"].sha256
    key = EngineKey(sha256, "tensorrt", "8.2.1.9", 1, "NVIDIA Tegra X2", "6.2", "32.7.6", "fp16", {})
    engine = engine_folder(machine.path("/data/engines"), machine.bundle) / "model-fp16.engine"
    engine.parent.mkdir(parents=True)
    keep_engine(engine, b"plan", key, {})
    assert "none built in" in check_engine(machine)[0].value
    drone.write("/etc/skylight/detect.ini", "[network]\nengines = /data/engines\n")
    assert check_engine(machine) == [Check("engine", "ok", "model-fp16.engine is fresh")]
    drone.write("/etc/skylight/detect.ini", "[network]\nbackend = onnxruntime\n")
    assert check_engine(machine) == [Check("engine", "ok", "none needed: the settings say backend = onnxruntime")]
    drone.write("/etc/skylight/detect.ini", "[network]\nengine = /data/engines\n")
    (check,) = check_engine(machine)
    assert (check.level, check.remedy) == ("warning", "mend what is above first")
    (machine.root / "etc/skylight/detect.ini").unlink()
    assert "none built in" in check_engine(machine)[0].value


@pytest.mark.parametrize(
    ("changes", "name", "level"),
    [
        ({"LoadState": "not-found"}, "service", "warning"),
        ({"ActiveState": "failed", "Result": "watchdog"}, "service", "problem"),
        ({"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code"}, "service", "problem"),
        ({"ActiveState": "activating", "SubState": "start", "NRestarts": "12"}, "service", "problem"),
        ({"UnitFileState": "disabled"}, "service", "warning"),
        ({"ActiveState": "inactive"}, "service", "warning"),
        ({"WatchdogUSec": "0"}, "watchdog", "warning"),
        ({"WatchdogUSec": "infinity"}, "watchdog", "warning"),
        ({"Type": "simple"}, "watchdog", "warning"),
        ({"User": ""}, "service user", "warning"),
        ({"User": "nobody-here"}, "service user", "problem"),
    ],
)
def test_service_that_is_not_as_it_should_be(drone, changes, name, level):
    drone.tool("systemctl", _service(**changes))
    assert _one(check_service(drone.machine()), name).level == level
    drone.tool("systemctl", "", 1)
    assert check_service(drone.machine())[0].value.startswith("systemd does not answer")
