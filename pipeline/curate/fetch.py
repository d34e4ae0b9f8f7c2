"""Fetches photos, many at once: what fails goes to a list, what is complete appears by rename and is never asked again.

It knows nothing about why a photo is wanted.
"""

import contextlib
import csv
import io
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.connections import (
    NO_CONNECTION,
    Transient,
    connections,
    pause,
    pause_length,
    redirects_only,
    refuse_address,
    refuse_status,
    transient_reason,
)
from pipeline.download import NO_ROOM
from pipeline.errors import UserError, refuse
from pipeline.files import new_file, write_text
from pipeline.interrupt import Interrupted
from pipeline.photos import opened_photo

if TYPE_CHECKING:
    import urllib3

__all__ = ["FAILURES", "Fetched", "fetch_photos"]

FAILURES = "failures.csv"
_LARGEST = 64 << 20  # bytes of a photo: what is longer is none
_BLOCK = 1 << 16  # bytes read before asking whether to stop
_LONGEST_NAME = 200  # bytes; file systems take 255, and a file gets a longer name until it is complete
_NAP = 0.5  # seconds that a pause takes to notice a stop


@dataclass(frozen=True)
class Fetched:
    """paths: of the photos that are there, by id. failed: why a photo is not, by id."""

    paths: dict[str, Path]
    failed: dict[str, str]


def fetch_photos(
    wanted: Mapping[str, str],
    base_url: str,
    folder: Path,
    *,
    workers: int = 32,
    attempts: int = 4,
    timeout: float = 20,
    stop: Callable[[], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Fetched:
    """Get every photo of `wanted`, by id the path below `base_url`, to `folder`/<id><suffix>.

    Every photo is decoded before it gets its name. Photos that are there are not asked for; failed ones are asked for
    again on every call, and `failures.csv` in `folder` lists those of this one. timeout: seconds without a byte, which
    is also the longest that a stop waits for.

    Raises:
        UserError: `workers` photos in a row find nobody to connect to, or no room; what is complete is kept.
        Interrupted: `stop` said so.
    """
    refuse_address(base_url)
    targets = {image_id: _target(folder, image_id, path) for image_id, path in wanted.items()}
    folder.mkdir(parents=True, exist_ok=True)
    paths = {image_id: target for image_id, target in targets.items() if target.is_file()}
    missing = {key: (wanted[key], target) for key, target in targets.items() if key not in paths}
    failed: dict[str, str] = {}
    unreachable = 0  # photos in a row
    fetcher = _Fetcher(base_url.rstrip("/"), workers, attempts, timeout)
    try:
        for image_id, reason in fetcher.run(missing, stop):
            if reason is None:
                paths[image_id] = targets[image_id]
            else:
                failed[image_id] = reason
            if progress:
                progress(len(paths) + len(failed), len(wanted))
            unreachable = unreachable + 1 if reason == NO_CONNECTION else 0
            if unreachable >= min(workers, len(missing)):
                raise refuse(base_url, NO_CONNECTION, "what is there is kept; run again, or give local photos")
    except BaseException as ended:
        with contextlib.suppress(OSError):  # on a full disk there is no room for the list either
            _write_failures(folder / FAILURES, base_url, wanted, failed)
        if isinstance(ended, Interrupted):
            kept = f"{len(paths)} of {len(wanted)} photos are kept"
            raise Interrupted(f"{kept}; the same command fetches the rest") from None
        raise
    finally:
        fetcher.close()
    _write_failures(folder / FAILURES, base_url, wanted, failed)
    return Fetched(paths, failed)


def _target(folder: Path, image_id: str, path: str) -> Path:
    """Where a photo goes; an id that could lie elsewhere, or that no file can be named by, is refused."""
    name = f"{image_id}{Path(path).suffix or '.jpg'}"
    is_name = Path(image_id).name == image_id and image_id not in ("", ".", "..") and "\0" not in name
    if not is_name or len(os.fsencode(name)) > _LONGEST_NAME or name == FAILURES:
        raise refuse(f"image {image_id!r}", "an id that is no file name", "correct the box file")
    return folder / name


class _Fetcher:
    """A pool of connections and threads."""

    def __init__(self, base_url: str, workers: int, attempts: int, timeout: float) -> None:
        import urllib3

        self._base_url, self._attempts, self._workers = base_url, attempts, workers
        limits = urllib3.Timeout(connect=timeout, read=timeout)
        self._pool = connections(base_url, maxsize=workers, block=True, timeout=limits)
        self._threads = ThreadPoolExecutor(workers)
        self._decoding = threading.BoundedSemaphore(os.cpu_count() or 1)  # a large photo takes 600 MB while decoded
        self._ending = threading.Event()

    def close(self) -> None:
        """Start nothing more and wait for what is running."""
        self._ending.set()
        self._threads.shutdown(cancel_futures=True)
        self._pool.clear()

    def run(
        self, jobs: Mapping[str, tuple[str, Path]], stop: Callable[[], bool] | None
    ) -> Iterator[tuple[str, str | None]]:
        """Yield every id with the reason why it failed, or None, as they come."""
        done: queue.SimpleQueue[Future[str | None]] = queue.SimpleQueue()
        ids: dict[Future[str | None], str] = {}
        for image_id, (path, target) in jobs.items():
            future = self._threads.submit(self._one, path, target)
            ids[future] = image_id
            future.add_done_callback(done.put)
        while ids:
            with contextlib.suppress(queue.Empty):
                future = done.get(timeout=0.2)
                yield ids.pop(future), future.result()
            if stop and stop():
                raise Interrupted

    def _one(self, path: str, target: Path) -> str | None:
        """Fetch one photo; returns why it failed, or None."""
        url = f"{self._base_url}/{path}"
        reason = "stopped"
        for attempt in range(1, self._attempts + 1):
            if self._ending.is_set():
                break
            try:
                self._store(self._get(url), target)
                return None
            except Transient as passing:
                reason = str(passing)
                if attempt < self._attempts:
                    self._rest(attempt, passing.wait)
            except UserError as final:
                return _found(final, url)
            except OSError as error:
                if error.errno in NO_ROOM:
                    raise refuse(target.parent, "no room left on the disk", "make room, then run again") from None
                raise
        return reason

    def _rest(self, attempt: int, asked: float | None) -> None:
        """Pause in short naps, so that a stop need not wait for a server that asked for a minute."""
        left = pause_length(attempt, asked)
        while left > 0 and not self._ending.is_set():
            pause(attempt, min(left, _NAP))
            left -= _NAP

    def _get(self, url: str) -> bytes:
        import urllib3

        try:
            answer = self._pool.request("GET", url, preload_content=False, retries=redirects_only())
            try:
                refuse_status(url, answer)
                content = self._read(answer)
                length = answer.headers.get("Content-Length", "")
            finally:
                answer.close()  # what was not read to its end, as the page of a 404, would spoil the next answer
                answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise Transient(transient_reason(error)) from None
        if len(content) > _LARGEST:
            raise refuse(url, f"more than {_LARGEST >> 20} MiB", "it is no photo")
        if length.isdecimal() and len(content) != int(length):
            raise Transient(f"the connection broke off after {len(content)} of {length} bytes")
        return content

    def _read(self, answer: "urllib3.BaseHTTPResponse") -> bytes:
        """Read to the end, or beyond the largest photo, or until a stop."""
        content = bytearray()
        while len(content) <= _LARGEST:
            if self._ending.is_set():
                raise Transient("stopped")
            block = answer.read1(_BLOCK)
            if not block:
                break
            content += block
        return bytes(content)

    def _store(self, content: bytes, target: Path) -> None:
        """Give a photo its name once it has been decoded to its end."""
        with new_file(target) as part:
            part.write_bytes(content)
            try:
                with self._decoding, opened_photo(part) as image:
                    image.load()
            except UserError as error:
                reason = _found(error, part).replace(part.name, target.name)
                raise Transient(f"no photo, or a broken one ({reason})", 0) from None


def _found(error: UserError, thing: object) -> str:
    """What was found, of a line that also names the thing and a remedy."""
    return str(error).removeprefix(f"{thing}: ").partition("; ")[0]


def _write_failures(path: Path, base_url: str, wanted: Mapping[str, str], failed: Mapping[str, str]) -> None:
    """Write the list of what failed; where nothing did there is none."""
    if not failed:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_id", "url", "reason"])
    for image_id in sorted(failed):
        writer.writerow([image_id, f"{base_url.rstrip('/')}/{wanted[image_id]}", failed[image_id]])
    write_text(path, text.getvalue())
