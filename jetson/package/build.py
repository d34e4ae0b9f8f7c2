"""Writes the Debian package by dpkg-deb: the same inputs give the same bytes, whoever makes it and when."""

import os
import tempfile
from pathlib import Path
from typing import TextIO

from deploy.files import new_file
from jetson.board import Board
from jetson.package.contents import CONFFILES, NAME, Entry, package_files
from jetson.package.version import version
from jetson.runner import Command, Runner

__all__ = ["EPOCH", "build_package", "package_name"]

EPOCH = 1577836800  # of every file where SOURCE_DATE_EPOCH says nothing: the first second of 2020
_HERE = Path(__file__).parent
_SCRIPTS = ("postinst", "prerm", "postrm")


def package_name(board: Board) -> str:
    """File name of the package of a board."""
    return f"{NAME}_{version()}_{board.name}.deb"


def build_package(board: Board, path: Path, log: TextIO) -> Path:
    """Write the package of a board to `path`; returns it. Needs dpkg-deb, no root.

    Raises:
        UserError: dpkg-deb is not there or refuses.
    """
    with tempfile.TemporaryDirectory(prefix="skylight-package-") as name:
        root = Path(name) / "root"
        files = package_files(board)
        _write_tree(root, files)
        _write_control(root / "DEBIAN", board, files)
        _set_times(root)
        with new_file(path) as part:
            words = ("dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(root), str(part))
            environment = ("env", f"SOURCE_DATE_EPOCH={epoch()}", "LC_ALL=C")
            Runner(log).run(Command((*environment, *words), folder=Path(name)))
    return path


def epoch() -> int:
    """Seconds since 1970 that every file of package and image carries: SOURCE_DATE_EPOCH, or a fixed time."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(given) if given.isdecimal() else EPOCH


def _write_tree(root: Path, files: dict[str, Entry]) -> None:
    for name, entry in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.content)
        path.chmod(entry.mode)


def _write_control(folder: Path, board: Board, files: dict[str, Entry]) -> None:
    folder.mkdir(parents=True)
    size = sum(len(entry.content) + 1023 for entry in files.values()) // 1024
    recommended = board.runtime.packages if board.runtime else ()
    lines = [
        f"Package: {NAME}",
        f"Version: {version()}",
        "Architecture: all",
        "Section: science",
        "Priority: optional",
        "Maintainer: The Skylight authors <skylight@localhost>",
        f"Installed-Size: {size}",
        "Depends: python3 (>= 3.6), passwd",
        # Not Depends: an image is made where JetPack's packages are not at hand, and the command says what it misses.
        # sudo and rsync: for bundles that come over SSH.
        f"Recommends: {', '.join((*recommended, 'sudo', 'rsync'))}",
        f"Description: Skylight detector for {board.title}",
        " Runs a bundle of skylight export in front of a camera and tells the autopilot what it sees: command,",
        " service, user, udev rules and settings.",
    ]
    (folder / "control").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "conffiles").write_text("".join(f"/{path}\n" for path in CONFFILES), encoding="utf-8")
    for name in _SCRIPTS:
        (folder / name).write_bytes((_HERE / "debian" / name).read_bytes())
        (folder / name).chmod(0o755)


def _set_times(root: Path) -> None:
    """Folders get the mode that their files' umask would change, and everything the one time."""
    for path in [root, *sorted(root.rglob("*"))]:
        if path.is_dir():
            path.chmod(0o755)
        elif path.parent.name == "DEBIAN" and path.name not in _SCRIPTS:
            path.chmod(0o644)
        os.utime(path, (epoch(), epoch()))
