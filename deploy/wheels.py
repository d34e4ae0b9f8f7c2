"""`skylight-detect wheels`: the libraries that a board does not bring, from a folder of wheels, without a network.

A list, made for the board, pins every wheel by name, version and SHA-256, in the format of pip's requirements. They are
unpacked into one folder of their own, which the command has before the system's libraries: nothing of the system is
changed, and pip, whose version on Ubuntu 18.04 cannot read the newer names of wheels, is not needed. Knows nothing of
what is in them.
"""

import argparse
import hashlib
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

from deploy.compiled import compile_folder
from deploy.errors import refuse
from deploy.files import new_folder

LIST = Path("/usr/share/skylight/wheels.txt")
TARGET = Path("/usr/lib/skylight/wheels")

EXAMPLES = """examples:
  sudo skylight-detect wheels /media/stick/wheels

The first lines of the list say which machines it is for; docs/package.md, how the folder is filled.
"""

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([A-Za-z0-9.+!-]+)((?: --hash=sha256:[0-9a-f]{64})+)$")
_PYTHON = re.compile(r"^# python: (\d+\.\d+)", re.MULTILINE)
_LIMIT = 2**30  # bytes that a wheel may hold, unpacked


class Pin(NamedTuple):
    """A line of the list. name: normalised, as wheels' names are compared. hashes: SHA-256, any of which will do."""

    name: str
    version: str
    hashes: Tuple[str, ...]


def read_list(path: Path) -> Tuple[List[Pin], Optional[str]]:
    """The pins of a list, and the version of Python that it is for, "3.6", or None. Raises UserError for a bad line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        raise refuse(path, reason, "give the list of the board, jetson/package/wheels/*.txt") from None
    pins = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _PIN.match(line.strip())
        if found is None:
            raise refuse("{}:{}".format(path, number), line.strip()[:80], "write NAME==VERSION --hash=sha256:DIGITS")
        hashes = tuple(re.findall(r"sha256:([0-9a-f]{64})", found.group(3)))
        pins.append(Pin(_normal(found.group(1)), found.group(2), hashes))
    python = _PYTHON.search(text)
    return pins, python.group(1) if python else None


def find_wheels(pins: List[Pin], folder: Path) -> List[Path]:
    """The wheel of each pin in `folder`. Raises UserError where one is missing, or is another than was pinned."""
    wheels = [path for path in sorted(folder.glob("*.whl")) if path.name.count("-") >= 4]
    if not wheels:
        raise refuse(folder, "holds no wheel (*.whl)", "fill it as docs/package.md says")
    return [_find(pin, wheels, folder) for pin in pins]


def unpack_wheels(wheels: List[Path], target: Path) -> None:
    """Let `target` hold what is in the wheels and nothing else. Raises UserError for a wheel that is none."""
    with new_folder(target) as part:
        for wheel in wheels:
            try:
                with zipfile.ZipFile(str(wheel)) as archive:
                    _unpack(archive, wheel, part)
            except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError):
                raise refuse(wheel, "is no wheel", "download it again") from None
        for folder in [path for path in part.rglob("*") if path.is_dir()]:
            folder.chmod(0o755)  # whatever the umask is: the service is another user


def _find(pin: Pin, wheels: List[Path], folder: Path) -> Path:
    named = "{}=={}".format(pin.name, pin.version)
    same = [path for path in wheels if (_normal(path.name.split("-")[0]), path.name.split("-")[1]) == pin[:2]]
    if not same:
        raise refuse(folder, "holds no wheel of " + named, "fill it as docs/package.md says")
    for path in same:
        if hashlib.sha256(path.read_bytes()).hexdigest() in pin.hashes:
            return path
    raise refuse(same[0], "is not the {} that the list pins".format(named), "download it again, for the board")


def _unpack(archive: zipfile.ZipFile, wheel: Path, target: Path) -> None:
    """The libraries of a wheel: its top, and the purelib and platlib of its data folder; no scripts, no headers."""
    members = archive.infolist()
    if sum(member.file_size for member in members) > _LIMIT:
        raise refuse(wheel, "holds more than {} MiB".format(_LIMIT // 2**20), "download it again")
    for member in sorted(members, key=lambda one: one.filename):
        parts = member.filename.split("/")
        if member.filename.startswith("/") or ".." in parts or "\\" in member.filename:
            raise refuse(wheel, "holds {!r}".format(member.filename[:80]), "take a wheel from a source you trust")
        if parts[0].endswith(".data"):
            if len(parts) < 3 or parts[1] not in ("purelib", "platlib"):
                continue
            parts = parts[2:]
        if member.filename.endswith("/"):
            continue
        path = target.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, path.open("wb") as file:
            shutil.copyfileobj(source, file)
        path.chmod(0o644)


def _normal(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("folder", type=Path, help="that holds the wheels")
    parser.add_argument("--list", type=Path, default=LIST, metavar="FILE", help="pins [%(default)s]")
    parser.add_argument("--target", type=Path, default=TARGET, metavar="FOLDER", help="unpacked there [%(default)s]")


def run(arguments: argparse.Namespace) -> int:
    """Unpack the libraries that this board does not bring, from wheels that were checked by SHA-256.

    Returns the exit status. Raises UserError for a list of another Python, and for a wheel that is missing or another.
    """
    pins, python = read_list(arguments.list)
    mine = "{}.{}".format(*sys.version_info)
    if python is not None and python != mine:
        raise refuse(
            arguments.list, "is for Python {}, this is {}".format(python, mine), "take the package of the board"
        )
    wheels = find_wheels(pins, arguments.folder)
    unpack_wheels(wheels, arguments.target)
    compile_folder(arguments.target)
    for pin in pins:
        print("{} {}".format(pin.name, pin.version))
    print("{}: {} libraries".format(arguments.target, len(pins)))
    return 0
