"""NVIDIA's files: by path, or from an address with the SHA-256 they must have. Downloads go on where they ended."""

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from deploy.errors import refuse
from jetson.board import Download

__all__ = ["fetch", "file_sha256"]

_BLOCK = 1 << 20
_PATIENCE = 60.0  # seconds without a byte


def fetch(
    source: str | None, known: Download | None, sha256: str | None, folder: Path, say: Callable[[str], None]
) -> Path:
    """The path of a file that was given by path, by address, or not at all: then by the address of the board's file.

    Args:
        sha256: that it must have, in place of the board's; for a path it may be left out.
        folder: takes downloads. say: told of them.

    Raises:
        UserError: there is no such file, its SHA-256 is another, or an address comes without one.
    """
    if source is not None and "://" not in source:
        path = Path(source)
        if not path.is_file():
            raise refuse(path, "no such file", "give the path of NVIDIA's .tbz2 file")
        if sha256 is not None:
            _require(path, sha256, remove=False)
        return path
    url = source or (known.url if known else None)
    if url is None:
        raise refuse("NVIDIA's file", "not given, and the board's file has no address", "give its path")
    wanted = sha256 or (known.sha256 if known is not None and url == known.url else None)
    if wanted is None:
        remedy = "download it, look at it, and give its path, or give its SHA-256 too"
        raise refuse(url, "no SHA-256 is known to check it by", remedy)
    path = folder / Path(urlsplit(url).path).name
    if not path.is_file():
        _download(url, path, say)
    _require(path, wanted, remove=True)
    return path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require(path: Path, wanted: str, remove: bool) -> None:
    found = file_sha256(path)
    if found == wanted.lower():
        return
    if remove:
        path.unlink()
    raise refuse(path, f"SHA-256 {found}, not {wanted}", "download it again" + (", it was removed" if remove else ""))


def _download(url: str, path: Path, say: Callable[[str], None]) -> None:
    """Into a .part file, from where it ends, and then to its name."""
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    say(f"downloading {url}" + (f" from byte {have}" if have else ""))
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            goes_on = answer.status == 206
            length = answer.headers.get("Content-Length")
            with part.open("ab" if goes_on else "wb") as file:
                done = 0
                while block := answer.read(_BLOCK):
                    done += file.write(block)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # it was whole already
            part.rename(path)
            return
        raise refuse(url, f"{error.code} {error.reason}", "give the path of the file") from None
    except (OSError, http.client.HTTPException) as error:  # the second: a chunked answer that breaks off
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise refuse(url, reason, "run it again, it goes on from there, or give the path of the file") from None
    if length is not None and done < int(length):
        raise refuse(url, f"ended after {done} of {length} bytes", "run it again, it goes on from there")
    part.rename(path)
