"""An image with a data partition, and one whose root is not written to: what its scripts do, run by themselves."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from image_bench import Bench

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files of an image belong to root; run it with fakeroot")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_a_data_partition_gets_all_that_the_package_made_there(bench):
    """The mount hides what the image has in /var/lib/skylight; a copy may break off at any file."""
    assert bench.run("--system", bench.system("data: /dev/mmcblk1p1\n")) == 0
    root, disk = bench.root(), bench.folder / "disk"
    disk.mkdir()
    (disk / "lost+found").mkdir()
    factory = root / "usr/lib/skylight/factory"
    script = root / "usr/lib/skylight/data"
    unit = (root / "lib/systemd/system/skylight-data.service").read_text()
    assert "\nExecStart=/usr/lib/skylight/data\n" in unit
    assert "ConditionPathExists" not in unit
    text = script.read_text().replace("/var/lib/skylight", str(disk)).replace("/usr/lib/skylight", str(factory.parent))
    owner = "-o skylight -g skylight"
    assert owner in text
    text = (
        text.replace(owner, "")
        .replace("-g skylight-push", "")
        .replace("skylight:skylight", "1:1")
        .replace("id -u skylight", "echo 1")
    )
    # A copy that broke off: the bundle's folder is there, its files are not.
    name = (factory / "bundles/current").readlink()
    (disk / "bundles" / name).mkdir(parents=True)
    for _ in range(2):
        subprocess.run(["sh", "-c", text], check=True)
        assert (disk / "bundles/current/bundle.json").read_bytes() == (bench.bundle / "bundle.json").read_bytes()
        assert (disk / "incoming").stat().st_mode & 0o7777 == 0o2775
    # It was another image's, whose user had another number; what is not the service's stays root's.
    os.chown(disk / "bundles", 4321, 4321)
    subprocess.run(["sh", "-c", text], check=True)
    assert {path.lstat().st_uid for path in (disk / "bundles").rglob("*")} == {1}
    assert (disk / "incoming").stat().st_uid == 0
    other = disk / "bundles/other"
    other.mkdir()
    (disk / "bundles/current").unlink()
    (disk / "bundles/current").symlink_to("other")
    subprocess.run(["sh", "-c", text], check=True)
    assert (disk / "bundles/current").readlink() == Path("other")


def test_the_link_to_the_first_bundle_comes_last(bench):
    """A cut of the power in the middle must not leave a `current` that points to half a bundle."""
    assert bench.run("--system", bench.system("data: /dev/mmcblk1p1\n")) == 0
    lines = (bench.root() / "usr/lib/skylight/data").read_text().splitlines()
    order = [next(n for n, line in enumerate(lines) if word in line) for word in ("cp --archive", "sync", "mv -T")]
    assert order == sorted(order)


def test_a_root_that_is_not_written_to_has_a_place_for_temporary_files(bench):
    """Camera daemon, time synchronisation and sshd want /tmp, which is no tmpfs on Ubuntu and Debian 12."""
    assert bench.run("--system", bench.system("read_only: true\ndata: /dev/mmcblk1p1\n")) == 0
    fstab = (bench.root() / "etc/fstab").read_text()
    assert "\ntmpfs /tmp tmpfs mode=1777,nosuid,nodev 0 0 # skylight\n" in fstab


def test_a_drone_without_memory_of_its_etc_keeps_its_host_keys(bench):
    """Else every restart makes new ones, and ssh and push refuse a drone whose key changed."""
    assert bench.run("--system", bench.system("read_only: true\ndata: /dev/mmcblk1p1\n")) == 0
    root, disk, etc = bench.root(), bench.folder / "disk", bench.folder / "etc"
    assert (root / "etc/systemd/system/multi-user.target.wants/skylight-host-keys.service").is_symlink()
    unit = (root / "lib/systemd/system/skylight-host-keys.service").read_text()
    assert "Before=ssh.service" in unit
    text = (root / "usr/lib/skylight/host-keys").read_text()
    text = text.replace("/var/lib/skylight", str(disk)).replace("/etc/ssh", str(etc))
    disk.mkdir()
    found = []
    for _ in range(2):
        etc.mkdir()
        subprocess.run(["sh", "-c", text], check=True, cwd=bench.folder)
        key = etc / "ssh_host_ed25519_key"
        assert key.stat().st_mode & 0o777 == 0o600
        assert (disk / "ssh").stat().st_mode & 0o777 == 0o700
        found.append(key.read_text())
        shutil.rmtree(etc)
    assert found[0] == found[1]
