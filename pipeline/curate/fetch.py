"""Fetches photos, many at once: what fails goes to a list, what is complete appears by rename and is never asked again.

It knows nothing about why a photo is wanted.
"""

import csv
import io
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.download import NO_CONNECTION, NO_ROOM, Transient, pause, redirects_only, refuse_status, transient_reason
from pipeline.errors import UserError, refuse
from pipeline.files import new_file, write_text
from pipeline.interrupt import Interrupted
from pipeline.photos import opened_photo

if TYPE_CHECKING:
    pass

__all__ = ["FAILURES", "Fetched", "fetch_photos"]

FAILURES = "failures.csv"
_LARGEST = 64 << 20  # bytes of a photo: what is longer is none


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
    again on every call, and `failures.csv` in `folder` lists those of this one. timeout: seconds without a byte.

    Raises:
        UserError: nothing at all can be reached, or no room; what is complete is kept.
        Interrupted: `stop` said so.
    """
    _refuse_escaping(wanted)
    folder.mkdir(parents=True, exist_ok=True)
    targets = {image_id: folder / f"{image_id}{Path(path).suffix or '.jpg'}" for image_id, path in wanted.items()}
    paths = {image_id: target for image_id, target in targets.items() if target.is_file()}
    missing = [image_id for image_id in wanted if image_id not in paths]
    fetcher = _Fetcher(base_url.rstrip("/"), workers, attempts, timeout)
    failed: dict[str, str] = {}
    try:
        for image_id, reason in fetcher.run({key: (wanted[key], targets[key]) for key in missing}, stop):
            if reason is None:
                paths[image_id] = targets[image_id]
            else:
                failed[image_id] = reason
            if progress:
                progress(len(paths) + len(failed), len(wanted))
            is_nobody_there = len(failed) >= min(workers, len(missing)) and set(failed.values()) == {NO_CONNECTION}
            if is_nobody_there and len(paths) == len(wanted) - len(missing):
                raise refuse(base_url, NO_CONNECTION, "what is there is kept; run again, or give local photos")
    finally:
        fetcher.close()
        _write_failures(folder / FAILURES, base_url, wanted, failed)
    return Fetched(paths, failed)


def _refuse_escaping(wanted: Mapping[str, str]) -> None:
    for image_id in wanted:
        if Path(image_id).name != image_id or image_id in ("", ".", ".."):
            raise refuse(f"image {image_id!r}", "an id that is no file name", "correct the box file")


class _Fetcher:
    """A pool of connections and threads."""

    def __init__(self, base_url: str, workers: int, attempts: int, timeout: float) -> None:
        import urllib3

        self._base_url, self._attempts, self._workers = base_url, attempts, workers
        limits = urllib3.Timeout(connect=timeout, read=timeout)
        self._pool = urllib3.PoolManager(maxsize=workers, block=True, timeout=limits)
        self._threads = ThreadPoolExecutor(workers)
        self._ending = threading.Event()

    def close(self) -> None:
        """Start nothing more and wait for what is running."""
        self._ending.set()
        self._threads.shutdown(cancel_futures=True)
        self._pool.clear()

    def run(self, jobs: Mapping[str, tuple[str, Path]], stop: Callable[[], bool] | None):  # type: ignore[no-untyped-def]
        """Yield every id with the reason why it failed, or None, as they come."""
        running: dict[Future[str | None], str] = {
            self._threads.submit(self._one, path, target): image_id for image_id, (path, target) in jobs.items()
        }
        while running:
            done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()
            if stop and stop():
                raise Interrupted("the photos that are complete are kept; the same command fetches the rest")

    def _one(self, path: str, target: Path) -> str | None:
        """Fetch one photo; returns why it failed, or None."""
        reason = ""
        for attempt in range(1, self._attempts + 1):
            if self._ending.is_set():
                return "stopped"
            try:
                self._store(self._get(path), target)
                return None
            except Transient as passing:
                reason = str(passing)
                if attempt < self._attempts:
                    pause(attempt, passing.wait)
            except UserError as final:
                return str(final)
            except OSError as error:
                if error.errno in NO_ROOM:
                    raise refuse(target.parent, "no room left on the disk", "make room, then run again") from None
                raise
        return reason

    def _get(self, path: str) -> bytes:
        import urllib3

        url = f"{self._base_url}/{path}"
        try:
            answer = self._pool.request("GET", url, preload_content=False, retries=redirects_only())
            try:
                refuse_status(url, answer)
                content = answer.read(_LARGEST + 1)
                length = answer.headers.get("Content-Length", "")
            finally:
                answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise Transient(transient_reason(error)) from None
        if len(content) > _LARGEST:
            raise refuse(url, f"more than {_LARGEST >> 20} MiB", "it is no photo")
        if length.isdecimal() and len(content) != int(length):
            raise Transient(f"the connection broke off after {len(content)} of {length} bytes")
        return content

    def _store(self, content: bytes, target: Path) -> None:
        """Give a photo its name once it has been decoded to its end."""
        with new_file(target) as part:
            part.write_bytes(content)
            try:
                with opened_photo(part) as image:
                    image.load()
            except UserError:
                raise Transient("no photo, or a broken one", 0) from None


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
