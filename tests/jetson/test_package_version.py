"""The package's version: one for each commit, the same everywhere, and newer for dpkg than the commit before."""

import itertools
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from dpkg_root import make_dpkg_root

from deploy.errors import UserError
from deploy.version import VERSION
from jetson.package.version import version

ROOT = Path(__file__).resolve().parents[2]
NOON = 1_700_049_600  # seconds since 1970
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")


class Checkout:
    """A checkout of what packages are made from, with commits of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("deploy", "jetson"):
            shutil.copytree(ROOT / name, root / name, ignore=_LEFT_OUT)
        self.git("init", "-q")
        (root / ".gitignore").write_text("__pycache__/\n")

    def git(self, *words: str, **environment: str) -> str:
        who = {f"GIT_{one}_{part}": "a@b" for one in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
        command = ["git", "-C", str(self.root), *words]
        return subprocess.run(
            command, env=os.environ | who | environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def commit(self, seconds: int) -> str:
        """Commit all there is at that time; the first digits of its hash."""
        self.git("add", "--all")
        self.git("commit", "-q", "--allow-empty", "-m", "x", GIT_COMMITTER_DATE=f"{seconds} +0200")
        return self.git("rev-parse", "HEAD")[:8]

    def version(self) -> str:
        """Asked anew: a process keeps its first answer."""
        return version.__wrapped__(self.root)

    def package(self) -> Path:
        """The package, as the command makes it there."""
        words = [sys.executable, "-m", "jetson", "package", "--board", "jetson-tx2"]
        environment = os.environ | {"PYTHONPATH": str(self.root)}
        done = subprocess.run(words, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return self.root / done.stdout.split(":")[0]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def _is_newer(one: str, other: str) -> bool:
    return subprocess.run(["dpkg", "--compare-versions", one, "gt", other], check=False).returncode == 0


def test_every_commit_is_newer_and_names_itself(checkout):
    shutil.move(checkout.root / ".git", checkout.root / "away")
    found = [checkout.version()]
    assert found == [VERSION]
    shutil.move(checkout.root / "away", checkout.root / ".git")
    first = checkout.commit(NOON)
    found.append(checkout.version())
    assert found[-1] == f"{VERSION}+git20231115.120000.{first}"
    page = checkout.root / "deploy/loop.py"
    page.write_text(page.read_text() + "\n")
    for seconds in (NOON + 60, NOON + 61):
        os.utime(page, (seconds, seconds))
        found.append(checkout.version())
        assert found[-1].startswith(f"{found[1]}.dirty20231115.12010")
    for seconds in (NOON + 3600, NOON + 3601, NOON + 86400):
        checkout.commit(seconds)
        found.append(checkout.version())
    (checkout.root / "deploy/version.py").write_text('VERSION = "0.10.0"\n')
    found.append("0.10.0")
    assert all(_is_newer(later, earlier) for earlier, later in itertools.pairwise(found)), found


def test_it_is_of_the_commit_and_not_of_the_clone(checkout, tmp_path, monkeypatch):
    checkout.commit(NOON)
    checkout.commit(NOON + 60)
    mine = checkout.version()
    other = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{checkout.root}", str(other)], check=True)
    assert version(other) == mine
    for path in (checkout.root / "README.md", checkout.root / "deploy/__pycache__/x.pyc"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("not packed")
    monkeypatch.setenv("GIT_DIR", str(tmp_path))  # as in a hook of another repository
    assert checkout.version() == mine


def test_a_release_is_plain_and_a_new_file_makes_it_another(checkout):
    checkout.commit(NOON)
    checkout.git("tag", f"v{VERSION}")
    assert checkout.version() == VERSION
    (checkout.root / "deploy/new.py").write_text("")
    assert ".dirty" in checkout.version()
    (checkout.root / "deploy/new.py").unlink()
    (checkout.root / "deploy/loop.py").unlink()
    assert ".dirty" in checkout.version()


def test_where_git_does_not_tell_nothing_is_made(checkout, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"git, for the version of .*; apt-get install git, or take"):
        checkout.version()  # there is no commit yet
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="No such file or directory; apt-get install git"):
        checkout.version()


def test_an_installed_package_is_upgraded_and_says_so(checkout, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("dpkg --root needs root, or fakeroot")
    root = make_dpkg_root(tmp_path / "root")
    told = []
    for seconds in (NOON, NOON + 60):
        (checkout.root / "deploy/news.py").write_text(f"SECONDS = {seconds}\n")
        checkout.commit(seconds)
        package = checkout.package()
        assert package.read_bytes() == checkout.package().read_bytes()
        words = ("--no-triggers", "--force-script-chrootless", "--force-depends", "--refuse-downgrade", "--install")
        done = subprocess.run(
            ["dpkg", f"--root={root}", f"--log={tmp_path}/dpkg.log", *words, package], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        told.append(checkout.version())
        assert f"Version: {told[-1]}\n" in (root / "var/lib/dpkg/status").read_text()
        assert package.name == f"skylight-detect_{told[-1]}_jetson-tx2.deb"
        asked = (sys.executable, "-m", "deploy.cli", "--version")
        ran = subprocess.run(asked, cwd=root / "usr/lib/skylight", stdout=subprocess.PIPE, text=True, check=True)
        assert ran.stdout == f"skylight-detect {told[-1]}\n"
        assert str(seconds) in (root / "usr/lib/skylight/deploy/news.py").read_text()
    assert "over" in done.stdout
    assert told[0] in done.stdout


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "deploy.version.VERSION"}
    words = [sys.executable, "setup.py", "--version"]
    told = subprocess.run(words, cwd=ROOT / "deploy", stdout=subprocess.PIPE, text=True, check=True).stdout
    assert told.split()[-1] == VERSION
