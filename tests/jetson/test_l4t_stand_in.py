"""The stand-in for NVIDIA's scripts refuses what they refuse, with their status, and passes shellcheck."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from l4t_tree import make_tarballs, make_tree, plug_in

ROOT = Path(__file__).resolve().parents[2]
TX2 = ("jetson-tx2-devkit", "mmcblk0p1")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    plug_in(tmp_path / "usb", "1-2")
    return make_tree(tmp_path / "image")


def call(tree: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    given = {"L4T_STAND_IN_USB": str(tree.parents[1] / "usb"), "L4T_STAND_IN_STORAGE": str(tree.parents[1] / "storage")}
    environment = os.environ | given | {"USER": "root"} | more
    return subprocess.run(words, cwd=tree, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_every_shell_script_passes_shellcheck():
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: apt-get install shellcheck")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    scripts = [name for name in listed if (ROOT / name).is_file() and _is_shell(ROOT / name)]
    assert "tests/jetson/l4t_stand_in/Linux_for_Tegra/flash.sh" in scripts
    found = subprocess.run([shellcheck, "-x", *scripts], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def _is_shell(path: Path) -> bool:
    if path.suffix in (".sh", ".func"):
        return True
    with path.open("rb") as file:
        first = file.readline(80)
    return first.startswith(b"#!") and first.rstrip().endswith((b"/sh", b"/bash", b" bash", b" sh"))


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ((*TX2,), 0, "flashed successfully"),
        (("-r", *TX2), 15, "file does not exist"),
        (("jetson-tx3", "mmcblk0p1"), 1, "Invalid target board - jetson-tx3"),
        (("jetson-tx2-devkit", "floppy"), 1, "Invalid target rootdev"),
        (("jetson-nano-devkit", "mmcblk0p1"), 14, "The Actual SoC ID(0x18) mismatches intended jetson-nano-devkit"),
        (("--usb-instance", "1-3", *TX2), 14, "probing the target board failed"),
        (("-G", "file", *TX2), 28, "missing -k option"),
        (("-k", "APP", "-G", "nowhere/file", *TX2), 13, "Invalid path/filename"),
        (("-k", "LNX", *TX2), 45, "Update [LNX] is not supported"),
    ],
)
def test_flash_checks_its_arguments(tree: Path, words: tuple[str, ...], status: int, message: str) -> None:
    done = call(tree, "./flash.sh", *words)
    assert (done.returncode, message in done.stdout + done.stderr) == (status, True), done.stdout + done.stderr


def test_flash_wants_root_and_its_own_folder(tree: Path) -> None:
    assert call(tree, "./flash.sh", *TX2, USER="pilot").returncode == 21
    assert "Invalid target board" in call(tree / "kernel", "../flash.sh", *TX2).stdout


@pytest.mark.parametrize("fault", ["disk-full", "step:3", "step:6", "leaves-recovery:5"])
def test_faults_end_flash(tree: Path, tmp_path: Path, fault: str) -> None:
    done = call(tree, "./flash.sh", *TX2, L4T_STAND_IN_FAULT=fault)
    assert done.returncode == 1
    assert not (tmp_path / "storage/1-2/APP").exists()


def test_the_tarballs_make_a_root_file_system_with_a_user(tmp_path: Path) -> None:
    package, root = make_tarballs(tmp_path)
    subprocess.run(["tar", "xf", package], cwd=tmp_path, check=True)
    tree = tmp_path / "Linux_for_Tegra"
    if os.getuid() != 0:
        pytest.skip("apply_binaries.sh wants root, as NVIDIA's does")
    assert "has to be extracted" in call(tree, "./apply_binaries.sh").stdout
    subprocess.run(["tar", "xpf", root], cwd=tree / "rootfs", check=True)
    user = ("tools/l4t_create_default_user.sh", "-u", "pilot", "-p", "secret", "-n", "drone")
    assert "Cannot find the L4T end user license" in call(tree, *user, "--accept-license").stdout
    assert call(tree, "./apply_binaries.sh", L4T_STAND_IN_FAULT="step:2").returncode == 1
    assert call(tree, "./apply_binaries.sh").returncode == 0
    assert (tree / "rootfs/etc/nv_tegra_release").read_text().startswith("# R32 (release), REVISION: 7.6,")
    assert (tree / "rootfs/etc/systemd/system/default.target").is_symlink()
    assert call(tree, *user).returncode == 1  # the licence is not accepted
    assert call(tree, *user, "--accept-license").returncode == 0
    assert "pilot:x:1000" in (tree / "rootfs/etc/passwd").read_text()
    assert (tree / "rootfs/etc/hostname").read_text() == "drone\n"
    assert not (tree / "rootfs/etc/systemd/system/default.target").is_symlink()


def test_the_same_release_gives_the_same_tarballs(tmp_path: Path) -> None:
    first, second = make_tarballs(tmp_path / "a"), make_tarballs(tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
