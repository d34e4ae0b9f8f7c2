"""Making an image from the stand-in of NVIDIA's tree: what is in it, that it is the same again, and how it goes on."""

import errno
import hashlib
import io
import os
from pathlib import Path

import pytest
from image_bench import KEY, Bench, make_bundle

from deploy.errors import UserError
from jetson.image.compiled import compile_sources
from jetson.image.manifest import tree_lines
from jetson.runner import Runner

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files of an image belong to root; run it with fakeroot")

HASH = "$6$saltsalt$" + "x" * 86


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def _refused(bench: Bench, capsys: pytest.CaptureFixture[str], *words: object, **options: object) -> str:
    capsys.readouterr()
    assert bench.run(*words, **options) == 2  # type: ignore[arg-type]
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def _lines(path: Path, name: str) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.split(":")[0] == name]


def test_it_holds_what_was_asked_for(bench):
    assert bench.run() == 0
    root = bench.root()
    assert (root / "etc/nv_tegra_release").exists()  # apply_binaries.sh ran
    assert (root / "home/pilot/.ssh/authorized_keys").read_text() == KEY + "\n"
    assert (root / "home/pilot/.ssh").stat().st_mode & 0o777 == 0o700
    assert _lines(root / "etc/shadow", "pilot")[0].startswith("pilot:*:")
    assert (root / "usr/bin/skylight-detect").exists()
    assert _lines(root / "etc/group", "video") == ["video:x:44:skylight"]
    store = root / "var/lib/skylight/bundles"
    assert (store / "current/bundle.json").read_bytes() == (bench.bundle / "bundle.json").read_bytes()
    uid = int(_lines(root / "etc/passwd", "skylight")[0].split(":")[2])
    assert {path.lstat().st_uid for path in [store, *store.rglob("*")]} == {uid}
    wants = root / "etc/systemd/system"
    unit = (wants / "multi-user.target.wants/skylight-detect.service").readlink()
    assert str(unit) == "/lib/systemd/system/skylight-detect.service"
    assert (wants / "sysinit.target.wants/systemd-timesyncd.service").is_symlink()
    assert (root / "etc/hostname").read_text() == "jetson-tx2\n"
    assert (root / "var/lib/nvpmodel/status").read_text() == "pmode:0003\n"
    assert "method=auto" in (root / "etc/NetworkManager/system-connections/skylight-wired.nmconnection").read_text()
    record = bench.record()
    assert (record["board"], record["l4t"], record["module"]) == ("jetson-tx2", "32.7.6", None)
    assert f'VERSION = "{record["version"]}"' in (root / "usr/lib/skylight/deploy/version.py").read_text()


def test_the_same_inputs_give_the_same_tree(bench):
    """Although NVIDIA's script leaves a log of dpkg's and a cache of ldconfig's, as the stand-in does."""
    for out in ("one", "two"):
        before = os.umask(0o077 if out == "two" else 0o022)
        assert bench.run(out=out) == 0
        os.umask(before)
    assert tree_lines(bench.root("one")) == tree_lines(bench.root("two"))
    assert bench.record("one")["sha256"] == bench.record("two")["sha256"]
    listed = (bench.folder / "one/manifest.txt").read_text().splitlines()
    assert len(listed) > 100
    (bench.root("two") / "etc/hostname").chmod(0o600)
    assert tree_lines(bench.root("two")) != listed


def test_the_licence_has_to_be_accepted(bench, capsys):
    bench.always.remove("--accept-licence")
    assert "NVIDIA's licence: not accepted" in _refused(bench, capsys)
    assert not (bench.folder / "image").exists()


def test_libraries_are_asked_for_with_the_command_that_fetches_them(bench, capsys):
    bench.always.remove("--without-wheels")
    assert "pip download --no-deps" in _refused(bench, capsys)
    (bench.folder / "wheels").mkdir()
    assert "holds no wheel" in _refused(bench, capsys, "--wheels", bench.folder / "wheels")


def test_without_key_and_hash_nothing_is_made(bench, capsys):
    line = _refused(bench, capsys, key=False)
    assert "neither SSH key nor password hash, and there is no default password" in line
    assert not (bench.folder / "image").exists()


def test_a_password_hash_is_in_shadow_and_nowhere_else(bench):
    (bench.folder / "hash").write_text(HASH + "\n")
    system = bench.system("user: {name: anna, password_hash: hash}\nhostname: drone-7\n")
    assert bench.run("--system", system, key=False) == 0
    root = bench.root()
    assert _lines(root / "etc/shadow", "anna")[0].split(":")[1] == HASH
    holds = [
        path for path in (bench.folder / "image").rglob("*") if path.is_file() and HASH.encode() in path.read_bytes()
    ]
    assert holds == [root / "etc/shadow"]
    assert [path.name for path in (root / "etc/sudoers.d").iterdir()] == ["skylight"]  # what push may do, not anna
    assert "127.0.1.1 drone-7" in (root / "etc/hosts").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user: {name: root}", "name root is taken by the system"),
        ("user: {password_hash: secret}", "holds no SHA-256 or SHA-512 password hash"),
        ("user: {ssh_key: secret}", "holds no public SSH key"),
        ("network: {address: 192.168.1.20}", "has no prefix"),
        ("power_mode: TURBO", "allowed: 0 MAXN, 1 MAXQ"),
        ("read_only: true", "needs data, a partition"),
        ("hostname: Drone 7", "hostname"),
        ("colour: red", "unknown key colour"),
        ("wifi: {ssid: field, password: secret}", "a wireless password has 8 to 63"),
    ],
)
def test_a_system_that_cannot_be_is_refused_first(bench, capsys, text, message):
    (bench.folder / "secret").write_text("swordfi")
    line = _refused(bench, capsys, "--system", bench.system(text), key="user" not in text)
    assert message in line
    assert "swordfi" not in line
    assert not (bench.folder / "image").exists()


def test_network_power_and_disks_are_as_asked(bench):
    (bench.folder / "wlan").write_text("correct horse\n")
    system = bench.system(
        "hostname: drone-1\nnetwork: {address: 10.0.0.7/16, gateway: 10.0.0.1, dns: [10.0.0.1]}\n"
        "wifi: {ssid: field, password: wlan}\nntp: [10.0.0.1]\npower_mode: MAXN\n"
        "read_only: true\ndata: /dev/mmcblk1p1\n"
    )
    assert bench.run("--system", system) == 0
    root = bench.root()
    connections = root / "etc/NetworkManager/system-connections"
    wired = (connections / "skylight-wired.nmconnection").read_text()
    assert "address1=10.0.0.7/16,10.0.0.1\ndns=10.0.0.1;" in wired
    wifi = connections / "skylight-wifi.nmconnection"
    assert "psk=correct horse\n" in wifi.read_text()
    assert wifi.stat().st_mode & 0o777 == 0o600
    assert (root / "etc/systemd/timesyncd.conf.d/skylight.conf").read_text() == "[Time]\nNTP=10.0.0.1\n"
    assert (root / "var/lib/nvpmodel/status").read_text() == "pmode:0000\n"
    fstab = (root / "etc/fstab").read_text()
    assert "/dev/mmcblk1p1 /var/lib/skylight ext4" in fstab
    assert "/dev/root / ext4 ro" in fstab
    assert (root / "usr/lib/skylight/factory/bundles/current").is_symlink()
    assert not (root / "var/lib/skylight/bundles").exists()
    assert (root / "usr/lib/skylight/overlay").stat().st_mode & 0o777 == 0o755
    text = (bench.folder / "image/steps/system.json").read_text()
    assert "correct horse" not in text


def test_done_steps_are_not_done_again(bench, capsys):
    assert bench.run() == 0
    (bench.root() / "etc/mark").write_text("")
    capsys.readouterr()
    assert bench.run() == 0
    assert capsys.readouterr().out.count(": was done") == 11
    assert (bench.root() / "etc/mark").exists()


def test_other_inputs_begin_anew_where_nothing_old_is_left(bench, capsys):
    assert bench.run() == 0
    sha256 = bench.record()["sha256"]
    capsys.readouterr()
    assert bench.run("--system", bench.system("hostname: drone-2\n")) == 0
    printed = capsys.readouterr().out
    assert "1/11 driver: was done" in printed
    assert "2/11 rootfs: unpack" in printed
    assert bench.record()["sha256"] != sha256
    assert bench.run() == 0
    assert bench.record()["sha256"] == sha256


@pytest.mark.parametrize("fault", ["disk-full", "step:1", "step:4"])
def test_it_goes_on_where_it_failed_and_ends_the_same(bench, capsys, fault):
    bench.fault(fault)
    line = _refused(bench, capsys)
    assert "give the same command again" in line
    assert "step 3/11 binaries" in line
    if fault == "disk-full":
        assert "No space left on device; free some space on that disk" in line
    assert not (bench.folder / "image/image.json").exists()
    bench.fault(None)
    assert bench.run() == 0
    assert "1/11 driver: was done" in capsys.readouterr().out
    assert bench.run(out="other") == 0
    assert bench.record()["sha256"] == bench.record("other")["sha256"]


def test_a_user_that_was_made_halfway_is_made_anew(bench, capsys):
    script = "Linux_for_Tegra/tools/l4t_create_default_user.sh"
    out = bench.folder / "image"
    bench.monkeypatch.setenv("L4T_STAND_IN_QEMU", "no")
    assert "step 4/11 user: ./tools/l4t_create_default_user.sh" in _refused(bench, capsys)
    bench.monkeypatch.delenv("L4T_STAND_IN_QEMU")
    with (out / "Linux_for_Tegra/rootfs/etc/passwd").open("a") as file:
        file.write("pilot:x:1000:1000::/home/pilot:/bin/bash\n")  # as if it had been killed after this line
    assert (out / script).exists()
    assert bench.run() == 0
    assert "2/11 rootfs: unpack" in capsys.readouterr().out
    assert len(_lines(bench.root() / "etc/passwd", "pilot")) == 1


def test_the_same_command_makes_one_for_a_newer_board(bench, tmp_path):
    l4t, rootfs = bench.tarballs("36.4.3")
    bundle = make_bundle(tmp_path / "orin-1", "jetson-orin-nano")
    words = ("--board", "jetson-orin-nano", "--bundle", bundle, "--l4t", l4t, "--rootfs", rootfs)
    assert bench.run(*words) == 0
    assert (bench.record()["board"], bench.record()["l4t"]) == ("jetson-orin-nano", "36.4.3")
    assert (bench.root() / "var/lib/nvpmodel/status").read_text() == "pmode:0001\n"
    assert "# python: 3.10" in (bench.root() / "usr/share/skylight/wheels.txt").read_text()


def test_nothing_is_written_through_a_link_to_this_machine(bench, capsys, tmp_path):
    bench.fault("step:1")
    _refused(bench, capsys)
    bench.fault(None)
    (tmp_path / "mine").mkdir()
    (bench.root() / "home").mkdir(exist_ok=True)
    (bench.root() / "home/pilot").symlink_to(tmp_path / "mine")
    assert "is a link to" in _refused(bench, capsys)
    assert not list((tmp_path / "mine").iterdir())


def test_paths_may_be_relative(bench, monkeypatch):
    monkeypatch.chdir(bench.folder)
    assert bench.run("--out", "here", "--bundle", "bundles/blank-1", "--ext4", "here.ext4") == 0
    assert bench.record("here")["board"] == "jetson-tx2"
    assert (bench.folder / "here.ext4").stat().st_size > 2**20


def test_packages_need_programs_that_run_here(bench, capsys, tmp_path):
    (tmp_path / "debs").mkdir()
    assert "holds no .deb file" in _refused(bench, capsys, "--packages", tmp_path / "debs")
    (tmp_path / "debs/opencv.deb").write_bytes(b"!<arch>\n")
    line = _refused(bench, capsys, "--packages", tmp_path / "debs")
    assert "step 5/11 packages" in line
    assert "apt-get install qemu-user-static" in line
    assert not (bench.root() / "usr/sbin/policy-rc.d").exists()


def test_what_flies_is_compiled_by_a_python_that_runs_here(bench):
    assert bench.run() == 0  # the stand-in's root holds no programs
    root = bench.root()
    (root / "usr/bin/python3.6").write_text("of another machine")
    (root / "usr/bin/python3").symlink_to("python3.6")
    with pytest.raises(UserError, match=r"its Python does not run here .*; apt-get install qemu-user-static"):
        compile_sources(root, Runner(io.StringIO()))


def test_what_does_not_fit_is_refused(bench, capsys, tmp_path):
    other = make_bundle(tmp_path / "workstation-1", "workstation")
    assert "was made for workstation, not jetson-tx2" in _refused(bench, capsys, "--bundle", other)
    assert "is no Jetson" in _refused(bench, capsys, "--board", "workstation")
    assert "step 1/11 driver" in _refused(bench, capsys, "--board", "jetson-orin-nano", "--any-board")
    assert "holds no" in _refused(bench, capsys, "--l4t", bench.rootfs, out="swapped")
    assert "allowed" in _refused(bench, capsys, "--board", "jetson-tx9")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("")
    assert "is not empty and holds no image" in _refused(bench, capsys, out="mine")
    assert "SHA-256" in _refused(bench, capsys, "--l4t-sha256", "0" * 64, out="third")
    assert "no such file" in _refused(bench, capsys, "--l4t", "gone.tbz2", out="third")


def test_a_drone_can_be_pushed_to_as_it_comes(bench):
    assert bench.run() == 0
    root = bench.root()
    (push,) = _lines(root / "etc/group", "skylight-push")
    found = (root / "var/lib/skylight/incoming").stat()
    assert (found.st_mode & 0o7777, found.st_uid, str(found.st_gid)) == (0o2775, 0, push.split(":")[2])
    assert push.split(":")[3] == "pilot"
    (shadowed,) = _lines(root / "etc/gshadow", "skylight-push")
    assert shadowed.endswith(":pilot")


def test_what_holds_secrets_is_for_root_alone(bench):
    (bench.folder / "wlan").write_text("correct horse\n")
    bench.monkeypatch.setenv("SUDO_GID", "4321")
    disk = bench.folder / "root.ext4"
    assert bench.run("--system", bench.system("wifi: {ssid: field, password: wlan}\n"), "--ext4", disk) == 0
    out = bench.folder / "image"
    for path in (disk, out / "manifest.txt", out / "image.log", *(out / "steps").iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path
    assert (out / "image.json").stat().st_mode & 0o777 == 0o644  # make flash reads it without root
    found = out.stat()  # whatever NVIDIA's scripts make in it
    assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o750, 0, 4321)
    digest = hashlib.sha256(b"correct horse").hexdigest()
    assert digest not in (out / "steps/system.json").read_text()


def test_a_wireless_password_means_itself(bench, capsys):
    (bench.folder / "wlan").write_text("pass\\word;#\n")
    system = bench.system("wifi: {ssid: ' a\\b', password: wlan}\n")
    assert bench.run("--system", system) == 0
    text = (bench.root() / "etc/NetworkManager/system-connections/skylight-wifi.nmconnection").read_text()
    assert "\npsk=pass\\\\word;#\n" in text  # a key file's backslash begins an escape
    assert "\nssid=\\sa\\\\b\n" in text
    (bench.folder / "wlan").write_text("correct\n[wifi]\nhidden=true\n")
    assert "a wireless password has 8 to 63" in _refused(bench, capsys, "--system", system)


def test_servers_of_names_are_asked_in_their_own_protocol(bench, capsys):
    def wired(text: str) -> str:
        assert bench.run("--system", bench.system(f"network: {text}\n")) == 0
        return (bench.root() / "etc/NetworkManager/system-connections/skylight-wired.nmconnection").read_text()

    assert wired("{dns: [10.0.0.1, 'fd00::1']}").endswith(
        "[ipv4]\nmethod=auto\ndns=10.0.0.1;\n\n[ipv6]\nmethod=auto\ndns=fd00::1;\n"
    )
    assert "dns=10.0.0.1;\n\n[ipv6]\nmethod=link-local\ndns=fd00::1;" in wired(
        "{address: 10.0.0.7/16, dns: [10.0.0.1, 'fd00::1']}"
    )
    assert "\ntype=ethernet\nautoconnect=true\n" in wired("{}")
    assert "\ntype=ethernet\ninterface-name=eth0\nautoconnect=true\n" in wired("{interface: eth0}")
    line = _refused(bench, capsys, "--system", bench.system("network: {interface: 'a b'}\n"))
    assert "network.interface: found 'a b'" in line
    line = _refused(bench, capsys, "--system", bench.system("network: {address: 10.0.0.7/16, gateway: 'fd00::1'}\n"))
    assert "gateway fd00::1" in line
    assert "name.example" in _refused(bench, capsys, "--system", bench.system("network: {dns: [name.example]}\n"))


def test_a_disk_that_fills_up_in_a_step_of_ours_says_how_to_go_on(bench, capsys):
    def full(*_words: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jetson.image.build.write_manifest", full)
        line = _refused(bench, capsys)
    assert "step 11/11 manifest: No space left on device" in line
    assert "give the same command again" in line
    assert bench.run() == 0


def test_an_image_of_an_older_program_is_made_anew(bench, capsys):
    """Else what is mended here would reach no image that was made before."""
    assert bench.run() == 0
    capsys.readouterr()
    bench.monkeypatch.setattr("jetson.image.build._program", lambda: "another")
    assert bench.run() == 0
    printed = capsys.readouterr().out
    assert "1/11 driver: was done" in printed
    assert "2/11 rootfs: unpack" in printed
    assert "10/11 system: jetson-tx2" in printed
