"""The workstation's doctor on this machine, and on stand-ins: files, tools on a path, libraries missing or broken."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from drawn import Skylight

from deploy.life.checks import LEVELS, OK, PROBLEM, WARNING, Check
from pipeline.doctor import Workstation
from pipeline.doctor.hardware import check_cores, check_gpu, check_memory
from pipeline.doctor.libraries import check_libraries, check_mongod, check_opencv, check_python
from pipeline.doctor.places import check_chromium, check_disk, check_folders, check_keys
from pipeline.workspace import Workspace


@dataclass
class Made:
    """A workstation of stand-ins below `root`; its Python is the real one."""

    root: Path

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def tool(self, name: str, output: str, status: int = 0) -> Path:
        return self.write(f"tools/{name}", f"#!/bin/sh\n/bin/cat <<'END'\n{output}\nEND\nexit {status}\n", 0o755)

    def module(self, name: str, text: str) -> None:
        self.write(f"modules/{name}.py", text)

    def package(self, name: str, *requires: str) -> None:
        about = "".join(f"Requires-Dist: {line}\n" for line in requires)
        metadata = f"Metadata-Version: 2.1\nName: {name.split('-')[0]}\nVersion: {name.split('-')[1]}\n{about}"
        self.write(f"modules/{name}.dist-info/METADATA", metadata)

    def workstation(self, **environment: str) -> Workstation:
        places = {"PATH": f"{self.root}/tools:/bin:/usr/bin", "PYTHONPATH": f"{self.root}/modules"}
        here = {name: value for name, value in os.environ.items() if name != "FIFTYONE_DATABASE_URI"}
        return Workstation(Workspace(self.root / "w"), self.root / "files", environment=here | places | environment)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = Made(tmp_path)
    (tmp_path / "w").mkdir()
    return made


def _only(checks: list[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    assert (found.remedy == "") == (found.level == OK), found
    return found


def test_this_machine_is_looked_at_from_all_sides(tmp_path: Path, skylight: Skylight) -> None:
    done = skylight("doctor", "--json", "--root", tmp_path)
    found = [Check(**row) for row in json.loads(done.stdout)]
    assert done.returncode == int(any(check.level == PROBLEM for check in found)), done.stderr
    names = {check.name for check in found}
    assert {"Python", "libraries", "OpenCV", "OpenCV packages", "GPU", "torch", "cores", "free memory"} <= names
    assert {"disk", "folders", "cache", "keys", "mongod", "Chromium", "extra playwright"} <= names
    for check in found:
        assert check.level in LEVELS
        assert (check.remedy == "") == (check.level == OK), check
        assert "could not be looked at" not in check.value
    assert _only(found, "torch").level == OK
    assert not list(tmp_path.iterdir())


def test_a_broken_library_is_a_problem_and_status_1(made: Made, skylight: Skylight) -> None:
    made.module("cv2", "raise ImportError('libGL.so.1: cannot open shared object file')")
    path = f"{made.root}/modules:{os.environ.get('PYTHONPATH', '')}"
    done = skylight("doctor", "--root", made.root / "w", env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("problem  OpenCV ")]
    assert "libGL.so.1" in line
    assert "-> pip uninstall opencv-python" in line
    assert "problem" in done.stdout.splitlines()[-1]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("cv2", "packages", "name", "level", "part"),
    [
        ("4.14.0", ["opencv_python_headless-4.14.0"], "OpenCV", OK, "4.14.0"),
        ("4.14.0", ["opencv_python_headless-4.14.0"], "OpenCV packages", OK, "headless"),
        ("5.0.0", ["opencv_python_headless-5.0.0"], "OpenCV", PROBLEM, "Darknet reader"),
        ("4.14.0", ["opencv_python-4.14.0", "opencv_python_headless-4.14.0"], "OpenCV packages", PROBLEM, "overwrite"),
        ("4.14.0", ["opencv_python-4.14.0"], "OpenCV packages", WARNING, "headless one"),
    ],
)
def test_the_right_opencv_must_be_the_only_one(
    made: Made, cv2: str, packages: list[str], name: str, level: str, part: str
) -> None:
    made.module("cv2", f"import numpy\n__version__ = '{cv2}'\ndef resize(*a): return numpy.zeros((4, 4, 3))\n")
    made.module(
        "sitecustomize",
        f"import sys; sys.path[:] = [p for p in sys.path if {str(made.root)!r} in p or 'site-p' not in p]\n",
    )
    for package in packages:
        made.package(package)
    made.module("numpy", "def zeros(shape, kind=None):\n    class Z: pass\n    z = Z(); z.shape = shape; return z\n")
    found = _only(check_opencv(made.workstation()), name)
    assert (found.level, part in found.value) == (level, True), found


def test_libraries_that_are_missing_or_too_old_are_named(made: Made) -> None:
    made.package("skylight-0.1", "numpy>=99", "surely-nobody-has-this", "pyyaml; python_version < '3'", "rich>=1")
    found = _only(check_libraries(made.workstation()), "libraries")
    assert found.level == PROBLEM
    assert "surely-nobody-has-this is missing" in found.value
    assert "where >=99 is asked" in found.value
    assert "rich" not in found.value
    assert "make setup" in found.remedy


def test_a_python_that_is_too_old_is_a_problem(made: Made) -> None:
    old = made.tool("python3", "3.9.2 True")
    workstation = Workstation(Workspace(made.root), python=str(old))
    assert _only(check_python(workstation), "Python").level == PROBLEM
    assert _only(check_python(Workstation(Workspace(made.root), python="/nowhere/python")), "Python").level == PROBLEM
    assert _only(check_python(Workstation(Workspace(made.root))), "Python").level == OK


TORCH = """
__version__ = "2.9"
class version: cuda = {cuda!r}; hip = None
class cuda:
    is_available = staticmethod(lambda: {available})
    device_count = staticmethod(lambda: 1)
    get_device_name = staticmethod(lambda number: "NVIDIA T4")
class ones:
    def __init__(self, *a, **k): pass
    def sum(self): return self
    def item(self): return 4
"""
SMI = "NVIDIA T4, 570.86.15, 14000 MiB, 15360 MiB"


@pytest.mark.parametrize(
    ("torch", "tool", "levels", "part"),
    [
        (TORCH.format(cuda="12.8", available=True), (SMI, 0), (OK, OK), "CUDA 12.8, on NVIDIA T4"),
        (TORCH.format(cuda="13.2", available=False), (SMI, 0), (OK, PROBLEM), "asks for driver 580"),
        (TORCH.format(cuda="12.8", available=False), (SMI, 0), (OK, PROBLEM), "reaches no GPU"),
        (TORCH.format(cuda=None, available=False), (SMI, 0), (OK, WARNING), "without CUDA beside a GPU"),
        (TORCH.format(cuda="12.8", available=False), None, (OK, OK), "on the processor"),
        ("import os; os.kill(os.getpid(), 11)", (SMI, 0), (OK, PROBLEM), "SIGSEGV"),
        (
            TORCH.format(cuda="12.8", available=False),
            ("Failed to initialize NVML: Driver/library version mismatch", 18),
            (WARNING, OK),
            "on the processor",
        ),
    ],
)
def test_torch_driver_and_gpu_must_go_together(
    made: Made, torch: str, tool: tuple[str, int] | None, levels: tuple[str, str], part: str
) -> None:
    made.module("torch", torch)
    if tool is not None:
        made.tool("nvidia-smi", *tool)
    found = check_gpu(made.workstation(PATH=f"{made.root}/tools"))
    gpu, library = _only(found, "GPU"), _only(found, "torch")
    assert (gpu.level, library.level) == levels, found
    assert part in library.value, library


def test_a_gpu_without_a_driver_is_seen_on_the_bus(made: Made) -> None:
    made.write("files/sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
    made.write("files/sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n")
    made.module("torch", TORCH.format(cuda="12.8", available=False))
    found = _only(check_gpu(made.workstation(PATH=str(made.root))), "GPU")
    assert (found.level, "no driver" in found.value) == (WARNING, True)


def test_memory_and_cores_of_a_container_count(made: Made) -> None:
    made.write("files/proc/meminfo", f"MemTotal: 9\nMemAvailable: {8 << 20} kB\n")
    assert _only(check_memory(made.workstation()), "free memory").level == OK
    made.write("files/sys/fs/cgroup/memory.max", f"{4 << 30}\n")
    made.write("files/sys/fs/cgroup/memory.current", f"{2 << 30}\n")
    found = _only(check_memory(made.workstation()), "free memory")
    assert (found.level, found.value) == (WARNING, "2.0 GiB free in this container")
    made.write("files/proc/meminfo", f"MemAvailable: {1 << 19} kB\n")
    assert _only(check_memory(made.workstation()), "free memory").level == PROBLEM
    made.write("files/sys/fs/cgroup/cpu.max", "50000 100000\n")
    assert "a container allows 0.5" in _only(check_cores(made.workstation()), "cores").value


def test_folders_that_cannot_be_written_are_named(made: Made) -> None:
    workstation = made.workstation(TMPDIR=str(made.root))
    assert _only(check_folders(workstation), "folders").level == OK
    assert [check.name for check in check_disk(workstation)] == ["disk", "disk"]
    (made.root / "w/runs").write_text("a file")
    found = _only(check_folders(workstation), "folders")
    assert (found.level, "runs is no folder" in found.value) == (PROBLEM, True)
    if os.geteuid() != 0:
        (made.root / "w/runs").unlink()
        (made.root / "w").chmod(0o500)
        assert check_folders(workstation)[0].level == PROBLEM


def test_keys_are_counted_and_must_be_private(made: Made, monkeypatch: pytest.MonkeyPatch, skylight: Skylight) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(made.root / "config"))
    assert _only(check_keys(made.workstation()), "keys").level == WARNING
    skylight("keys", "new", "--name", "one")
    assert _only(check_keys(made.workstation()), "keys").level == OK
    private = made.root / "config/skylight/keys/one.key"
    private.chmod(0o644)
    assert "one.key" in _only(check_keys(made.workstation()), "keys").value
    private.chmod(0o600)
    skylight("keys", "new", "--name", "two")
    found = _only(check_keys(made.workstation()), "keys")
    assert (found.level, "several keys" in found.value) == (WARNING, True)


@pytest.mark.parametrize("check", [check_mongod, check_chromium])
def test_programs_that_are_missing_or_broken_are_warnings(
    made: Made, check: Callable[[Workstation], list[Check]]
) -> None:
    made.write("modules/fiftyone/__init__.py", "raise SystemError('must not be imported')")
    workstation = made.workstation(PATH=f"{made.root}/tools")
    (missing,) = check(workstation)
    assert missing.level == WARNING
    for name in ("mongod", "chromium"):
        made.write(f"tools/{name}", "#!/bin/sh\necho 'error while loading shared libraries' >&2\nexit 127\n", 0o755)
    (broken,) = check(workstation)
    assert (broken.level, "error while loading" in broken.value) == (WARNING, True)
    for name in ("mongod", "chromium"):
        made.write(f"tools/{name}", "#!/bin/sh\necho db version v7.0.1 Chromium 140\n", 0o755)
    (there,) = check(workstation)
    assert there.level == OK
    assert check_mongod(made.workstation(FIFTYONE_DATABASE_URI="mongodb://there"))[0].level == OK
