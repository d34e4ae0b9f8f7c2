"""Flashing end to end, with the stand-in for NVIDIA's scripts: what is written, recorded, cloned, restored, refused."""

import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from flash_bench import Bench

from jetson.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_a_module_is_flashed_and_recorded(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.plug_in("1-2", serial="0424618044163")
    assert bench.flash() == 0
    system_image = bench.tree / "bootloader/system.img"
    assert bench.partitions() == {"1-2": system_image.read_bytes()}
    with tarfile.open(system_image) as archive:
        assert "./etc/nv_tegra_release" in archive.getnames()
    (record,) = bench.records()
    assert record["commands"] == ["sudo ./flash.sh --usb-instance 1-2 jetson-tx2-devkit mmcblk0p1"]
    assert (record["result"], record["action"], record["error"]) == ("done", "write", None)
    assert (record["board"], record["module"], record["part"]) == ("jetson-tx2", "Jetson TX2", "P3310-1000")
    assert (record["serial"], record["usb_instance"], record["l4t"]) == ("0424618044163", "1-2", "32.7.6")
    assert record["ecid"].startswith("0x88018001")
    assert record["eeprom"] == "Board ID(3310) version(B02) sku(1000) revision(B.0)"
    assert record["image_sha256"] == "5c" * 32
    assert record["began"] <= record["ended"]
    log = Path(record["log"]).read_text()
    assert "$ sudo ./flash.sh --usb-instance 1-2" in log
    assert "*** The target t186ref has been flashed successfully. ***" in log
    out = capsys.readouterr().out
    assert "Flashing target device started." in out
    assert "record: flash/" in out


def test_without_root_it_goes_through_sudo(bench: Bench) -> None:
    bench.with_sudo()
    bench.plug_in("1-2")
    assert bench.flash() == 0
    assert list(bench.partitions()) == ["1-2"]


def test_the_module_can_be_named_by_the_image(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.plug_in("1-2")
    assert "name it with --module: P3310-1000 (Jetson TX2), P3636" in bench.refused(capsys, module=None)
    record = bench.image / "image.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"module": "P3310"}))
    assert bench.flash(module=None) == 0


def test_reuse_writes_what_was_made_and_nothing_else(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.plug_in("1-2")
    assert "system.img: no such file; flash once without reuse" in bench.refused(capsys, "--reuse").lower()
    assert bench.flash() == 0
    first = bench.partitions()["1-2"]
    (bench.tree / "rootfs/etc/hostname").write_text("changed\n")
    bench.plug_in("1-3")
    assert bench.flash("-r") == 0
    assert bench.partitions()["1-3"] == first
    assert bench.records()[-1]["commands"] == ["sudo ./flash.sh -r --usb-instance 1-3 jetson-tx2-devkit mmcblk0p1"]
    (bench.tree / "bootloader/system.img").write_bytes(b"of something else")
    bench.plug_in("1-4")
    assert "was not made from this image" in bench.refused(capsys, "-r")


def test_several_modules_are_flashed_in_turn(bench: Bench) -> None:
    for instance in ("1-2", "1-3.1", "2-1"):
        bench.plug_in(instance)
    assert bench.flash("--usb-instance", "1-2,2-1") == 0
    assert sorted(bench.partitions()) == ["1-2", "2-1"]
    assert [record["commands"][0].split()[2] for record in bench.records()] == ["--usb-instance", "-r"]
    assert (bench.usb / "1-3.1").is_dir()


def test_a_failure_leaves_the_modules_after_it_alone(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    for instance in ("1-2", "1-3"):
        bench.plug_in(instance)
    bench.fault("step:6")
    line = bench.refused(capsys, "--usb-instance", "1-2,1-3")
    assert "(at USB 1-2; done before it: none; not touched: 1-3)" in line
    assert [record["usb_instance"] for record in bench.records()] == ["1-2"]


def test_a_clone_comes_back(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    board = bench.small_board()
    bench.plug_in("1-2")
    (bench.storage / "1-2").mkdir(parents=True)
    (bench.storage / "1-2/APP").write_bytes(b"as it flew" * 1000)
    assert bench.flash("--clone", "backup.img", "--image", "images/jetson-tx2", board=board) == 0
    assert Path("backup.img").read_bytes() == Path("backup.img.raw").read_bytes() == b"as it flew" * 1000
    assert not list(bench.folder.glob("backup.img.part*"))
    for name in ("backup.img", "backup.img.raw"):  # hash and wireless password of the drone are in it
        assert Path(name).stat().st_mode & 0o777 == 0o600
    bench.plug_in("1-3")
    restore = ("--usb-instance", "1-3", "--restore", "backup.img", "--image", "images/jetson-tx2")
    assert bench.flash(*restore, board=board) == 0
    assert bench.partitions()["1-3"] == b"as it flew" * 1000
    cloned, restored = bench.records()
    assert cloned["file_sha256"] == restored["file_sha256"]
    assert cloned["commands"][0].startswith("sudo ./flash.sh -r --usb-instance 1-2 -k APP -G ")
    bench.plug_in("1-4")
    assert _mode(bench) == 0o600
    assert "was not made from this image" in bench.refused(capsys, "-r", "--usb-instance", "1-4")
    assert "is there already" in bench.refused(capsys, "--clone", "backup.img", "--usb-instance", "1-4")
    assert "no such file, or empty" in bench.refused(capsys, "--restore", "nothing.img", "--usb-instance", "1-4")


def test_what_is_flashed_is_for_root_alone_to_read(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.plug_in("1-2")
    bench.fault("step:6")  # after it was made
    bench.refused(capsys)
    assert _mode(bench) == 0o600
    bench.fault("")
    bench.with_sudo()
    assert bench.flash() == 0
    assert _mode(bench) == 0o600
    bench.plug_in("1-3")
    assert bench.flash("-r", "--usb-instance", "1-3") == 0


def test_nobody_looks_into_a_clone_while_it_is_read(bench: Bench) -> None:
    board = bench.small_board()
    bench.plug_in("1-2")
    (bench.storage / "1-2").mkdir(parents=True)
    (bench.storage / "1-2/APP").write_bytes(b"as it flew")
    mksparse = bench.tree / "bootloader/mksparse"
    mksparse.write_text(mksparse.read_text().replace("\n", f"\nstat -c %a {bench.folder}/*.part >&2\n", 1))
    assert bench.flash("--clone", "backup.img", "--image", "images/jetson-tx2", board=board) == 0
    log = Path(bench.records()[0]["log"]).read_text()
    assert "-G " + str(bench.folder / "backup.img.part/backup.img") in log
    assert "\n700\n" in log


def _mode(bench: Bench) -> int:
    return (bench.tree / "bootloader/system.img").stat().st_mode & 0o777


def test_a_clone_that_fails_leaves_no_file(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    board = bench.small_board()
    bench.plug_in("1-2")
    (bench.folder / "backup.img.part").write_bytes(b"of a run that was killed")
    line = bench.refused(capsys, "--clone", "backup.img", "--image", "images/jetson-tx2", board=board)
    assert "./flash.sh: exit status 1, Failed to flash/read t186ref." in line  # the module was never flashed
    assert not list(bench.folder.glob("backup.img*"))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("disk-full", "10240 bytes: No space left on device; free some space on that disk and run it again"),
        ("step:1", r"Reading ECID failed \(fault injected at step 1\).; see flash/.*log"),
        ("step:4", r"Making system.img failed \(fault injected at step 4\).; see flash/.*log"),
        ("leaves-recovery:1", "probing the target board failed.; put the module into recovery mode again"),
        ("leaves-recovery:5", "Error: Return value 8; put the module into recovery mode again"),
    ],
)
def test_a_script_that_fails_says_what_would_do(
    bench: Bench, capsys: pytest.CaptureFixture[str], fault: str, message: str
) -> None:
    bench.plug_in("1-2")
    bench.fault(fault)
    line = bench.refused(capsys)
    assert re.search(r"./flash.sh: exit status 14?, .*" + message, line), line
    (record,) = bench.records()
    assert (record["result"], record["ended"] is not None) == ("failed", True)
    assert record["error"] in line


def test_another_module_by_its_eeprom_is_not_written(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A TX2 NX shows the USB id of a TX2: only its EEPROM tells them apart."""
    bench.plug_in("1-2")
    bench.environment(L4T_STAND_IN_EEPROM="3636 100 0001 B.0")
    bench.fault("waits:3")
    line = bench.refused(capsys)
    assert "USB 1-2: its EEPROM says P3636-0001, not P3310-1000; stopped before it was written" in line
    assert bench.records()[0]["result"] == "failed"
    assert (bench.usb / "1-2").is_dir()


def test_a_record_is_there_while_it_runs(bench: Bench) -> None:
    """So that a computer that loses power leaves word of what was begun."""
    bench.plug_in("1-2")
    (bench.tree / "jetson-tx2-devkit.conf").write_text(
        (bench.tree / "jetson-tx2-devkit.conf").read_text() + f"cp {bench.folder}/flash/*.json {bench.folder}/seen\n"
    )
    assert bench.flash() == 0
    seen = json.loads((bench.folder / "seen").read_text())
    assert (seen["result"], seen["ended"], seen["usb_instance"]) == ("running", None, "1-2")


def test_an_orin_nano_is_a_file_and_not_a_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orin = Bench(tmp_path, monkeypatch, "jetson-orin-nano")
    orin.plug_in("3-1", "0955:7523", serial="1424321084711")
    orin.plug_in("3-2", "0955:7523")
    assert orin.flash("--usb-instance", "3-1", module=None) == 0
    assert list(orin.partitions()) == ["3-1"]
    (record,) = orin.records()
    assert record["commands"] == [
        "sudo ./tools/kernel_flash/l4t_initrd_flash.sh --usb-instance 3-1 --external-device nvme0n1p1 "
        "-c tools/kernel_flash/flash_l4t_t234_nvme.xml -p '-c bootloader/generic/cfg/flash_t234_qspi.xml' "
        "--network usb0 jetson-orin-nano-devkit-super internal"
    ]
    assert (record["l4t"], record["ecid"]) == ("36.4.3", "0x80012344705DF1975C000000110300C0")


def test_an_orin_nano_says_how_it_is_cloned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    orin = Bench(tmp_path, monkeypatch, "jetson-orin-nano")
    orin.plug_in("3-1", "0955:7523")
    assert "l4t_backup_restore.sh" in orin.refused(capsys, "--clone", "backup.img", module=None)


def test_it_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'numpy', 'cv2', 'pipeline', 'typer']));"
        "from jetson.__main__ import main; sys.exit(main(['flash', '--help']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--usb-instance" in done.stdout


def test_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "flash" in capsys.readouterr().out
    assert main(["fly"]) == 2


def test_an_image_that_root_made_is_flashed_by_a_user_and_noted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make image` runs as root, `make flash` as a person: the folder of the image is not theirs to write."""

    def not_ours(path: Path, *_words: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("jetson.flash.image.new_file", not_ours)
    bench.with_sudo()
    bench.plug_in("1-2")
    assert bench.flash() == 0
    assert bench.records()[-1]["result"] == "done"
    bench.plug_in("1-3")
    assert bench.flash("--reuse", "--usb-instance", "1-3") == 0
    assert not [path.name for path in (bench.folder / "flash").iterdir() if path.suffix not in (".json", ".log")]
