"""The doctor's look at what is installed: Python, numpy, OpenCV, what runs the network, keys, the autopilot's library.

Each library is imported in a child: one that dies takes the doctor with it otherwise.
"""

import re
from typing import List, Tuple

from deploy.life.checks import OK, PROBLEM, WARNING, Check, Machine, run_python
from deploy.opencv_build import gstreamer_in

_OPENCV_PACKAGES = (
    "opencv_python",
    "opencv_python_headless",
    "opencv_contrib_python",
    "opencv_contrib_python_headless",
)

# numpy issue 18131: the OpenBLAS of 1.19.5 takes some ARM cores for others, and importing it is an illegal instruction.
_NUMPY_REMEDY = "pip install numpy==1.19.4, or set OPENBLAS_CORETYPE=ARMV8 for shell and service"

_OPENCV_CODE = """
import sys, cv2
print(cv2.__version__)
print(cv2.__file__)
print(sys.path)
print(cv2.getBuildInformation())
"""

PACKAGES_CODE = """
import os, sys
names = [name for path in sys.path if os.path.isdir(path) for name in os.listdir(path)]
print(" ".join(sorted({name.split("-")[0].lower() for name in names if name.endswith(("-info", ".egg"))})))
"""


def check_python(machine: Machine) -> List[Check]:
    """3.6 is the oldest; another one than the board's own misses the board's libraries."""
    outcome = run_python(machine, "import sys; print('%d.%d.%d' % sys.version_info[:3])")
    if outcome.status != 0:
        return [Check("Python", PROBLEM, "{} {}".format(machine.python, outcome.ending), "install Python 3.6 or newer")]
    version = outcome.output.strip()
    value = "{} ({})".format(version, machine.python)
    if tuple(int(part) for part in version.split(".")) < (3, 6):
        return [Check("Python", PROBLEM, value, "use Python 3.6 or newer")]
    wanted = machine.wanted("python")
    if wanted and version.split(".")[:2] != wanted.split(".")[:2]:
        remedy = "the board's OpenCV and TensorRT belong to {}: use that one".format(wanted)
        return [Check("Python", WARNING, value, remedy)]
    return [Check("Python", OK, value)]


def check_numpy(machine: Machine) -> List[Check]:
    """It is there, computes, and is not the release that dies on ARM."""
    code = "import numpy as n; assert (n.ones((64, 64), 'f4') @ n.ones((64, 64), 'f4')).sum() == 262144; "
    outcome = run_python(machine, code + "print(n.__version__)")
    if outcome.status == -4:  # SIGILL
        return [Check("numpy", PROBLEM, "dies on an illegal instruction", _NUMPY_REMEDY)]
    if outcome.status != 0:
        return [Check("numpy", PROBLEM, outcome.ending, "pip install numpy==" + (machine.wanted("numpy") or "1.19.4"))]
    version = outcome.output.strip()
    if version == "1.19.5" and machine.architecture == "aarch64":
        value = "1.19.5 works here, but dies where OPENBLAS_CORETYPE is not set"
        return [Check("numpy", WARNING, value, _NUMPY_REMEDY)]
    return [Check("numpy", OK, version)]


def check_opencv(machine: Machine) -> List[Check]:
    """It is there, reads what the board's cameras need, and is one package only."""
    outcome = run_python(machine, _OPENCV_CODE)
    if outcome.status != 0:
        remedy = "apt-get install python3-opencv on a Jetson, pip install opencv-python-headless elsewhere"
        return [Check("OpenCV", PROBLEM, outcome.ending, remedy)] + _check_packages(machine)
    lines = outcome.output.splitlines()
    version, place = lines[0], lines[1]
    gstreamer = gstreamer_in(outcome.output) or "not mentioned"
    checks = [Check("OpenCV", OK, "{} ({})".format(version, place))]
    needs_it = any("!" in str(pipeline) for pipeline in machine.board.get("cameras", {}).values())
    if gstreamer.startswith("YES"):
        checks.append(Check("OpenCV with GStreamer", OK, gstreamer))
    else:
        remedy = "remove pip's opencv packages and use the system's (apt-get install python3-opencv)"
        level = PROBLEM if needs_it else WARNING
        value = "{}; CSI cameras and pipelines do not open".format(gstreamer)
        checks.append(Check("OpenCV with GStreamer", level, value, remedy))
    return checks + _check_packages(machine)


def check_network(machine: Machine) -> List[Check]:
    """What can run the network: one is needed."""
    code = "import onnxruntime as o; print(o.__version__, *o.get_available_providers())"
    runtime = run_python(machine, code)
    tensorrt = run_python(machine, "import tensorrt as t; print(t.__version__)")
    wants_it = bool(machine.wanted("tensorrt"))
    checks = []
    if runtime.status == 0:
        checks.append(Check("ONNX Runtime", OK, runtime.output.strip()))
    else:
        level = WARNING if tensorrt.status == 0 else PROBLEM
        remedy = "pip install onnxruntime" + ("" if level == PROBLEM else ", to have something else than TensorRT")
        checks.append(Check("ONNX Runtime", level, runtime.ending, remedy))
    if tensorrt.status == 0:
        checks.append(_compared("TensorRT", tensorrt.output.strip(), machine.wanted("tensorrt")))
    elif wants_it:
        remedy = "apt-get install python3-libnvinfer (JetPack), and use the board's own Python"
        checks.append(Check("TensorRT", PROBLEM, tensorrt.ending, remedy))
    else:
        checks.append(Check("TensorRT", OK, "none; the bundle's board needs none"))
    return checks + [_check_cuda(machine)]


def check_opencv_packages(installed: str) -> Check:
    """OpenCV is one package only. installed: what PACKAGES_CODE prints."""
    packages = [name for name in installed.split() if name in _OPENCV_PACKAGES]
    if len(packages) > 1:
        remedy = "pip uninstall {}, then install the one that is wanted again".format(" ".join(packages))
        value = "{} overwrite each other's files".format(" and ".join(packages))
        return Check("OpenCV packages", PROBLEM, value, remedy)
    return Check("OpenCV packages", OK, packages[0] if packages else "the system's own")


def check_libraries(machine: Machine) -> List[Check]:
    """Signatures and the autopilot."""
    nacl = run_python(machine, "import nacl, nacl.signing; print(nacl.__version__)")
    mavlink = run_python(machine, "import pymavlink; print(getattr(pymavlink, '__version__', 'installed'))")
    checks = [Check("PyNaCl", OK, nacl.output.strip())]
    if nacl.status != 0:
        remedy = "pip install 'PyNaCl>=1.5' (1.5.0 is the last for Python 3.6)"
        checks = [Check("PyNaCl", PROBLEM, nacl.ending + "; signatures cannot be checked", remedy)]
    if mavlink.status == 0:
        checks.append(Check("pymavlink", OK, mavlink.output.strip()))
    else:
        checks.append(Check("pymavlink", WARNING, mavlink.ending, "pip install pymavlink, to tell an autopilot"))
    return checks


def _check_packages(machine: Machine) -> List[Check]:
    return [check_opencv_packages(run_python(machine, PACKAGES_CODE).output)]


def _check_cuda(machine: Machine) -> Check:
    version = _cuda_version(machine)
    wanted = machine.wanted("cuda")
    if version:
        return _compared("CUDA", version, wanted)
    if wanted:
        return Check("CUDA", PROBLEM, "none below /usr/local/cuda", "apt-get install nvidia-cuda (JetPack)")
    return Check("CUDA", OK, "none; the bundle's board needs none")


def _cuda_version(machine: Machine) -> str:
    """From version.txt (until 11.0) or version.json (newer), which CUDA brings."""
    patterns: Tuple[Tuple[str, str], ...] = (
        ("/usr/local/cuda/version.json", r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"([\d.]+)"'),
        ("/usr/local/cuda/version.txt", r"CUDA Version ([\d.]+)"),
    )
    for file, pattern in patterns:
        found = re.search(pattern, machine.read(file) or "")
        if found:
            return found.group(1)
    return ""


def _compared(name: str, version: str, wanted: str) -> Check:
    """Whether a version is the board's: as many of its parts as the board's file names."""
    parts = wanted.split(".") if wanted else []
    if version.split(".")[: len(parts)] == parts:
        return Check(name, OK, version)
    remedy = "the bundle was checked for {}: install that, or export for another board".format(wanted)
    return Check(name, WARNING, "{}, the bundle's board has {}".format(version, wanted), remedy)
