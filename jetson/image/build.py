"""Makes an image: NVIDIA's tree in steps, and beside it manifest.txt and image.json, which flashing reads.

OUT/Linux_for_Tegra     NVIDIA's tree; rootfs/ in it is what the drone boots
OUT/manifest.txt        every file of rootfs/ with mode, owner and hash
OUT/image.json          board, L4T, the SHA-256 of manifest.txt, what it was made from
OUT/steps, OUT/image.log
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from deploy.errors import refuse
from deploy.files import new_file
from deploy.life.install import install
from deploy.wheels import unpack_wheels
from jetson.flash.image import RECORD, TREE, read_image, require_board, tree_version
from jetson.image.accounts import create_user
from jetson.image.compiled import compile_sources
from jetson.image.configure import configure, store_folder
from jetson.image.job import Job
from jetson.image.manifest import write_manifest
from jetson.image.packages import install_packages
from jetson.image.steps import Step, carry_out
from jetson.image.tree import make_folder, remove_tree, write
from jetson.package.build import build_package, epoch, package_name
from jetson.package.contents import NAME
from jetson.package.offline import install_offline
from jetson.package.version import version
from jetson.runner import Command, Runner

__all__ = ["build_image", "image_steps"]

_MANIFEST = "manifest.txt"
# What useradd and dpkg keep of the file before; with a hash that the image does not have. Then what tells the time of
# day: logs, and a cache of ldconfig's with inodes in it, which it makes again.
_LEFTOVERS = (
    *("etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-"),
    *("var/log/dpkg.log", "var/log/alternatives.log", "var/log/apt/history.log", "var/log/apt/term.log"),
    "var/cache/ldconfig/aux-cache",
)
_DPKG_LEFTOVERS = ("status-old", "available-old", "diversions-old", "statoverride-old")


def build_image(job: Job, say: Callable[[str], None]) -> Path:
    """Make the image, from the first step that has to be done; returns the path of its record.

    Raises:
        UserError: a step failed, or another process makes it; the tree stays and the message says how to go on.
    """
    out = job.request.out
    _require_ours(out)
    out.mkdir(parents=True, exist_ok=True)
    _close(out)
    (out / "image.log").touch(mode=0o600)
    with _alone(out), (out / "image.log").open("a") as log:
        steps = image_steps(job, log)
        carry_out(steps, out, say)
        require_board(read_image(out), job.request.board)
    return out / RECORD


def image_steps(job: Job, log: TextIO) -> list[Step]:
    """The steps of a job."""
    runner = Runner(log)
    return [*_nvidia_steps(job, runner), *_drone_steps(job, runner, log)]


def _nvidia_steps(job: Job, runner: Runner) -> list[Step]:
    tree, hostname, name = job.request.out / TREE, job.hostname, job.request.system.user.name
    user: dict[str, object] = {"name": name, "hostname": hostname, "ways": job.hashes["user"], "epoch": epoch()}
    user["program"] = _program()
    return [
        Step(
            "driver",
            "unpack NVIDIA's driver package",
            {"sha256": job.hashes["l4t"]},
            lambda: _driver(job, runner),
            starts_anew=True,
        ),
        Step(
            "rootfs",
            "unpack the sample root file system",
            {"sha256": job.hashes["rootfs"]},
            lambda: _rootfs(job, runner),
            starts_anew=True,
        ),
        Step("binaries", "apply_binaries.sh", {}, lambda: _binaries(tree, runner)),
        Step(
            "user",
            f"user {name}",
            user,
            lambda: create_user(tree, job.request.system, hostname, runner),
            can_repeat=False,
        ),
    ]


def _drone_steps(job: Job, runner: Runner, log: TextIO) -> list[Step]:
    request, hashes = job.request, job.hashes
    out, root = request.out, request.out / TREE / "rootfs"
    package = _package(job, log)
    secrets = {"user": {"ssh_key", "password_hash"}, "wifi": {"password"}}  # their hashes stand for them
    mode = job.power_mode.id if job.power_mode else None
    whole = {"system": request.system.model_dump(mode="json", exclude=secrets), "wifi": hashes["wifi"]}
    packages = Step(
        "packages",
        f"{len(job.debs)} packages of the board",
        {"sha256": hashes["packages"]},
        lambda: install_packages(root, job.debs, runner),
        can_repeat=False,
    )
    return [
        packages,
        Step(
            "runtime",
            package.name,
            {"sha256": hashlib.sha256(package.read_bytes()).hexdigest()},
            lambda: install_offline(package, root, out, runner),
        ),
        Step("wheels", f"{len(job.wheels)} libraries", {"sha256": hashes["wheels"]}, lambda: _wheels(job, root)),
        Step("compiled", "compile what flies", {"epoch": epoch()}, lambda: compile_sources(root, runner)),
        Step(
            "bundle",
            f"bundle {job.bundle.name}-{job.bundle.version}",
            {name: hashes[name] for name in ("bundle", "settings", "trusted")},
            lambda: _bundle(job, root),
        ),
        Step(
            "system",
            f"{job.hostname}: network, time, power, disks, service",
            {**whole, "hostname": job.hostname, "power_mode": mode},
            lambda: configure(root, request.system, job.hostname, job.power_mode),
        ),
        Step("manifest", "list every file", {"module": request.module}, lambda: _manifest(job, out, root)),
    ]


def _package(job: Job, log: TextIO) -> Path:
    """Make the package, in place of one of another version."""
    out, board = job.request.out, job.request.board
    for path in out.glob(f"{NAME}_*.deb"):
        path.unlink()
    return build_package(board, out / package_name(board), log)


def _program() -> str:
    """A hash of what makes images: where it was mended, an image that was made before is made anew."""
    here = Path(__file__).parent
    files = sorted(path for path in (*here.glob("*.py"), *here.glob("files/*")) if path.is_file())
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()


def _driver(job: Job, runner: Runner) -> None:
    tree = job.request.out / TREE
    remove_tree(tree)
    runner.run(_untar(job.l4t, job.request.out))
    if not (tree / "flash.sh").is_file():
        raise refuse(job.l4t, f"holds no {TREE}/flash.sh", "give NVIDIA's driver package as --l4t")
    wanted, found = job.request.board.versions.get("l4t"), tree_version(tree)
    if found != wanted:
        raise refuse(job.l4t, f"is L4T {found}; {job.request.board.name} has {wanted}", "take that one")


def _rootfs(job: Job, runner: Runner) -> None:
    root = job.request.out / TREE / "rootfs"
    remove_tree(root)
    root.mkdir(mode=0o755)
    runner.run(_untar(job.rootfs, root))
    if not (root / "etc/passwd").is_file():
        raise refuse(job.rootfs, "holds no etc/passwd", "give NVIDIA's sample root file system as --rootfs")


def _untar(archive: Path, folder: Path) -> Command:
    words = ("tar", "--numeric-owner", "--same-owner", "-xpf", str(archive.resolve()))
    return Command(words, folder=folder)


def _binaries(tree: Path, runner: Runner) -> None:
    runner.run(Command(("./apply_binaries.sh",), folder=tree, as_root=True))


def _wheels(job: Job, root: Path) -> None:
    if job.wheels:
        unpack_wheels(list(job.wheels), root / "usr/lib/skylight/wheels")


def _bundle(job: Job, root: Path) -> None:
    """Into the store, as the drone's own command does it; the golden frames are run by the drone before it flies."""
    folder = root / store_folder(job.request.system)
    remove_tree(folder / "bundles")
    make_folder(folder)
    install(job.bundle.root, folder / "bundles", job.keys, trial=lambda _path: None)
    uid, gid = _owner(root)
    for path in [folder / "bundles", *(folder / "bundles").rglob("*")]:  # what lies beside is not the service's
        _give(path, uid, gid)
    if job.request.settings is not None:
        write(root / "etc/skylight/detect.ini", job.request.settings.read_bytes())
    for key in job.key_files:
        write(root / "etc/skylight/trusted_keys" / key.name, key.read_bytes())


def _give(path: Path, uid: int, gid: int) -> None:
    os.chown(path, uid, gid, follow_symlinks=False)


def _owner(root: Path) -> tuple[int, int]:
    """Numbers of the service's user in the image."""
    for line in (root / "etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[0] == "skylight":
            return int(fields[2]), int(fields[3])
    raise refuse(root / "etc/passwd", "has no user skylight", "the package did not make it: see image.log")


def _manifest(job: Job, out: Path, root: Path) -> None:
    for name in _LEFTOVERS:
        (root / name).unlink(missing_ok=True)
    for name in _DPKG_LEFTOVERS:
        (root / "var/lib/dpkg" / name).unlink(missing_ok=True)
    sha256 = write_manifest(root, out / _MANIFEST)
    record = {
        "schema": 1,
        "board": job.request.board.name,
        "l4t": tree_version(out / TREE),
        "sha256": sha256,
        "version": version(),
        "module": job.request.module,
        "bundle": f"{job.bundle.name}-{job.bundle.version}",
        "hostname": job.hostname,
        "user": job.request.system.user.name,
        "inputs": {name: value for name, value in job.hashes.items() if name not in ("user", "wifi")},
    }
    with new_file(out / RECORD) as path:
        path.write_text(json.dumps(record, indent=1) + "\n")


def _require_ours(out: Path) -> None:
    """Refuse a folder that holds something else: its Linux_for_Tegra would be removed."""
    if out.is_dir() and any(out.iterdir()) and not (out / "steps").is_dir() and not (out / "image.log").exists():
        raise refuse(out, "is not empty and holds no image", "give a new folder as --out")


def _close(out: Path) -> None:
    """Let nobody in but root and the group of who called sudo: what NVIDIA's scripts make in it anybody might read."""
    group = os.environ.get("SUDO_GID", "")
    os.chown(out, 0, int(group) if group.isdecimal() else 0)
    out.chmod(0o750)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Only one process makes an image in a folder."""
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refuse(out, "another process makes an image there", "wait for it, or give another --out") from None
        yield
