"""How long to wait before a lost camera is opened again. Knows nothing of cameras."""

import random

_JITTER = 0.25  # share of a pause by which it is longer or shorter, so that several cameras do not return at once


class Pause:
    """Doubles from `first` to `longest` seconds, until something worked for as long as the longest."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._next = first
        self._random = random.Random()

    def next(self) -> float:
        """Seconds to wait now."""
        pause = self._next
        self._next = min(2 * pause, self._longest)
        return pause * self._random.uniform(1 - _JITTER, 1 + _JITTER)

    def worked(self, seconds: float) -> None:
        """Say how long it worked before it failed again; a short while does not count."""
        if seconds > self._longest:
            self._next = self._first
