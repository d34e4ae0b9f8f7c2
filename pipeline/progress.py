"""Progress on standard error: bars on a terminal, now and then a line in a log."""

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Bars"]

_LOG_EVERY = 30.0  # seconds between lines of one task where there is no terminal


class Bars:
    """A set of progress bars, one per task; use as a context manager."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not sys.stderr.isatty(),
        )
        self._tasks: dict[str, int] = {}
        self._logged: dict[str, float] = {}

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, task: str, done: int, total: int, note: str = "", is_minor: bool = False) -> None:
        """Set how far `task` is; the first call makes its bar. is_minor: its end is not worth a line in a log."""
        if task not in self._tasks:
            self._tasks[task] = self._progress.add_task(task, total=total, note=note)
            self._logged[task] = time.monotonic()
        self._progress.update(self._tasks[task], completed=done, total=total, note=note)  # type: ignore[arg-type]
        is_end = done == total and not is_minor
        if self._progress.disable and (is_end or time.monotonic() - self._logged[task] > _LOG_EVERY):
            self._logged[task] = time.monotonic()
            print(f"{task}: {done} of {total} {note}".rstrip(), file=sys.stderr, flush=True)

    def download(self, what: str) -> Callable[[int, int | None], None]:
        """A report of a download, whose bar counts bytes; it appears with the first of them."""

        def report(done: int, total: int | None) -> None:
            self.show(f"download {what}, bytes", done, total or 0)

        return report
