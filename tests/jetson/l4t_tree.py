"""A stand-in for NVIDIA's driver package, sample root file system and modules in recovery mode; see l4t_stand_in.

Made anew for each test, from the scripts in `l4t_stand_in` and files that only have the right names.
"""

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import NamedTuple

SCRIPTS = Path(__file__).parent / "l4t_stand_in/Linux_for_Tegra"


class Target(NamedTuple):
    """What a board's .conf sets. eeprom: board id, version, SKU, revision, as the module's EEPROM has them."""

    chip: str
    family: str
    eeprom: str


# The EEPROMs: TX2 and Orin Nano from logs of NVIDIA's scripts, the others from the table in nvautoflash.sh (L4T 32.7).
TARGETS = {
    "32": {
        "jetson-tx2-devkit": Target("0x18", "t186ref", "3310 B02 1000 B.0"),
        "jetson-tx2-devkit-tx2i": Target("0x18", "t186ref", "3489 300 0000 A.0"),
        "jetson-tx2-devkit-4gb": Target("0x18", "t186ref", "3489 300 0888 F.0"),
        "jetson-xavier-nx-devkit-tx2-nx": Target("0x18", "t186ref", "3636 100 0001 B.0"),
        "jetson-xavier-nx-devkit": Target("0x19", "t186ref", "3668 100 0000 A.0"),
        "jetson-xavier-nx-devkit-emmc": Target("0x19", "t186ref", "3668 100 0001 A.0"),
        "jetson-nano-devkit": Target("0x21", "t210ref", "3448 200 0000 A.0"),
        "jetson-nano-devkit-emmc": Target("0x21", "t210ref", "3448 400 0002 A.0"),
        "jetson-nano-2gb-devkit": Target("0x21", "t210ref", "3448 300 0003 A.0"),
    },
    "36": {"jetson-orin-nano-devkit-super": Target("0x23", "generic", "3767 300 0005 K.2")},
}
_LAYOUTS = {"t186ref": "flash_l4t_t186.xml", "t210ref": "flash_l4t_t210.xml", "generic": "flash_t234_qspi.xml"}


def driver_package(release: str = "32.7.6") -> dict[str, bytes]:
    """Files of the driver package by their path in it, Linux_for_Tegra/...; the scripts are executable."""
    branch, major, minor = release.split(".")
    files = {str(path.relative_to(SCRIPTS)): path.read_bytes() for path in SCRIPTS.rglob("*") if path.is_file()}
    files["nv_tegra/bsp_version"] = f"BSP_BRANCH={branch}\nBSP_MAJOR={major}\nBSP_MINOR={minor}\n".encode()
    banner = f"# R{branch} (release), REVISION: {major}.{minor}, GCID: 1, BOARD: t186ref, EABI: aarch64, DATE: -\n"
    licence = "usr/share/doc/nvidia-tegra/L4T_End_User_License_Agreement.txt"
    drivers = {"etc/nv_tegra_release": banner.encode(), licence: b"A stand-in.\n"}
    files["nv_tegra/nvidia_drivers.tbz2"] = pack(drivers)
    files["nv_tegra/config.tbz2"] = pack({"etc/nvpmodel/stand_in.conf": b"< POWER_MODEL ID=0 NAME=MAXN >\n"})
    files["kernel/Image"] = b"a stand-in for a kernel\n" * 1000
    files["bootloader/nv_boot_control.conf"] = b"TNSPEC none\n"
    files["bootloader/extlinux.conf"] = b"TIMEOUT 30\nLABEL primary\n      APPEND ${cbootargs} quiet\n"
    files["bootloader/mksparse"] = (
        b'#!/bin/sh\n# The raw file as it is: the stand-in has no sparse images.\ncp "$2" "$3"\n'
    )
    files["tools/kernel_flash/flash_l4t_t234_nvme.xml"] = b"<partition_layout/>\n"
    files["rootfs/README.txt"] = b"Unpack the sample root file system here.\n"
    for name, target in TARGETS[branch].items():
        layout = _LAYOUTS[target.family]
        lines = f'CHIPID={target.chip}\nBOARD_FAMILY={target.family}\nEMMC_CFG={layout}\nEEPROM="{target.eeprom}"\n'
        files[f"{name}.conf"] = lines.encode()
        files[f"bootloader/{target.family}/cfg/{layout}"] = b"<partition_layout/>\n"
    return {f"Linux_for_Tegra/{name}": content for name, content in sorted(files.items())}


def sample_root() -> dict[str, bytes]:
    """Files of the sample root file system by their path in it."""
    return {
        "etc/passwd": b"root:x:0:0:root:/root:/bin/bash\n",
        "etc/group": b"root:x:0:\nsudo:x:27:\nvideo:x:44:\n",
        "etc/shadow": b"root:*:18000:0:99999:7:::\n",
        "etc/hostname": b"localhost.localdomain\n",
        "etc/hosts": b"127.0.0.1 localhost\n",
        "etc/lsb-release": b"DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=18.04\n",
        "boot/README": b"\n",
        "lib/systemd/system/multi-user.target": b"[Unit]\nDescription=Multi-User System\n",
        "usr/bin/env": b"a stand-in for a program\n",
    }


def pack(files: dict[str, bytes]) -> bytes:
    """Pack files into a .tbz2 that is the same for the same files, owned by root."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:bz2", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o755 if _is_program(name) else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def make_tarballs(folder: Path, release: str = "32.7.6") -> tuple[Path, Path]:
    """Write driver package and sample root file system as NVIDIA names them; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    package = folder / f"Jetson_Linux_R{release}_aarch64.tbz2"
    package.write_bytes(pack(driver_package(release)))
    root = folder / f"Tegra_Linux_Sample-Root-Filesystem_R{release}_aarch64.tbz2"
    root.write_bytes(pack(sample_root()))
    return package, root


def make_tree(folder: Path, release: str = "32.7.6") -> Path:
    """Unpack both below `folder`, with the binaries applied, as it is before flashing; path of Linux_for_Tegra."""
    _write(folder, driver_package(release))
    tree = folder / "Linux_for_Tegra"
    (tree / "rootfs/README.txt").unlink()
    _write(tree / "rootfs", sample_root())
    (tree / "rootfs/boot/extlinux").mkdir()
    shutil.copy(tree / "bootloader/extlinux.conf", tree / "rootfs/boot/extlinux")
    for name in ("nvidia_drivers", "config"):
        with tarfile.open(tree / f"nv_tegra/{name}.tbz2") as archive:
            archive.extractall(tree / "rootfs", filter="data")
    return tree


def make_image(folder: Path, board: str = "jetson-tx2", release: str = "32.7.6", **more: str) -> Path:
    """The folder of an image as `make image` leaves it: tree and record; more: further keys of the record."""
    make_tree(folder, release)
    record = {"board": board, "l4t": release, "sha256": "5c" * 32, **more}
    (folder / "image.json").write_text(json.dumps(record))
    return folder


def plug_in(usb: Path, instance: str, usb_id: str = "0955:7c18", speed: str = "480", **more: str) -> Path:
    """Put a device into a stand-in for /sys/bus/usb/devices; more: further files, such as serial, product, br_cid."""
    bus, port = instance.split("-")
    vendor, product = usb_id.split(":")
    files = {"idVendor": vendor, "idProduct": product, "busnum": bus, "devpath": port, "speed": speed, **more}
    folder = usb / instance
    folder.mkdir(parents=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")
    return folder


def _is_program(name: str) -> bool:
    return name.endswith((".sh", "mksparse"))


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if _is_program(name) else 0o644)
