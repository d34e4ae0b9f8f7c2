"""What is installed is compiled once: no start compiles it, the same sources give the same files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from python36 import python36

ROOT = Path(__file__).resolve().parents[2]
OLDEST = 1_577_836_800  # seconds since 1970, of every source in a package


@pytest.fixture(params=["3.6", "newest"])
def python(request: pytest.FixtureRequest) -> str:
    found = python36() if request.param == "3.6" else sys.executable
    if found is None:
        pytest.skip("no Python 3.6 here")
    return str(found)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What flies, as the package installs it, and a library of which a part is of another Python."""
    home = tmp_path / "skylight"
    shutil.copytree(ROOT / "deploy", home / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    dialects = home / "wheels/pymavlink/dialects/v20"
    dialects.mkdir(parents=True)
    for name in ("common", "other"):
        (dialects / f"{name}.py").write_text("")
    (home / "wheels/old.py").write_text("print 'of Python 2'\n")
    for path in home.rglob("*.py"):
        os.utime(path, (OLDEST, OLDEST))
    return home


def _run(python: str, home: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(home), "PATH": os.environ["PATH"], "PYTHONHASHSEED": "0"}
    texts = [python, *map(str, words)]
    return subprocess.run(texts, env=environment, cwd=home, capture_output=True, text=True, timeout=120, check=False)


def _compiled(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*.pyc")}


def _sources_read(python: str, home: Path) -> list[str]:
    """Files of what flies that an import had to compile."""
    told = _run(python, home, "-B", "-v", "-c", "import deploy.cli, deploy.wheels, deploy.signature").stderr
    lines = [line.split(" from ")[1].strip("'") for line in told.splitlines() if line.startswith("# code object from ")]
    return [Path(line).name for line in lines if str(home) in line and line.endswith(".py")]


def test_no_start_compiles_and_an_edit_is_seen(python, home):
    assert "cli.py" in _sources_read(python, home)
    before = os.umask(0o077)
    try:
        assert _run(python, home, "-B", "-m", "deploy.compiled", home / "deploy").returncode == 0
    finally:
        os.umask(before)
    assert _sources_read(python, home) == []
    for folder in (home / "deploy").rglob("__pycache__"):
        assert folder.stat().st_mode & 0o777 == 0o755  # the service is another user
    (home / "deploy/version.py").write_text('VERSION = "by hand"\n')
    assert _sources_read(python, home) == ["version.py"]


def test_the_same_sources_give_the_same_files(python, home):
    for _ in range(2):
        _run(python, home, "-B", "-m", "deploy.compiled", home / "deploy", home / "wheels")
    first = _compiled(home)
    assert len(first) > 100
    for folder in list(home.rglob("__pycache__")):
        shutil.rmtree(folder)
    _run(python, home, "-B", "-m", "deploy.compiled", home / "wheels")
    _run(python, home, "-B", "-m", "deploy.compiled", home / "deploy")
    assert _compiled(home) == first


def test_a_library_is_compiled_as_far_as_it_can_be(python, home):
    assert _run(python, home, "-B", "-m", "deploy.compiled", home / "wheels").returncode == 1
    names = {Path(name).name.split(".")[0] for name in _compiled(home)}
    assert names == {"common"}
