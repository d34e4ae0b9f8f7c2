"""What flashing checks before it runs anything: module, image, computer; and what the documentation shows of it."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from flash_bench import Bench
from l4t_tree import make_image

from jetson.board import board_names, read_board
from jetson.flash.carry_out import carry_out
from jetson.flash.host import this_host, virtual_machine
from jetson.flash.job import Request, prepare

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/flash.md"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def shown(title: str) -> str:
    found = re.search(rf"<!-- {title} -->\n```text\n(.*?)```\n", DOCUMENT.read_text(), re.DOTALL)
    assert found, title
    return found[1]


def test_the_documented_dry_run_is_what_is_printed(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.flash("--dry-run") == 0
    assert capsys.readouterr().out == shown("dry run without a module")
    bench.plug_in("1-2", serial="0424618044163")
    assert bench.flash("--dry-run") == 0
    assert capsys.readouterr().out == shown("dry run")


def test_a_dry_run_changes_nothing_and_says_what_would_stop(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.plug_in("1-2.4", speed="12")
    bench.host = dataclasses.replace(
        bench.host, system="Darwin", machine="arm64", uid=1000, path="", virtual="kvm", release="Debian 12"
    )
    before = sorted(bench.folder.rglob("*"))
    assert bench.flash("--dry-run") == 0
    assert sorted(bench.folder.rglob("*")) == before
    out = capsys.readouterr().out
    for line in (
        "stops    this computer: Darwin arm64; NVIDIA's programs need Linux on x86_64",
        "stops    this computer: a virtual machine (kvm); ",
        "stops    commands: python, xmllint, lbzip2, cpp, mkfs.ext4, losetup not found; apt-get install python libxml2",
        "stops    root: you are not, and there is no sudo; ",
        "warning  this computer: Debian 12; NVIDIA flashes this L4T from Ubuntu 16.04 and 18.04",
        "warning  USB 1-2.4: 12 Mbit/s; ",
        "warning  USB 1-2.4: behind a hub; ",
        "  sudo ./flash.sh --usb-instance 1-2.4 jetson-tx2-devkit mmcblk0p1",
    ):
        assert line in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"virtual": "kvm"}, r"a virtual machine \(kvm\); .*--force-vm"),
        ({"machine": "aarch64"}, "Linux aarch64; NVIDIA's programs need Linux on x86_64"),
        (
            {"path": ""},
            r"commands: python, .* not found; apt-get install python libxml2-utils lbzip2 cpp e2fsprogs mount",
        ),
        ({"uid": 1000}, "root: you are not, and there is no sudo"),
    ],
)
def test_a_computer_that_cannot_is_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    bench.plug_in("1-2")
    bench.host = dataclasses.replace(bench.host, **change)
    assert re.search(message, bench.refused(capsys))
    assert bench.records() == []


def test_a_virtual_machine_can_be_forced(bench: Bench) -> None:
    bench.plug_in("1-2")
    bench.host = dataclasses.replace(bench.host, virtual="kvm")
    assert bench.flash("--force-vm") == 0


def test_too_little_space_is_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.plug_in("1-2")
    huge = bench.tree / "rootfs/huge"
    huge.touch()
    monkeypatch.setattr("jetson.flash.job.folder_bytes", lambda _folder: 1 << 60)
    assert re.search(r"GiB free, 2147483649.0 needed; free some space on its disk", bench.refused(capsys))


@pytest.mark.parametrize(
    ("plugged", "words", "message"),
    [
        ({}, (), "module in recovery mode: none is connected; hold its recovery button"),
        ({"1-2": "0955:7020"}, (), "the one at USB 1-2 has booted; hold its recovery button"),
        ({"1-2": "0955:7c18", "1-3": "0955:7c18"}, (), r"2 modules in recovery mode: 1-2 .*, 1-3 .*--usb-instance"),
        ({"1-2": "0955:7e19"}, (), r"is no module of jetson-tx2 \(Jetson Xavier NX.*give BOARD=jetson-xavier-nx"),
        ({"1-2": "0955:7418"}, (), "is no Jetson TX2, but Jetson TX2 4GB; connect that, or correct --module"),
        ({"1-2": "0955:7c18"}, ("--usb-instance", "1-3"), r"no module in recovery mode there; .*1-2 \(0955:7c18\)"),
        ({"1-2": "1234:7c18"}, (), "none is connected"),
        ({"1-2": "0955:7c18"}, ("--usb-instance", "1-2,1-2"), "names one twice"),
        ({"1-2": "0955:7c18"}, ("--usb-instance", "1-2,"), "holds an empty name"),
    ],
)
def test_a_module_that_is_not_identified_is_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str], plugged: dict[str, str], words: tuple[str, ...], message: str
) -> None:
    for instance, usb_id in plugged.items():
        bench.plug_in(instance, usb_id)
    assert re.search(message, bench.refused(capsys, *words))
    assert bench.records() == []


def test_a_module_of_another_board_does_not_disturb(bench: Bench) -> None:
    bench.plug_in("1-2")
    bench.plug_in("1-1", "0955:7e19")
    assert bench.flash() == 0
    assert list(bench.partitions()) == ["1-2"]


@pytest.mark.parametrize("instead", [None, {"devnum": "8"}, {"usb_id": "0955:7418"}, {"serial": "2"}])
def test_a_module_that_leaves_between_check_and_start_is_refused(bench: Bench, instead: dict[str, str] | None) -> None:
    """Gone, plugged in anew, another variant, another module of the same kind."""
    folder = bench.plug_in("1-2", serial="1")
    job = prepare(Request("jetson-tx2", bench.image, module="P3310"), bench.host, bench.usb)
    if instead is None:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    elif "usb_id" in instead:
        (folder / "idProduct").write_text("7418\n")
    else:
        for name, value in instead.items():
            (folder / name).write_text(f"{value}\n")
    with pytest.raises(Exception, match=r"USB 1-2: the module (has left recovery mode|was plugged in anew).*again"):
        carry_out(job, bench.usb, 0, lambda _line: None)
    assert bench.partitions() == {}
    assert bench.records() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("P3489", r"means several; one of: P3310-1000 \(Jetson TX2\), P3489-0000"),
        ("tx9", r"unknown; one of: P3310-1000 \(Jetson TX2\)"),
    ],
)
def test_a_module_must_be_named_clearly(
    bench: Bench, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    bench.plug_in("1-2")
    assert re.search(message, bench.refused(capsys, module=words))


def test_image_board_and_tree_must_agree(bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bench.plug_in("1-2")
    record = bench.image / "image.json"
    good = json.loads(record.read_text())

    def said(**change: str) -> str:
        record.write_text(json.dumps(good | change))
        return bench.refused(capsys)

    assert "is an image for jetson-nano, not jetson-tx2; give that board" in said(board="jetson-nano")
    assert "says L4T 32.7.4, its tree 32.7.6" in said(l4t="32.7.4")
    record.write_text("[]")
    assert "is not the record of an image" in bench.refused(capsys)
    record.write_text(json.dumps(good))
    (bench.tree / "rootfs/etc/nv_tegra_release").write_text("# R32 (release), REVISION: 7.1, GCID: 1\n")
    assert "is L4T 32.7.6, its root file system 32.7.1" in bench.refused(capsys)
    older = make_image(tmp_path / "older", "jetson-tx2", "32.7.4")
    assert "is L4T 32.7.4; jetson-tx2 has 32.7.6" in bench.refused(capsys, "--image", str(older))
    assert "No such file or directory; make an image" in bench.refused(capsys, "--image", str(tmp_path / "none"))
    (bench.tree / "rootfs/etc/nv_tegra_release").unlink()
    (bench.tree / "nv_tegra/bsp_version").unlink()
    assert "says no version of L4T" in bench.refused(capsys)


def test_boards_that_are_not_flashed_say_so(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is nothing that is flashed" in bench.refused(capsys, board="workstation", module=None)


def test_every_jetson_says_how_it_is_flashed() -> None:
    for name in board_names():
        board = read_board(name)
        assert (board.flash is not None) == bool(board.modules) == name.startswith("jetson-")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"write": ["./flash.sh", "{target}"]}, r"flash.write: \{usb\} is missing"),
        ({"write": ["./flash.sh", "{usb}", "{target}", "{disk}"]}, r"flash.write: \{disk\} is unknown; allowed: "),
        ({"clone": None}, "give either clone or"),
    ],
)
def test_a_wrong_flash_section_is_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    import yaml

    path = Path(bench.small_board())
    content = yaml.safe_load(path.read_text())
    content["flash"] |= change
    path.write_text(yaml.safe_dump(content))
    assert bench.flash(board=str(path)) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"sys/class/dmi/id/sys_vendor": "QEMU"}, "QEMU"),
        ({"sys/class/dmi/id/sys_vendor": "Microsoft Corporation", "sys/class/dmi/id/product_name": "Surface"}, None),
        ({"sys/class/dmi/id/product_name": "Virtual Machine"}, "Virtual Machine"),
        ({"sys/class/dmi/id/sys_vendor": "LENOVO", "sys/class/dmi/id/product_name": "20XW"}, None),
        ({"proc/sys/kernel/osrelease": "5.15.90.1-microsoft-standard-WSL2"}, "wsl"),
        ({}, None),
    ],
)
def test_virtual_machines_are_known_by_their_makers(tmp_path: Path, files: dict[str, str], kind: str | None) -> None:
    for name, value in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n")
    assert virtual_machine(tmp_path) == kind


def test_the_system_is_read_from_os_release(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('NAME="Ubuntu"\nVERSION_ID="22.04"\n\nPRETTY_NAME="Ubuntu 22.04.4 LTS"\n')
    assert this_host(tmp_path).release == "Ubuntu 22.04"
    assert this_host(tmp_path / "nothing").release is None
    assert this_host().system
