"""Downloads one large file: to a `.part` beside it, resumed where it broke off, checked, then renamed.

It knows nothing about what is in the file, nor where its address comes from.
"""

import base64
import contextlib
import errno
import fcntl
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.connections import (
    Transient,
    connections,
    pause,
    redirects_only,
    refuse_address,
    refuse_status,
    transient_reason,
)
from pipeline.errors import refuse

if TYPE_CHECKING:
    import urllib3

__all__ = ["NO_ROOM", "BytesProgress", "download"]

BytesProgress = Callable[[int, int | None], None]  # bytes done, bytes in all if known

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the last: a file system of small files

_BLOCK = 1 << 16  # what a connection that breaks off can lose
_LEAST_DIGITS = 8  # of a checksum; torchvision's file names hold so many


def download(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    md5: str | None = None,
    progress: BytesProgress | None = None,
    timeout: float = 30,
    attempts: int = 5,
) -> Path:
    """Get `url` to `target`, unless a file of that size and checksum is there; returns `target`.

    size: bytes. sha256, md5: hexadecimal, of which the first eight digits or more do. The length that the server names
    is checked too, and its MD5 where none is given.
    timeout: seconds without a byte. Stalls, cut-offs, 408, 429 and 5xx are tried again, up to `attempts` times in a row
    that bring nothing.

    Raises:
        UserError: no address, not there (404), not allowed, no network, wrong content, no room, or a second download to
            the same place. What was received stays in the `.part`, unless it is wrong.
    """
    if any(wanted is not None and len(wanted) < _LEAST_DIGITS for wanted in (sha256, md5)):
        raise ValueError(f"a checksum of fewer than {_LEAST_DIGITS} digits proves nothing")
    if target.is_file() and _is_right(target, size, sha256, md5):
        return target
    refuse_address(url)
    path = target.with_name(target.name + ".part")
    with _refusing_a_full_disk(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path) as part:
            if target.is_file() and _is_right(target, size, sha256, md5):  # another process was quicker
                return target
            promised = _receive_patiently(url, part, timeout, attempts, progress)
            os.fsync(part.file.fileno())
            _refuse_wrong(url, path, size, sha256, md5 or promised)
            path.replace(target)
    return target


class _Part:
    """The part file, and beside it `.etag`, which says of which version it is; both outlive a killed process."""

    def __init__(self, path: Path, file: io.FileIO) -> None:
        self.path, self.file = path, file
        self._note = path.with_name(path.name + ".etag")

    @property
    def size(self) -> int:
        """Bytes received."""
        return self.file.seek(0, os.SEEK_END)

    @property
    def version(self) -> str:
        """ETag of what was received, or nothing."""
        return self._note.read_text() if self._note.is_file() else ""

    def start_anew(self, version: str = "") -> None:
        """Forget what was received. A weak ETag promises no equal bytes, so nothing can be added to it."""
        self.forget_version()
        self.file.truncate(0)
        if version and not version.startswith("W/"):
            self._note.write_text(version)

    def append(self, block: bytes) -> None:
        """Add to the end; unbuffered, so that closing writes nothing that a full disk could refuse a second time."""
        rest = memoryview(block)
        while rest:
            rest = rest[self.file.write(rest) :]

    def forget_version(self) -> None:
        """Remove the note."""
        self._note.unlink(missing_ok=True)


@contextlib.contextmanager
def _refusing_a_full_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise refuse(path, "no room left on the disk", "make room, then run again; it goes on") from None
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[_Part]:
    """The part file, open for appending, while no other process has it; an empty one does not stay."""
    file = _open_locked(path)
    part = _Part(path, file)
    try:
        yield part
    finally:
        if _is_at(file, path) and not part.size:
            path.unlink()
            part.forget_version()
        file.close()


def _open_locked(path: Path) -> io.FileIO:
    while True:
        file = path.open("ab", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise refuse(path, "another process is downloading it", "wait until it is done") from None
        if _is_at(file, path):
            return file
        file.close()  # between opening and locking another process renamed it: what is open is its finished file


def _is_at(file: io.FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _receive_patiently(
    url: str, part: _Part, timeout: float, attempts: int, progress: BytesProgress | None
) -> str | None:
    """Receive what is missing; returns the MD5 that the server promises, if any. Given up after `attempts` attempts in
    a row that brought nothing."""
    attempt, most = 0, part.size
    while True:
        try:
            return _receive(url, part, timeout, progress)
        except Transient as reason:
            attempt = 1 if part.size > most else attempt + 1
            most = max(most, part.size)
            if attempt >= attempts:
                remedy = "try again later; it goes on from there. Or get the file elsewhere and give its path"
                raise refuse(url, f"{reason}, {attempts} times", remedy) from None
            pause(attempt, reason.wait)


def _receive(url: str, part: _Part, timeout: float, progress: BytesProgress | None) -> str | None:
    """Ask for what is missing of the version at hand, and append it."""
    import urllib3

    headers = {"Accept-Encoding": "identity"}
    if part.size and part.version:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": part.version}
    limits = urllib3.Timeout(connect=timeout, read=timeout)
    try:
        with connections(url, retries=False, timeout=limits) as pool:
            answer = pool.request("GET", url, headers=headers, preload_content=False, retries=redirects_only())
            try:
                return _store(url, answer, part, progress)
            finally:
                answer.close()
    except urllib3.exceptions.HTTPError as error:
        raise Transient(transient_reason(error)) from None


def _store(url: str, answer: "urllib3.BaseHTTPResponse", part: _Part, progress: BytesProgress | None) -> str | None:
    """Append the answer to what it continues, or start anew with it."""
    refuse_status(url, answer)
    version = answer.headers.get("ETag", "")
    is_encoded = answer.headers.get("Content-Encoding", "identity").lower() != "identity"  # though nobody asked for it
    if answer.status == 416:  # the part is as long as the file, or longer than it is now
        total = re.fullmatch(r"bytes \*/(\d+)", answer.headers.get("Content-Range", ""))
        if total and int(total[1]) == part.size and version in ("", part.version):
            part.forget_version()
            return None
        part.start_anew()
        raise Transient("the file changed on the server", 0)
    if answer.status == 206:
        # Not every server knows If-Range (Amazon's does not): what is added must be of the same version.
        start = re.match(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if not start or int(start[1]) != part.size or version != part.version or is_encoded:
            part.start_anew()
            raise Transient("the file changed on the server", 0)
        total_bytes: int | None = int(start[2])
    else:
        part.start_anew("" if is_encoded else version)
        length = answer.headers.get("Content-Length", "")
        total_bytes = int(length) if length.isdecimal() and not is_encoded else None
    for block in answer.stream(_BLOCK):
        part.append(block)
        if progress:
            progress(part.size, total_bytes)
    if total_bytes is not None and part.size != total_bytes:
        raise Transient(f"the connection broke off after {part.size} of {total_bytes} bytes")
    part.forget_version()
    return None if is_encoded else _promised_md5(answer.headers)


def _promised_md5(headers: Mapping[str, Any]) -> str | None:
    """The MD5 of the whole file where Google's or Amazon's storage names it.

    Amazon's ETag is the MD5 unless the file was put there in pieces (then it has a dash) or encrypted with a key of its
    owner's.
    """
    if headers.get("x-goog-stored-content-encoding", "identity") != "identity":
        return None  # the hash is of what is stored, and that is packed
    found = re.search(r"md5=([A-Za-z0-9+/]{22}==)", headers.get("x-goog-hash", ""))
    if found:
        return base64.b64decode(found[1]).hex()
    etag = re.fullmatch(r'"([0-9a-f]{32})"', headers.get("ETag", ""))
    has_own_key = "x-amz-server-side-encryption-customer-algorithm" in headers
    is_plain = headers.get("x-amz-server-side-encryption", "AES256") == "AES256" and not has_own_key
    return etag[1] if etag and is_plain and "x-amz-request-id" in headers else None


def _is_right(path: Path, size: int | None, sha256: str | None, md5: str | None) -> bool:
    if size is not None and path.stat().st_size != size:
        return False
    return all(
        wanted is None or _digest(path, name).startswith(wanted.lower())
        for name, wanted in (("sha256", sha256), ("md5", md5))
    )


def _refuse_wrong(url: str, part: Path, size: int | None, sha256: str | None, md5: str | None) -> None:
    """Remove and refuse what is not what was promised, so that it poisons no later run."""
    problem = None
    if size is not None and part.stat().st_size != size:
        problem = f"{part.stat().st_size} bytes instead of {size}"
    for name, wanted in (("sha256", sha256), ("md5", md5)):
        if problem is None and wanted is not None and not _digest(part, name).startswith(wanted.lower()):
            problem = f"{name} {_digest(part, name)} instead of {wanted.lower()}"
    if problem:
        part.unlink()
        raise refuse(url, problem, "run again; if it stays so, the file changed or the way to it is not to be trusted")


def _digest(path: Path, name: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, name).hexdigest()
