"""Whether a camera still sees: no damaged pictures, and not the same one again and again.

A sensor's noise makes every picture another one; the same bytes twice are a driver or an encoder that repeats its last
buffer. A picture that is black or white all over may repeat honestly, so that a camera is opened again for it once.

Knows nothing of threads and devices.
"""

import zlib
from typing import Any, Callable, Optional, Tuple

import numpy as np

_ROWS = 8  # that are hashed; only where these agree, whole pictures are compared
_WARNED_AFTER = 0.4  # share of the patience after which a frozen picture is told


class Sight:
    """Judges the pictures of one camera. patience: seconds without a good, new picture after which it is lost."""

    def __init__(self, patience: float, clock: Callable[[], float]) -> None:
        self._patience, self._clock = patience, clock
        self._shape: Optional[Tuple[int, ...]] = None
        self._last: Optional[np.ndarray] = None
        self._hash = 0
        self._good_at = self._new_at = clock()
        self._is_told = self._was_reopened = False

    @property
    def same_for(self) -> float:
        """Seconds since the picture last changed."""
        return self._clock() - self._new_at

    def why_lost(self) -> str:
        """Why the camera counts as lost; "" where it does not. The same picture is named once until it changes."""
        now = self._clock()
        if now - self._good_at > self._patience:
            return "gives damaged frames alone for {:g} s".format(self._patience)
        if now - self._new_at > self._patience and not self._was_reopened:
            self._was_reopened = True
            return "gives the same picture for {:g} s".format(self._patience)
        return ""

    def opened(self) -> None:
        """The camera was opened, perhaps at another size. Its last picture is kept: it may still be the same."""
        self._shape = None
        self._good_at = self._new_at = self._clock()
        self._is_told = False

    def is_good(self, image: Any) -> bool:
        """Whether it is (H, W, 3) uint8, of the size of the first one since the camera was opened."""
        is_shaped = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3
        if not is_shaped or image.dtype != np.uint8 or image.size == 0:
            return False
        if self._shape is None:
            self._shape = image.shape
        if image.shape != self._shape:
            return False
        self._good_at = self._clock()
        return True

    def is_repeat(self, image: np.ndarray) -> bool:
        """Whether a good picture is the last one again, byte for byte."""
        rows = image[:: max(1, image.shape[0] // _ROWS)]
        value = zlib.crc32(np.ascontiguousarray(rows).tobytes())
        is_same = self._last is not None and value == self._hash and np.array_equal(image, self._last)
        self._last, self._hash = image, value
        if not is_same:
            self._new_at, self._is_told, self._was_reopened = self._clock(), False, False
        return bool(is_same)

    def begins_to_freeze(self) -> bool:
        """Whether the same picture has come for so long that somebody should know; once until it changes."""
        if self._is_told or self.same_for < _WARNED_AFTER * self._patience:
            return False
        self._is_told = True
        return True
