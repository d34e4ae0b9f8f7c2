"""The Debian package: what is in it, that it is the same each time, and that it installs where there is no systemd."""

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dpkg_root import make_dpkg_root

from deploy.errors import UserError
from jetson.__main__ import main
from jetson.board import board_names, read_board
from jetson.package.build import build_package
from jetson.package.contents import package_files
from jetson.package.lists import download_command, wheel_list
from jetson.package.offline import install_offline
from jetson.package.version import version
from jetson.runner import Runner

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path for path in (ROOT / "jetson/package/debian").iterdir() if path.read_bytes()[:2] == b"#!")


def _run(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    texts = [str(word) for word in words]
    return subprocess.run(texts, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "tx2.deb"
    return build_package(read_board("jetson-tx2"), path, io.StringIO())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("dpkg --root needs root, or fakeroot")
    return make_dpkg_root(tmp_path / "root")


def _install(package: Path, root: Path) -> None:
    install_offline(package, root, root.parent, Runner(io.StringIO()))


def _lines(path: Path, name: str) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.split(":")[0] == name]


def test_it_is_the_same_whoever_makes_it_and_when(package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o077)
    try:
        again = build_package(read_board("jetson-tx2"), tmp_path / "other.deb", io.StringIO())
    finally:
        os.umask(before)
    assert again.read_bytes() == package.read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1600000000")
    other = build_package(read_board("jetson-tx2"), tmp_path / "later.deb", io.StringIO())
    assert other.read_bytes() != package.read_bytes()


def test_all_that_flies_is_in_it_and_nothing_else(package):
    listed = {line.split()[-1][2:] for line in _run("dpkg-deb", "--contents", package).stdout.splitlines()}
    tracked = _run("git", "ls-files", "deploy", cwd=ROOT).stdout.splitlines()
    assert {f"usr/lib/skylight/{name}" for name in tracked} - listed == {"usr/lib/skylight/deploy/setup.py"}
    assert "usr/lib/skylight/deploy/web/static/page.html" in listed
    assert not [name for name in listed if name.endswith((".pyc", "__pycache__/"))]
    owners = {line.split()[1] for line in _run("dpkg-deb", "--contents", package).stdout.splitlines()}
    assert owners == {"root/root"}


def test_unit_wrapper_and_docs_name_one_program():
    files = package_files(read_board("jetson-tx2"))
    unit = files["lib/systemd/system/skylight-detect.service"].content.decode()
    found = re.search(r"^ExecStart=/(\S+) fly --settings /(\S+)", unit, re.MULTILINE)
    assert found is not None
    assert files[found[1]].mode == 0o755
    assert found[2] in files


def test_what_push_needs_comes_with_it(package, root):
    _install(package, root)
    (group,) = _lines(root / "etc/group", "skylight-push")
    folder = (root / "var/lib/skylight/incoming").stat()
    assert (folder.st_mode & 0o7777, folder.st_uid, str(folder.st_gid)) == (0o2775, 0, group.split(":")[2])
    rules = root / "etc/sudoers.d/skylight"
    assert rules.stat().st_mode & 0o7777 == 0o440
    assert "/usr/bin/skylight-detect install --json /var/lib/skylight/incoming/bundle" in rules.read_text()


def test_the_settings_survive_an_update(package, root):
    _install(package, root)
    ini = root / "etc/skylight/detect.ini"
    ini.write_text("[source]\ndevice = csi\n")
    _install(package, root)
    assert ini.read_text() == "[source]\ndevice = csi\n"


def test_user_and_groups_come_with_it_once_and_what_flew_stays(package, root):
    for _ in range(2):
        _install(package, root)
        (user,) = _lines(root / "etc/passwd", "skylight")
        assert user.endswith("::/var/lib/skylight:/usr/sbin/nologin") or ":Skylight detector:/var/lib/skylight:" in user
        assert _lines(root / "etc/group", "video") == ["video:x:44:skylight"]
        assert _lines(root / "etc/group", "dialout") == ["dialout:x:20:skylight"]
        assert not _lines(root / "etc/group", "render")  # not made where it is not
    owner = (root / "var/lib/skylight").stat()
    assert [str(owner.st_uid), str(owner.st_gid)] == user.split(":")[2:4]
    flight = root / "var/lib/skylight/log/flight.jsonl"
    flight.parent.mkdir()
    flight.write_text("{}\n")
    options = ("--force-script-chrootless", f"--root={root}", f"--log={root.parent}/dpkg.log")
    done = _run("dpkg", *options, "--purge", "skylight-detect")
    assert done.returncode == 0, done.stdout + done.stderr
    assert flight.exists()
    assert not (root / "usr/lib/skylight").exists()
    assert not (root / "etc/skylight/detect.ini").exists()


def test_installed_it_runs_without_the_repository(package, tmp_path):
    _run("dpkg-deb", "--extract", package, tmp_path)
    folders = f"{tmp_path}/usr/lib/skylight"
    done = _run(sys.executable, "-m", "deploy.cli", "--help", env={"PYTHONPATH": folders}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "skylight-detect fly" in done.stdout
    manual = _run("gzip", "-dc", tmp_path / "usr/share/man/man1/skylight-detect.1.gz").stdout
    for name in ("run", "fly", "install", "wheels"):
        assert f".B {name}\n" in manual


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_pass_shellcheck(path):
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed: apt-get install shellcheck")
    done = _run("shellcheck", path)
    assert done.returncode == 0, done.stdout


def test_a_root_without_python_is_refused(package, root):
    status = root / "var/lib/dpkg/status"
    status.write_text(status.read_text().replace("Version: 3.6.7", "Version: 3.5.2-1"))
    with pytest.raises(UserError, match="has Python 3"):
        _install(package, root)
    status.write_text("")
    with pytest.raises(UserError, match="python3 is not installed"):
        _install(package, root)
    assert not (root / "usr").exists()


def test_every_board_that_is_flashed_has_its_list():
    for name in board_names():
        board = read_board(name)
        path = wheel_list(board)
        assert (path is not None) == bool(board.modules), name
        if path is not None:
            text, command = path.read_text(), download_command(board)
            assert {"onnxruntime", "pymavlink", "PyNaCl", "tornado"} <= set(
                re.findall(r"^[A-Za-z]+", text, re.MULTILINE)
            )
            assert f"# python: {'.'.join(board.versions['python'].split('.')[:2])}, aarch64" in text
            assert str(path) in (command or "")


def test_a_list_that_is_not_there_is_refused(tmp_path, capsys):
    text = (ROOT / "jetson/boards/jetson-tx2.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("wheels: l4t-32", "wheels: l4t-99"))
    assert main(["package", "--board", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "out")]) == 2
    assert "runtime.wheels: l4t-99: unknown; allowed: debian-12, l4t-32, l4t-36" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_dpkg_deb_nothing_is_left(tmp_path, monkeypatch):
    version()  # asks git, once
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="env: No such file"):
        build_package(read_board("jetson-tx2"), tmp_path / "tx2.deb", io.StringIO())
    assert not list(tmp_path.iterdir())


def test_a_laptop_that_makes_images_needs_neither_numpy_nor_torch():
    code = "import jetson.image.command, jetson.package.command, sys; print([n in sys.modules for n in sys.argv[1:]])"
    done = _run(sys.executable, "-c", code, "numpy", "cv2", "torch", "onnxruntime", cwd=ROOT)
    assert done.stdout.strip() == str([False] * 4), done.stderr


def test_unit_and_rules_name_only_groups_that_every_release_has():
    """Ubuntu 18.04 has no group render: systemd would not start the service (216/GROUP), udev 237 give it to root."""
    files = package_files(read_board("jetson-tx2"))
    unit = files["lib/systemd/system/skylight-detect.service"].content.decode()
    rules = files["lib/udev/rules.d/60-skylight.rules"].content.decode()
    groups = re.findall(r"^SupplementaryGroups=(.*)$", unit, re.MULTILINE)
    assert set(" ".join(groups).split()) <= {"video", "dialout"}
    assert set(re.findall(r'GROUP="(\w+)"', rules)) <= {"video", "dialout"}


def test_an_update_follows_no_link_of_the_services_user(package, root):
    """/var/lib/skylight belongs to it: a link there must not let root give another folder away."""
    _install(package, root)
    incoming = root / "var/lib/skylight/incoming"
    incoming.rmdir()
    (root / "etc/secret").mkdir(mode=0o700)
    incoming.symlink_to(root / "etc/secret")
    _install(package, root)
    assert (root / "etc/secret").stat().st_mode & 0o7777 == 0o700
    assert not incoming.is_symlink()
    assert incoming.stat().st_mode & 0o7777 == 0o2775
