"""An image of a real arm64 Debian, made by `make image`: an ext4 file, checked, booted, watched until it flies."""

import contextlib
import os
import subprocess
from pathlib import Path

import arm64
import cv2
import numpy as np
import pytest
from drawn import draw_picture
from image_bench import KEY
from l4t_tree import make_tarballs

from jetson.__main__ import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

_BOOT_SECONDS = 1200
_PROOF = """#!/bin/sh
# Waits until the service says READY and its start has lasted, tells what it did, and switches the machine off. It is
# inactive here, after its first start, only where what it requires is missing.
for _ in $(seq 900); do
	case "$(systemctl is-active skylight-detect)" in active | inactive) break ;; esac
	sleep 1
done
sleep 30
systemctl show skylight-detect --property=ActiveState --property=NRestarts --property=StatusText --property=User
journalctl --unit=skylight-detect --no-pager --output=cat
cat /var/lib/skylight/bundles/notes.json
skylight-detect bundles
for path in / /etc /var /var/lib/skylight; do findmnt --noheadings --output=TARGET,FSTYPE,OPTIONS "$path"; done
systemctl --failed --no-legend
echo "PROOF $(systemctl is-active skylight-detect)"
systemctl poweroff --force
"""
_UNIT = """[Unit]
Description=Proof
After=multi-user.target
[Service]
Type=idle
ExecStart=/opt/proof
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyAMA0
"""


@pytest.fixture(scope="module")
def needs() -> None:
    programs = {"qemu-system-aarch64": "qemu-system-arm", "mke2fs": "e2fsprogs", "apt-get": "apt"}
    reason = arm64.missing(programs)
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TX2's board file, with the libraries of Debian."""
    path = tmp_path_factory.mktemp("board") / "debian-arm64.yaml"
    text = (arm64.ROOT / "jetson/boards/jetson-tx2.yaml").read_text()
    path.write_text(
        text.replace("name: jetson-tx2\n", "name: debian-arm64\n", 1).replace("wheels: l4t-32", "wheels: debian-12")
    )
    return path


def _make_image(folder: Path, board: Path, bundle: Path, system: str) -> Path:
    """An image with a video to look at and a unit that tells how it went; its ext4 file."""
    (folder / "pilot.pub").write_text(KEY + "\n")
    (folder / "drone.yaml").write_text("hostname: drone-1\nuser: {ssh_key: pilot.pub}\n" + system)
    settings = "[source]\ndevice = /opt/drawn.avi\npace = real\n[network]\nbackend = onnxruntime\n"
    (folder / "detect.ini").write_text(settings)
    l4t, _ = make_tarballs(folder / "files")
    words = ["--board", board, "--bundle", bundle, "--any-board", "--l4t", l4t, "--rootfs", arm64.root_archive()]
    words += ["--wheels", arm64.wheels(arm64.board(folder)), "--system", folder / "drone.yaml", "--accept-licence"]
    words += [
        "--packages",
        _proof_package(folder),
        "--settings",
        folder / "detect.ini",
        "--out",
        "image",
    ]  # relative, as by default
    disk = folder / "root.ext4"
    with contextlib.chdir(folder):
        assert main(["image", *map(str, [*words, "--ext4", disk])]) == 0
    home = folder / "image/Linux_for_Tegra/rootfs/usr/lib/skylight"
    for name in ("deploy", "wheels/tornado", "wheels/pymavlink/dialects/v20"):
        assert list((home / name / "__pycache__").glob("*.cpython-311.pyc")), name
    return disk


def _proof_package(folder: Path) -> Path:
    """A folder with a package of the board: what is looked at, and what tells how it went."""
    tree, debs = folder / "proof", folder / "debs"
    units = tree / "lib/systemd/system"
    for path in (tree / "DEBIAN", tree / "opt", units / "multi-user.target.wants", debs):
        path.mkdir(parents=True)
    control = "Package: proof\nVersion: 1\nArchitecture: arm64\nMaintainer: nobody\nDescription: of a test\n"
    (tree / "DEBIAN/control").write_text(control)
    _video(tree / "opt/drawn.avi")
    (tree / "opt/proof").write_text(_PROOF)
    (tree / "opt/proof").chmod(0o755)
    (units / "proof.service").write_text(_UNIT)
    (units / "multi-user.target.wants/proof.service").symlink_to("../proof.service")
    arm64.run("dpkg-deb", "--root-owner-group", "--build", tree, debs / "proof.deb")
    return debs


def _video(path: Path) -> None:
    """Ten minutes of drawn squares, ten frames a second."""
    rng = np.random.default_rng(5)
    pictures = [draw_picture(rng)[0] for _ in range(10)]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 80))
    for number in range(6000):
        writer.write(pictures[number % len(pictures)])
    writer.release()


def _boot(folder: Path, disk: Path, *more: Path) -> str:
    """Boot a disk; the serial console, as text. Ends when the machine switches itself off."""
    kernel, _ = arm64.kernel()
    initrd = arm64.initrd(folder / "image/Linux_for_Tegra/rootfs", folder / "initrd.gz")
    serial = folder / "serial.log"
    words: list[object] = [
        "qemu-system-aarch64",
        "-M",
        "virt",
        "-cpu",
        "cortex-a57",
        "-smp",
        "2",
        "-m",
        "1536",
        "-display",
        "none",
    ]
    words += ["-no-reboot", "-nic", "none", "-serial", f"file:{serial}", "-kernel", kernel, "-initrd", initrd]
    words += ["-append", "console=ttyAMA0 root=/dev/vda rw systemd.show_status=1 panic=-1"]
    for file in (disk, *more):
        words += ["-drive", f"file={file},format=raw,if=virtio,cache=unsafe"]
    try:
        subprocess.run([str(word) for word in words], timeout=_BOOT_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        pytest.fail("not healthy in time: " + serial.read_text(errors="replace")[-3000:])
    return serial.read_text(errors="replace")


def _check(disk: Path) -> None:
    done = subprocess.run(["e2fsck", "-fn", str(disk)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    listed = arm64.run("debugfs", "-R", "stat /usr/bin/skylight-detect", disk).stdout
    assert "Mode:  0755" in listed
    assert "User:     0   Group:     0" in listed


@pytest.mark.usefixtures("needs")
def test_an_image_boots_into_a_detector_that_flies(board, bundle, tmp_path):
    disk = _make_image(tmp_path, board, bundle, "")
    _check(disk)
    told = _boot(tmp_path, disk)
    assert "PROOF active" in told, told[-3000:]
    assert "NRestarts=0" in told
    assert "User=skylight" in told
    assert "3 golden frames" in told
    assert "drone-1 login" in told
    assert "Read-only file system" not in told
    assert '"starts": 0' in told


@pytest.mark.usefixtures("needs")
def test_a_root_that_is_not_written_to_keeps_flights_on_the_data_partition(board, bundle, tmp_path):
    disk = _make_image(tmp_path, board, bundle, "read_only: true\ndata: /dev/vdb\n")
    told = _boot(tmp_path, disk)  # without the partition: it can be logged into, and flies nothing
    assert "Dependency failed for skylight-detect.service" in told, told[-3000:]
    assert "PROOF inactive" in told
    assert "drone-1 login" in told
    data = tmp_path / "data.img"
    with data.open("wb") as file:
        os.truncate(file.fileno(), 2**30)
    told = _boot(tmp_path, disk, data)
    assert "PROOF active" in told, told[-3000:]
    mounts = {line.split()[0]: line.split()[1:] for line in told.splitlines() if line.startswith("/")}
    assert mounts["/"][1].split(",")[0] == "ro"
    assert (mounts["/etc"][0], mounts["/var"][0], mounts["/var/lib/skylight"][0]) == ("overlay", "overlay", "ext4")
    assert '"starts": 0' in told
    assert "log.stopped" not in told
    listed = arm64.run("debugfs", "-R", "ls -l /log", data).stdout
    assert len(listed.splitlines()) > 2, listed
