"""What is in the Debian package: each file with its path on the drone. Knows nothing of how a package is written."""

import gzip
from pathlib import Path
from typing import NamedTuple

import deploy
from deploy.cli import COMMANDS
from jetson.board import Board
from jetson.package.lists import wheel_list
from jetson.package.version import version

__all__ = ["CONFFILES", "CONFIGURATION", "NAME", "Entry", "package_files"]

NAME = "skylight-detect"
CONFIGURATION = "etc/skylight/detect.ini"
CONFFILES = (CONFIGURATION, "etc/sudoers.d/skylight")

_HERE = Path(__file__).parent
_DEPLOY = Path(deploy.__file__).parent
# What lies in deploy/ and does not fly: how it is installed by pip, and what Python, pip and tests leave.
_LEFT_OUT = ("setup.py", "__pycache__", "build", "dist", "tests")
_LEFT_OUT_ENDS = (".pyc", ".egg-info", "~")


class Entry(NamedTuple):
    """A file. content: its bytes. mode: its permissions."""

    content: bytes
    mode: int


def package_files(board: Board) -> dict[str, Entry]:
    """Every file of the package by its path, without the first slash, sorted."""
    files = {f"usr/lib/skylight/deploy/{path}": content for path, content in _deploy_files().items()}
    files["usr/lib/skylight/deploy/version.py"] = _version_file()
    wheels = wheel_list(board)
    if wheels is not None:
        files["usr/share/skylight/wheels.txt"] = wheels.read_bytes()
    files[CONFIGURATION] = (_HERE / "skylight-detect.ini").read_bytes()
    files["lib/systemd/system/skylight-detect.service"] = (_HERE / "skylight-detect.service").read_bytes()
    files["lib/udev/rules.d/60-skylight.rules"] = (_HERE / "debian/60-skylight.rules").read_bytes()
    files["usr/share/doc/skylight-detect/copyright"] = (_HERE / "debian/copyright").read_bytes()
    files["usr/share/man/man1/skylight-detect.1.gz"] = gzip.compress(_manual().encode(), mtime=0)
    entries = {path: Entry(content, 0o644) for path, content in files.items()}
    entries["etc/sudoers.d/skylight"] = Entry((_HERE / "sudoers.d/skylight").read_bytes(), 0o440)
    entries["usr/bin/skylight-detect"] = Entry((_HERE / "debian/skylight-detect").read_bytes(), 0o755)
    return dict(sorted(entries.items()))


def _deploy_files() -> dict[str, bytes]:
    """All of deploy/ that flies, by its path there: by rule, so that what is added to it comes along."""
    found = {}
    for path in sorted(_DEPLOY.rglob("*")):
        inside = path.relative_to(_DEPLOY)
        if path.is_file() and not any(_is_left_out(part) for part in inside.parts):
            found[str(inside)] = path.read_bytes()
    return found


def _version_file() -> bytes:
    """deploy/version.py with the package's version in it, in one line."""
    return f'"""The version of this package."""\n\nVERSION = "{version()}"\n'.encode()


def _is_left_out(name: str) -> bool:
    return name in _LEFT_OUT or name.startswith(".") or name.endswith(_LEFT_OUT_ENDS)


def _manual() -> str:
    """The man page: the commands as the program lists them."""
    commands = "\n".join(f".TP\n.B {_roff(name)}\n{_roff(about)}" for name, (_, about) in COMMANDS.items())
    return f""".TH SKYLIGHT\\-DETECT 1 "" "Skylight {version()}" "User Commands"
.SH NAME
skylight\\-detect \\- a detector in flight
.SH SYNOPSIS
.B skylight\\-detect
.RI [ COMMAND ] " OPTIONS"
.SH DESCRIPTION
Runs a bundle that skylight export made: camera to autopilot, or a video into files.
.B skylight\\-detect COMMAND \\-\\-help
says more of each command;
.B run
is meant where none is named.
.SH COMMANDS
{commands}
.SH FILES
.TP
.I /etc/skylight/detect.ini
Settings; all of them are listed there, commented out.
.TP
.I /etc/skylight/trusted_keys
Public keys. Where this folder is, only bundles that one of them signed are taken; without it, every bundle is.
.TP
.I /var/lib/skylight
Bundles, engines and flights.
.TP
.I /usr/share/skylight/wheels.txt
Libraries that the board does not bring, for
.BR "skylight\\-detect wheels" .
.SH EXIT STATUS
0 done, 2 something you can put right (one line says what), 130 stopped by Ctrl\\-C.
"""


def _roff(text: str) -> str:
    return text.replace("\\", "\\\\").replace("-", "\\-")
