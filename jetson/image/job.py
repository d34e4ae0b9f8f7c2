"""What an image is to be made from, checked before anything is written."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.bundle import MANIFEST, Bundle, read_bundle
from deploy.errors import refuse
from deploy.signature import PublicKey, trusted_keys
from deploy.wheels import find_wheels, read_list
from jetson.board import Board, PowerMode
from jetson.image.accounts import require_way_in
from jetson.image.fetch import fetch, file_sha256
from jetson.image.system import System, power_mode, secret
from jetson.package.lists import download_command, wheel_list

__all__ = ["Job", "Request", "prepare"]

_TIMES = 6  # a .tbz2 of NVIDIA's takes so much more room when it is unpacked, with something to spare


@dataclass(frozen=True)
class Request:
    """What the person asked for; None where nothing was said.

    Attributes:
        l4t, rootfs: paths or addresses; with the SHA-256 that they must have.
        trusted: folder of public keys, which go into the image.
        settings: file for /etc/skylight/detect.ini.
        wheels: folder; without_wheels: the image gets none.
        packages: folder of .deb files, JetPack's and others.
        any_board: take a bundle that was made for another board.
    """

    board: Board
    bundle: Path
    system: System
    out: Path
    l4t: str | None = None
    l4t_sha256: str | None = None
    rootfs: str | None = None
    rootfs_sha256: str | None = None
    trusted: Path | None = None
    settings: Path | None = None
    wheels: Path | None = None
    without_wheels: bool = False
    packages: Path | None = None
    module: str | None = None
    any_board: bool = False
    accept_licence: bool = False


@dataclass(frozen=True)
class Job:
    """A request whose parts are there and fit together. hashes: of everything that goes in, by name."""

    request: Request
    bundle: Bundle
    keys: tuple[PublicKey, ...] | None
    key_files: tuple[Path, ...]
    l4t: Path
    rootfs: Path
    hostname: str
    power_mode: PowerMode | None
    wheels: tuple[Path, ...]
    debs: tuple[Path, ...]
    hashes: dict[str, str]


def prepare(request: Request, say: Callable[[str], None]) -> Job:
    """Check everything that can be checked before the first step.

    Raises:
        UserError: what is missing or does not fit.
    """
    board, system = request.board, request.system
    if not board.modules:
        raise refuse(board.name, "is no Jetson", "an image is made for a board with modules")
    if not request.accept_licence:
        raise refuse("NVIDIA's licence", "not accepted", "read it in the driver package, and give --accept-licence")
    if os.geteuid() != 0:
        raise refuse("this user", "is not root, whom files of an image belong to", "sudo, with the same words")
    if shutil.which("dpkg") is None:
        raise refuse("dpkg", "not found", "make the image on Debian or Ubuntu")
    ways = require_way_in(system)
    mode = power_mode(system, board)
    keys = trusted_keys(request.trusted) if request.trusted is not None else None
    bundle = read_bundle(request.bundle, keys)
    _require_board(bundle, request)
    wheels = _wheels(request)
    known = board.downloads
    l4t = fetch(request.l4t, known.l4t if known else None, request.l4t_sha256, _downloads(request), say)
    rootfs = fetch(request.rootfs, known.rootfs if known else None, request.rootfs_sha256, _downloads(request), say)
    _require_space(request.out, l4t, rootfs)
    key_files = tuple(sorted(request.trusted.glob("*.pub"))) if request.trusted is not None else ()
    debs = _debs(request.packages)
    secrets = {"user": json.dumps(ways), "wifi": secret(system.wifi.password, "wifi") if system.wifi else None}
    hashes = {
        "l4t": file_sha256(l4t),
        "rootfs": file_sha256(rootfs),
        "bundle": file_sha256(bundle.root / MANIFEST),
        "settings": file_sha256(_settings(request.settings)) if request.settings else "",
        "wheels": _hash_of(wheels),
        "packages": _hash_of(debs),
        "trusted": _hash_of(key_files),
        **{name: _slow_hash(str(value)) for name, value in secrets.items()},
    }
    hostname = system.hostname or board.name
    return Job(request, bundle, keys, key_files, l4t, rootfs, hostname, mode, wheels, debs, hashes)


def _slow_hash(secret: str) -> str:
    """The same for the same secret, and slow to try passwords by: it stands in a record."""
    return hashlib.scrypt(secret.encode(), salt=b"skylight", n=1 << 14, r=8, p=1, dklen=32).hex()


def _downloads(request: Request) -> Path:
    return request.out.parent / "downloads"


def _require_board(bundle: Bundle, request: Request) -> None:
    name = bundle.board["name"]
    if name != request.board.name and not request.any_board:
        remedy = "export one for this board, or give --any-board"
        raise refuse(bundle.root, f"was made for {name}, not {request.board.name}", remedy)


def _wheels(request: Request) -> tuple[Path, ...]:
    path = wheel_list(request.board)
    if path is None or request.without_wheels:
        return ()
    if request.wheels is None:
        remedy = f"fill a folder by: {download_command(request.board)}; give it as --wheels, or --without-wheels"
        raise refuse("--wheels", f"not given, and {request.board.name} does not bring all libraries", remedy)
    return tuple(find_wheels(read_list(path)[0], request.wheels))


def _debs(folder: Path | None) -> tuple[Path, ...]:
    if folder is None:
        return ()
    debs = tuple(sorted(folder.glob("*.deb")))
    if not debs:
        raise refuse(folder, "holds no .deb file", "leave --packages out, or fill it")
    return debs


def _settings(path: Path) -> Path:
    """The settings file, checked where numpy and OpenCV are there, which its sections' files import."""
    if not path.is_file():
        raise refuse(path, "no such file", "give a settings file, docs/drone.md")
    try:
        from deploy.drone_settings import SECTIONS
        from deploy.settings import read_settings
    except ImportError:
        return path
    read_settings(path, SECTIONS)
    return path


def _require_space(out: Path, l4t: Path, rootfs: Path) -> None:
    place = next(folder for folder in [out.absolute(), *out.absolute().parents] if folder.exists())
    needed = _TIMES * (l4t.stat().st_size + rootfs.stat().st_size)
    free = shutil.disk_usage(place).free
    if free < needed and not (out / "steps").exists():
        found = f"{free / 2**30:.1f} GiB free, an image takes about {needed / 2**30:.1f} GiB"
        raise refuse(out, found, "free some space, or give another --out")


def _hash_of(files: tuple[Path, ...]) -> str:
    """One hash of several files, by name and content."""
    text = "".join(f"{path.name} {file_sha256(path)}\n" for path in files)
    return hashlib.sha256(text.encode()).hexdigest()
