"""An arm64 Debian 12 on this machine: root file system, wheels, kernel and initrd, made once and kept in cache/arm64.

Needs root, debootstrap, qemu-user-static and binfmt_misc; packages come from where this machine's apt takes them.
"""

import gzip
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from jetson.board import Board, read_board
from jetson.package.lists import download_command, wheel_list

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "cache/arm64"
_SUITE = "bookworm"
_PACKAGES = "systemd,systemd-sysv,udev,adduser,python3,busybox-static,kmod,dbus"
_PROGRAMS = {"debootstrap": "debootstrap", "qemu-aarch64-static": "qemu-user-static", "dpkg-deb": "dpkg"}


def run(*words: object, seconds: float = 600, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; an exit status other than 0 fails the test with its output."""
    done = subprocess.run(  # type: ignore[call-overload]
        [str(word) for word in words], capture_output=True, text=True, timeout=seconds, check=False, **options
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done


def missing(more: dict[str, str]) -> str | None:
    """Why this machine cannot do it, with the remedy; None where it can. more: further programs, and their package."""
    if os.geteuid() != 0:
        return "needs root"
    lacks = [package for program, package in {**_PROGRAMS, **more}.items() if shutil.which(program) is None]
    if lacks:
        return "apt-get install " + " ".join(lacks)
    handler = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
    if not handler.exists():
        return "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; update-binfmts --enable qemu-aarch64"
    return None


def board(folder: Path) -> Board:
    """Debian 12 on arm64 as a board: what the package and its list of wheels are made for."""
    text = (ROOT / "jetson/boards/workstation.yaml").read_text()
    path = folder / "debian-arm64.yaml"
    path.write_text(
        text.replace("name: workstation\n", "name: debian-arm64\n") + "runtime: {packages: [], wheels: debian-12}\n"
    )
    return read_board(path)


def unpack_root(folder: Path) -> Path:
    """A new root file system in `folder`."""
    folder.mkdir(parents=True)
    run("tar", "-C", folder, "-xpf", root_archive())
    return folder


def wheels(target: Board) -> Path:
    """The folder of wheels that the package's list pins, fetched as it says."""
    pins = wheel_list(target)
    assert pins is not None
    folder = CACHE / f"wheels-{hashlib.sha256(pins.read_bytes()).hexdigest()[:8]}"
    command = shlex.split(download_command(target, str(folder)) or "")
    if not folder.is_dir():
        run(sys.executable, *command[1:], seconds=1200)
    return folder


@contextmanager
def mounted(root: Path) -> Iterator[None]:
    """proc, sys and dev below a root, which ONNX Runtime counts the cores by."""
    with ExitStack() as stack:
        for name, words in {
            "proc": ("-t", "proc", "proc"),
            "sys": ("-o", "bind", "/sys"),
            "dev": ("-o", "bind", "/dev"),
        }.items():
            run("mount", *words, root / name)
            stack.callback(run, "umount", root / name)
        yield


def chroot(root: Path, *words: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a program of a root, emulated."""
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    return run("chroot", root, "/usr/bin/env", "-i", f"PATH={path}", "HOME=/root", *words, **options)  # type: ignore[arg-type]


def kernel() -> tuple[Path, Path]:
    """Debian's arm64 kernel, and the folder of its modules."""
    folder = CACHE / "kernel"
    if not folder.is_dir():
        apt = CACHE / "apt"
        for name in ("state/lists/partial", "archives/partial"):
            (apt / name).mkdir(parents=True, exist_ok=True)
        (apt / "status").write_text("")
        options = [f"Dir::State={apt}/state", f"Dir::State::status={apt}/status", f"Dir::Cache={apt}"]
        options += ["APT::Architecture=arm64", "APT::Architectures=arm64"]
        given = [word for option in options for word in ("-o", option)]
        run("apt-get", *given, "update")
        depends = run("apt-cache", *given, "depends", "linux-image-arm64").stdout
        name = re.findall(r"Depends: (linux-image-\S+)", depends)[0]
        run("apt-get", *given, "download", name, cwd=apt)
        run("dpkg-deb", "-x", next(apt.glob(f"{name}_*.deb")), folder)
    return next((folder / "boot").glob("vmlinuz-*")), next((folder / "lib/modules").iterdir())


def initrd(root: Path, path: Path) -> Path:
    """A small initrd: busybox of `root`, the modules that a virtio disk and ext4 need, and a mount."""
    modules = _with_needed(kernel()[1], ("virtio_pci", "virtio_blk", "ext4", "overlay"))
    lines = ["#!/bin/sh", "/bin/busybox mkdir -p /proc /sys /dev /root", "/bin/busybox mount -t devtmpfs dev /dev"]
    lines += [f"/bin/busybox insmod /{module.name}" for module in modules]
    lines += ["/bin/busybox mount -o rw -t ext4 /dev/vda /root"]
    lines += ["/bin/busybox mount -o move /dev /root/dev", "exec /bin/busybox switch_root /root /sbin/init"]
    files = {"bin/busybox": (root / "usr/bin/busybox").read_bytes(), "init": ("\n".join(lines) + "\n").encode()}
    files |= {module.name: module.read_bytes() for module in modules}
    folders = ["bin", "dev", "root"]
    entries = [_cpio(name, 0o040755, b"") for name in folders]
    entries += [_cpio(name, 0o100755, content) for name, content in files.items()]
    # The kernel runs /bin/sh for the script's first line.
    entries += [_cpio("bin/sh", 0o120777, b"busybox"), _cpio("TRAILER!!!", 0, b"")]
    path.write_bytes(gzip.compress(b"".join(entries), 1))
    return path


def root_archive() -> Path:
    """The root as debootstrap makes it, in a tar archive: some minutes, once."""
    path = CACHE / "root.tar"
    if path.exists():
        return path
    folder = CACHE / "root.part"
    shutil.rmtree(folder, ignore_errors=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    listed = run("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)").stdout.splitlines()
    mirror = next(line.split()[0] for line in listed if line.split()[1:] == [_SUITE, "main"])
    words = (
        "debootstrap",
        "--arch=arm64",
        "--foreign",
        "--variant=minbase",
        f"--include={_PACKAGES}",
        _SUITE,
        folder,
        mirror,
    )
    run(*words, seconds=900)
    run("chroot", folder, "/debootstrap/debootstrap", "--second-stage", seconds=1800)
    for package in (folder / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()
    run("tar", "-C", folder, "-cf", path.with_suffix(".part"), ".")
    path.with_suffix(".part").replace(path)
    shutil.rmtree(folder)
    return path


def _with_needed(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """Files of kernel modules in the order they load in: what a module says it depends on comes before it."""
    found = {path.name.removesuffix(".ko").replace("-", "_"): path for path in folder.rglob("*.ko")}
    order: list[Path] = []

    def add(name: str) -> None:
        if name not in found or found[name] in order:  # what is not a file is built into the kernel
            return
        depends = re.search(rb"\0depends=([^\0]*)\0", b"\0" + found[name].read_bytes())
        for needed in (depends[1].decode() if depends else "").split(","):
            add(needed.replace("-", "_"))
        order.append(found[name])

    # ext4 asks for these by crypto's names, not as modules.
    for name in ("crc32c_generic", "libcrc32c", *names):
        add(name)
    return order


def _cpio(name: str, mode: int, content: bytes) -> bytes:
    """An entry of an archive in the format newc, Documentation/driver-api/early-userspace/buffer-format.rst."""
    numbers = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + content + b"\0" * (-len(content) % 4)
