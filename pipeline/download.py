"""Downloads one large file: to a `.part` beside it, resumed where it broke off, checked, then renamed.

It knows nothing about what is in the file, nor where its address comes from.
"""

import base64
import contextlib
import errno
import fcntl
import hashlib
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pipeline.errors import refuse

if TYPE_CHECKING:
    import urllib3

__all__ = [
    "NO_CONNECTION",
    "NO_ROOM",
    "Transient",
    "download",
    "pause",
    "redirects_only",
    "refuse_status",
    "transient_reason",
]

Progress = Callable[[int, int | None], None]  # bytes done, bytes in all if known

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the last: a file system of small files
NO_CONNECTION = "no connection; is there a network?"

_BLOCK = 1 << 16  # what a connection that breaks off can lose
_LONGEST_PAUSE = 60.0  # seconds


class Transient(Exception):  # noqa: N818 - no error until the attempts are used up
    """What may go better next time. wait: seconds the server asked for, or None."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def download(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    md5: str | None = None,
    progress: Progress | None = None,
    timeout: float = 30,
    attempts: int = 5,
) -> Path:
    """Get `url` to `target`, unless a file of that size and checksum is there; returns `target`.

    size: bytes. sha256, md5: hexadecimal. The length that the server names is checked too, and its MD5 where none is
    given.
    timeout: seconds without a byte. Stalls, cut-offs, 429 and 5xx are tried again, `attempts` times in all.

    Raises:
        UserError: not there (404), not allowed, no network, wrong content, no room, or a second download to the same
            place. What was received stays in the `.part`, unless it is wrong.
    """
    if target.is_file() and _is_right(target, size, sha256, md5):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with _locked(part) as file:
        for attempt in range(1, attempts + 1):
            try:
                promised = _receive(url, file, part, timeout, progress)
                break
            except Transient as reason:
                if attempt == attempts:
                    remedy = "try again later; it goes on from there. Or get the file elsewhere and give its path"
                    raise refuse(url, f"{reason}, {attempts} times", remedy) from None
                pause(attempt, reason.wait)
            except OSError as error:
                if error.errno in NO_ROOM:
                    raise refuse(part, "no room left on the disk", "make room, then run again; it goes on") from None
                raise
        os.fsync(file.fileno())
        _refuse_wrong(url, part, size, sha256, md5 or promised)
        part.replace(target)
    return target


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[IO[bytes]]:
    """The part file, open for appending, while no other process has it."""
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refuse(part, "another process is downloading it", "wait until it is done") from None
        yield file


def _receive(url: str, file: IO[bytes], part: Path, timeout: float, progress: Progress | None) -> str | None:
    """Append what is missing; returns the MD5 that the server promises for the whole, if any.

    The `.etag` beside the part says which version it is of: another version starts anew.
    """
    import urllib3

    note = part.with_name(part.name + ".etag")
    done = file.seek(0, os.SEEK_END)
    version = note.read_text() if note.is_file() else ""
    headers = {"Accept-Encoding": "identity"}
    if done and version:
        headers |= {"Range": f"bytes={done}-", "If-Range": version}
    limits = urllib3.Timeout(connect=timeout, read=timeout)
    try:
        with urllib3.PoolManager(retries=False, timeout=limits) as pool:
            answer = pool.request("GET", url, headers=headers, preload_content=False, retries=redirects_only())
            try:
                return _store(url, answer, file, note, done, progress)
            finally:
                answer.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise Transient(transient_reason(error)) from None


def _store(
    url: str, answer: "urllib3.BaseHTTPResponse", file: IO[bytes], note: Path, done: int, progress: Progress | None
) -> str | None:
    refuse_status(url, answer)
    if answer.status == 416:  # the part is as long as the file, or longer than it is now
        total = re.fullmatch(r"bytes \*/(\d+)", answer.headers.get("Content-Range", ""))
        if total and int(total[1]) == done:
            return None
        _start_anew(file)
        raise Transient("the file changed on the server", 0)
    if answer.status == 206:
        start = re.match(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if not start or int(start[1]) != done:
            _start_anew(file)
            raise Transient("the server sent another part than was asked for", 0)
        total_bytes: int | None = int(start[2])
    else:
        _start_anew(file)
        done = 0
        length = answer.headers.get("Content-Length")
        total_bytes = int(length) if length and length.isdecimal() else None
        note.unlink(missing_ok=True)
    version = answer.headers.get("ETag", "")
    if version and not version.startswith("W/"):
        note.write_text(version)
    for block in answer.stream(_BLOCK):
        file.write(block)
        done += len(block)
        if progress:
            progress(done, total_bytes)
    file.flush()
    if total_bytes is not None and done != total_bytes:
        raise Transient(f"the connection broke off after {done} of {total_bytes} bytes")
    note.unlink(missing_ok=True)
    return _promised_md5(answer.headers)


def refuse_status(url: str, answer: "urllib3.BaseHTTPResponse") -> None:
    """Raise Transient for what may pass, UserError for what will not, and return for what is content."""
    if answer.status in (200, 206, 416):
        return
    if answer.status == 429 or answer.status >= 500:
        wait = answer.headers.get("Retry-After", "")
        raise Transient(f"the server answers {answer.status}", float(wait) if wait.isdecimal() else None)
    raise refuse(url, f"the server answers {answer.status}", "correct the address, or give a local copy by its path")


def redirects_only() -> "urllib3.Retry":
    """Follow redirects and nothing else: what is tried again is decided here."""
    import urllib3

    return urllib3.Retry(total=None, connect=0, read=0, other=0, status=0, redirect=5)


def transient_reason(error: Exception) -> str:
    """What went wrong on the way, in a few words."""
    import urllib3.exceptions as wrong

    cause = error.reason if isinstance(error, wrong.MaxRetryError) and error.reason else error
    if isinstance(cause, wrong.NameResolutionError | wrong.NewConnectionError):
        return NO_CONNECTION
    if isinstance(cause, wrong.TimeoutError):
        return "the server stalls"
    if isinstance(cause, wrong.IncompleteRead | wrong.ProtocolError):
        return "the connection broke off"
    return " ".join(str(cause).split())[:120]


def pause(attempt: int, asked: float | None) -> None:
    """Wait before the next attempt: as long as the server asked for, or twice as long each time, with some chance."""
    time.sleep(min(asked if asked is not None else 0.25 * 2**attempt * random.uniform(0.5, 1.5), _LONGEST_PAUSE))


def _start_anew(file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate()


def _promised_md5(headers: Mapping[str, Any]) -> str | None:
    """The MD5 of the whole file, as Google's storage names it."""
    found = re.search(r"md5=([A-Za-z0-9+/=]+)", headers.get("x-goog-hash", ""))
    return base64.b64decode(found[1]).hex() if found else None


def _is_right(path: Path, size: int | None, sha256: str | None, md5: str | None) -> bool:
    if size is not None and path.stat().st_size != size:
        return False
    return all(
        wanted is None or _digest(path, name) == wanted.lower() for name, wanted in (("sha256", sha256), ("md5", md5))
    )


def _refuse_wrong(url: str, part: Path, size: int | None, sha256: str | None, md5: str | None) -> None:
    """Remove and refuse what is not what was promised, so that it poisons no later run."""
    problem = None
    if size is not None and part.stat().st_size != size:
        problem = f"{part.stat().st_size} bytes instead of {size}"
    for name, wanted in (("sha256", sha256), ("md5", md5)):
        if problem is None and wanted is not None and _digest(part, name) != wanted.lower():
            problem = f"{name} {_digest(part, name)} instead of {wanted.lower()}"
    if problem:
        part.unlink()
        raise refuse(url, problem, "run again; if it stays so, the file changed or the way to it is not to be trusted")


def _digest(path: Path, name: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, name).hexdigest()
