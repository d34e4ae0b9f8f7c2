"""Copying a bundle to a drone so that a broken-off copy goes on, with rsync or else with sftp.

The drone says of every file of the bundle how much of it is there and which hash that has; only what is missing is
sent. Knows nothing of installing: what was copied is verified again there, against the drone's own trusted keys.
"""

import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.bundle import MANIFEST, Bundle
from deploy.errors import UserError, refuse
from deploy.signature import SIGNATURE
from jetson.push.connection import Answer, Connection, LostError
from jetson.push.questions import Place

__all__ = ["TRIES", "Piece", "copy_bundle", "pieces_of", "sftp_lines", "state_words"]

TRIES = 5  # connections in a row that break before we give up
_PAUSE = 3.0  # seconds between them
_SPARE = 64 * 2**20  # bytes that installing leaves free (deploy/life/install.py); the copy lies there twice for a while
# rsync(1), exit values: socket, protocol stream, timeouts; 255 is ssh's own.
_BROKEN = (10, 12, 30, 35)
# What the drone's disk is blamed for. Where a command fails and says none of it, the connection broke: sftp ends with 1
# then, not with ssh's 255, and says so or nothing.
_TELLING = re.compile(r"denied|no space|quota|read-only|no such file|failure", re.IGNORECASE)
_FULL = re.compile(r"no space|quota", re.IGNORECASE)
_SHOW_EVERY = 5.0  # seconds

# folder, what it is to hold, names. The mark lies beside the folder, in which nothing may be that is not of the bundle.
_STATE = r"""
umask 002
folder=$1 mark=$2
shift 2
[ ! -L "$folder" ] && [ "$(cat "$folder.of" 2>/dev/null)" = "$mark" ] || rm -rf -- "$folder" "$folder.of"
mkdir -p -- "$folder" && printf %s "$mark" >"$folder.of" && cd -- "$folder" || exit 3
number=0
for name; do
  case $name in */*) mkdir -p -- "${name%/*}" || exit 3;; esac
  [ -f "$name" ] && printf 'file=%s %s %s\n' "$number" "$(wc -c <"$name")" "$(sha256sum <"$name" | cut -c1-64)"
  number=$((number + 1))
done
chmod -R ug+rwX,o+rX . 2>/dev/null
printf 'free=%s\n' "$(df -Pk . | awk 'NR == 2 { print $4 }')"
command -v rsync >/dev/null 2>&1 && echo rsync=yes
exit 0
"""


@dataclass(frozen=True)
class Piece:
    """A file of the bundle. name: relative, as its manifest lists it. size: bytes. sha256: in hexadecimal digits."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class _There:
    """What of the pieces is on the drone, by their number: size and hash; free: bytes on its disk, None if unknown."""

    files: dict[int, tuple[int, str]]
    free: int | None
    has_rsync: bool

    def is_whole(self, number: int, piece: Piece) -> bool:
        return self.files.get(number) == (piece.size, piece.sha256)

    def size(self, number: int) -> int:
        return self.files.get(number, (0, ""))[0]


def pieces_of(bundle: Bundle) -> tuple[Piece, ...]:
    """Every file of a bundle that was read, the manifest last."""
    pieces = [Piece(name, entry.bytes, entry.sha256) for name, entry in sorted(bundle.files.items())]
    for name in (SIGNATURE, MANIFEST):
        if (bundle.root / name).is_file():
            data = (bundle.root / name).read_bytes()
            pieces.append(Piece(name, len(data), hashlib.sha256(data).hexdigest()))
    return tuple(pieces)


def copy_bundle(
    connection: Connection, root: Path, pieces: tuple[Piece, ...], place: Place, show: Callable[[str], None]
) -> None:
    """Copy what is missing; a connection that breaks is made again, and the copy goes on.

    Raises:
        LostError: it broke too often; what arrived stays, for the next time.
        UserError: no room, no right to write, or what arrives is not what was sent.
    """
    total = sum(piece.size for piece in pieces)
    broken = repeated = 0
    best = -1
    while True:
        try:
            there = _ask_state(connection, pieces, place)
            missing = [number for number, piece in enumerate(pieces) if not there.is_whole(number, piece)]
            if not missing:
                show(f"copied: {_mib(total)}")
                return
            have = total - sum(max(0, pieces[number].size - there.size(number)) for number in missing)
            if have > best:
                best, broken = have, 0
            elif have == total and (repeated := repeated + 1) > 1:
                raise refuse(pieces[missing[0]].name, "does not arrive as it was sent", "look at the drone's disk")
            show(f"copying {_mib(total)}" + (f", {_mib(have)} are there" if have else ""))
            _require_space(there, total - have, total, connection.address.name, place)
            _send(connection, root, pieces, there, missing, place, show)
        except LostError as error:
            broken += 1
            if broken >= TRIES:
                raise
            show(f"{error}; trying again")
            time.sleep(_PAUSE)


def state_words(pieces: tuple[Piece, ...], place: Place) -> tuple[str, ...]:
    """The command that makes room for the copy and says what of it is there."""
    names = tuple(piece.name for piece in pieces)
    return ("sh", "-c", _STATE, "sh", place.incoming, pieces[-1].sha256, *names)


def sftp_lines(pieces: tuple[Piece, ...], sizes: dict[str, int], folder: str) -> str:
    """What sftp is to do: `reput` goes on inside of a file whose beginning is there (sftp(1)).

    sizes: by name, what is there; a file that has its length already is not what it should be, and is sent anew.
    """
    lines = []
    for piece in pieces:
        is_begun = 0 < sizes.get(piece.name, 0) < piece.size
        remote = f"{folder}/{piece.name}"
        lines.append(f"{'reput' if is_begun else 'put'} {_for_sftp(piece.name)} {_for_sftp(remote)}\n")
    return "".join(lines)


def _ask_state(connection: Connection, pieces: tuple[Piece, ...], place: Place) -> _There:
    answer = connection.ask(state_words(pieces, place))
    if answer.status != 0:
        raise _refused(connection, answer, place)
    files: dict[int, tuple[int, str]] = {}
    free = None
    for line in answer.lines:
        found = re.fullmatch(r"file=(\d{1,6}) +(\d{1,15}) ([0-9a-f]{64})", line)
        if found and int(found[1]) < len(pieces):
            files[int(found[1])] = (int(found[2]), found[3])
        if kib := re.fullmatch(r"free=(\d{1,15})", line):
            free = int(kib[1]) * 1024
    return _There(files, free, "rsync=yes" in answer.lines and shutil.which("rsync") is not None)


def _send(
    connection: Connection,
    root: Path,
    pieces: tuple[Piece, ...],
    there: _There,
    missing: list[int],
    place: Place,
    show: Callable[[str], None],
) -> None:
    """One try: send the missing pieces."""
    wanted = tuple(pieces[number] for number in missing)
    if there.has_rsync:
        names = tuple(piece.name for piece in wanted)
        answer = connection.run(connection.address.rsync(names, place.incoming), root, _Progress(wanted, show))
    else:
        sizes = {pieces[number].name: there.size(number) for number in missing}
        with tempfile.TemporaryDirectory() as folder:
            batch = Path(folder) / "batch"
            batch.write_text(sftp_lines(wanted, sizes, place.incoming))
            answer = connection.run(connection.address.sftp(batch), root)
    if answer.status == 0:
        return
    said = tuple(line for line in answer.lines if not line.startswith("sftp> "))  # the echo of what it was told
    answer = Answer(answer.status, said)
    is_told = any(_TELLING.search(line) for line in said)
    if any(_FULL.search(line) for line in said) or (is_told and answer.status not in _BROKEN):
        raise _refused(connection, answer, place)
    if not there.has_rsync or answer.status in _BROKEN:
        raise connection.refusal(answer)
    raise _refused(connection, answer, place)


class _Progress:
    """Shows, now and then, how far rsync is with a file."""

    def __init__(self, pieces: Iterable[Piece], show: Callable[[str], None]) -> None:
        self._names = {piece.name for piece in pieces}
        self._show = show
        self._name = ""
        self._shown = time.monotonic()

    def __call__(self, line: str) -> None:
        if line.strip() in self._names:
            self._name = line.strip()
        found = re.search(r" (\d{1,3})% ", line)
        if found and time.monotonic() - self._shown > _SHOW_EVERY:
            self._shown = time.monotonic()
            self._show(f"{self._name}: {found[1]} %")


def _require_space(there: _There, missing: int, total: int, name: str, place: Place) -> None:
    needed = missing + total + _SPARE if place.staging.startswith(str(Path(place.store).parent)) else missing
    if there.free is not None and there.free < needed:
        found = f"{_mib(there.free)} free in {place.staging}, {_mib(needed)} needed"
        raise refuse(name, found, "delete old flight logs there, or install with fewer bundles kept")


def _refused(connection: Connection, answer: Answer, place: Place) -> UserError:
    """The drone's own words, and what would do."""
    name = connection.address.name
    telling = [line for line in answer.lines if _TELLING.search(line)]
    said = (telling[0] if telling else answer.last).strip()[:300]
    if _FULL.search(said):
        return refuse(name, said, "make room there")
    return refuse(name, said, f"{place.staging} must be there and be ours to write: docs/push.md, Once on the drone")


def _for_sftp(text: str) -> str:
    """A name as sftp's batch lines take it, quoted: nothing is a pattern then (sftp.c, makeargv)."""
    if "\n" in text:
        raise refuse(repr(text), "holds a line break", "give a path without")
    return '"' + re.sub(r'([\\"])', r"\\\1", text) + '"'


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
