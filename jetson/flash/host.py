"""Whether this computer can flash: machine, system, virtual machine, commands, root, free space. Changes nothing."""

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from jetson.flash.steps import FlashSteps

__all__ = ["Host", "folder_bytes", "host_obstacles", "host_warnings", "space_obstacles", "this_host"]

# Where systemd-detect-virt is not there: makers and products that virtual machines name (systemd, src/basic/virt.c).
_VIRTUAL = r"QEMU|KVM|VMware|VMW|innotek|VirtualBox|Xen|Bochs|Parallels|BHYVE|Virtual Machine|Google Compute|Amazon EC2"
_GIB = 1 << 30


@dataclass(frozen=True)
class Host:
    """What matters of a computer.

    Attributes:
        system, machine: "Linux", "x86_64".
        release: "Ubuntu 18.04"; None if unknown.
        virtual: what kind of virtual machine it is; None if it is none.
        uid: of the user; 0 is root.
        path: where commands are looked for.
    """

    system: str
    machine: str
    release: str | None
    virtual: str | None
    uid: int
    path: str


def this_host(root: Path = Path("/")) -> Host:
    """Look at the computer that this runs on; root: in place of /, for etc, proc and sys."""
    return Host(
        platform.system(),
        platform.machine(),
        _release(root),
        virtual_machine(root),
        os.getuid(),
        os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")),  # where root looks too
    )


def virtual_machine(root: Path = Path("/")) -> str | None:
    """The kind of virtual machine that this is, None if it is none."""
    if "microsoft" in _text(root / "proc/sys/kernel/osrelease").casefold():
        return "wsl"
    detect = shutil.which("systemd-detect-virt") if root == Path("/") else None
    if detect:
        done = subprocess.run([detect, "--vm"], capture_output=True, text=True, check=False)
        kind = done.stdout.strip()
        if kind:  # it ends with 1 where it says none
            return None if kind == "none" else kind
    for name in ("sys_vendor", "product_name", "bios_vendor"):
        found = re.search(_VIRTUAL, _text(root / "sys/class/dmi/id" / name), re.IGNORECASE)
        if found:
            return found[0]
    return None


def host_obstacles(steps: FlashSteps, host: Host, force_vm: bool = False) -> list[str]:
    """What keeps this computer from flashing, in a line each: the thing, what was found, what would do.

    force_vm: flash from a virtual machine all the same.
    """
    found = []
    if (host.system, host.machine) != ("Linux", "x86_64"):
        found.append(f"this computer: {host.system} {host.machine}; NVIDIA's programs need Linux on x86_64")
    if host.virtual and not force_vm:
        remedy = "USB breaks off there when the module restarts; flash from a real computer, or give --force-vm"
        found.append(f"this computer: a virtual machine ({host.virtual}); {remedy}")
    missing = [name for name in steps.needs if shutil.which(name, path=host.path) is None]
    if missing:
        packages = " ".join(dict.fromkeys(steps.needs[name] for name in missing))
        found.append(f"commands: {', '.join(missing)} not found; apt-get install {packages}")
    if host.uid != 0 and shutil.which("sudo", path=host.path) is None:
        found.append("root: you are not, and there is no sudo; run it as root, or apt-get install sudo")
    return found


def space_obstacles(needed: dict[Path, int]) -> list[str]:
    """What is missing on disks, in a line each. needed: bytes by a folder on the disk."""
    found = []
    for folder, count in needed.items():
        free = shutil.disk_usage(folder).free
        if free < count:
            what = f"{free / _GIB:.1f} GiB free, {count / _GIB:.1f} needed"
            found.append(f"{folder}: {what}; free some space on its disk")
    return found


def host_warnings(steps: FlashSteps, host: Host) -> list[str]:
    """What NVIDIA does not promise to work here, in a line each."""
    if host.release and host.release.removeprefix("Ubuntu ") not in steps.hosts:
        return [f"this computer: {host.release}; NVIDIA flashes this L4T from Ubuntu {' and '.join(steps.hosts)}"]
    return []


def folder_bytes(folder: Path) -> int:
    """Bytes that the files below a folder take on disk; what cannot be read counts as nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512  # noqa: PTH118 -- hundreds of thousands
            except OSError:
                continue
    return total


def _release(root: Path) -> str | None:
    lines = _text(root / "etc/os-release").splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    name = values.get("NAME", "").strip('"')
    return f"{name} {values.get('VERSION_ID', '').strip(chr(34))}".strip() or None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
