"""Ctrl-C and SIGTERM: what starts is ended where it is, what flies after its turn. Knows nothing of what that is."""

import os
import signal
import sys
import threading
from typing import Any, Callable, Dict, Optional

_PATIENCE = 5.0  # seconds; systemd waits longer (TimeoutStopSec)
_STOPPED = 130  # exit status, as of the command where KeyboardInterrupt ends it


class Stop:
    """Whether Ctrl-C or SIGTERM was received; a second one does not wait.

    is_starting: until `begin`, already the first one raises KeyboardInterrupt. Where that is not heard, since a library
    builds an engine for minutes and lets no exception through, `at_last` is called after `patience` seconds and the
    process ends.
    """

    def __init__(
        self, is_starting: bool = False, at_last: Optional[Callable[[], None]] = None, patience: float = _PATIENCE
    ) -> None:
        self.is_asked = False
        self._is_starting, self._at_last, self._patience = is_starting, at_last, patience
        self._before: Dict[int, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._receive)
            except ValueError:  # not the main thread: somebody else's signals
                break

    def __call__(self) -> bool:
        """Whether it is time to end."""
        return self.is_asked

    def begin(self) -> None:
        """From here on the first signal waits until `__call__` is asked."""
        self._is_starting = False

    def restore(self) -> None:
        """Let the signals do again what they did."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, _number: int, _frame: object) -> None:
        is_first, self.is_asked = not self.is_asked, True
        if is_first and self._is_starting and self._at_last is not None:
            late = threading.Timer(self._patience, self._end)
            late.daemon = True
            late.start()
        if self._is_starting or not is_first:
            raise KeyboardInterrupt

    def _end(self) -> None:
        assert self._at_last is not None
        try:
            self._at_last()
        finally:
            sys.stderr.flush()
            os._exit(_STOPPED)
