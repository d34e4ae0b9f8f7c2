"""Opens a camera or stream through OpenCV and reads one frame after the other, with the time of each.

When a frame was captured is the moment at which it arrives here, or earlier where V4L2 says so: OpenCV gives the stamp
of its buffer as CAP_PROP_POS_MSEC (opencv, modules/videoio/src/cap_v4l.cpp, getProperty), and a UVC camera stamps by
the monotonic clock (Linux, drivers/media/usb/uvc/uvc_driver.c, uvc_clock_param). Not every driver and version does, so
that a stamp is taken only if it lies shortly before now and is not the last one again. With FFmpeg and GStreamer that
property is the position in the stream, which is the source's own time.

Knows nothing of threads, nor of what happens when a camera is lost.
"""

import time
from typing import Any, Callable, List, NamedTuple, Optional, Union

import cv2
import numpy as np

from deploy.errors import refuse
from deploy.sources.settings import SourceSettings

_OLDEST_STAMP = 1.0  # seconds; a stamp further in the past is of another clock


class Reading(NamedTuple):
    """A frame as it was read. image: (H, W, 3) uint8 BGR. captured: monotonic seconds. source_time: seconds or None."""

    image: np.ndarray
    captured: float
    source_time: Optional[float]


class Capture:
    """An open camera or stream. fps: frames per second, or None."""

    fps: Optional[float] = None

    def read(self) -> Optional[Reading]:
        """Wait for the next frame; None where there are no more. May block as long as the device does."""
        raise NotImplementedError

    def close(self) -> None:
        """Give the device back."""


Opener = Callable[[], Capture]


class OpenCvCapture(Capture):
    """What cv2.VideoCapture has opened. is_stamped: whether its position is V4L2's stamp, and not that in a stream."""

    def __init__(self, capture: Any, is_stamped: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._capture, self._is_stamped, self._clock = capture, is_stamped, clock
        self._last = 0.0
        self.fps = rate_of(capture)

    def read(self) -> Optional[Reading]:
        """See Capture."""
        if not self._capture.grab():
            return None
        now = self._clock()
        position = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
        is_read, image = self._capture.retrieve()
        if not is_read:
            return None
        if not self._is_stamped:
            return Reading(image, now, round(position, 6) if position > 0 else None)
        is_sane = position != self._last and position <= now < position + _OLDEST_STAMP
        self._last = position
        return Reading(image, position if is_sane else now, position if position > 0 else None)

    def close(self) -> None:
        """See Capture."""
        self._capture.release()


def camera(device: Union[int, str], settings: SourceSettings) -> Opener:
    """Opens a V4L2 camera by number or path, at the size and rate of the settings or those nearest to them."""

    def opener() -> Capture:
        capture = _opened(str(device), device, cv2.CAP_V4L2, [])
        sizes = ((cv2.CAP_PROP_FRAME_WIDTH, settings.width), (cv2.CAP_PROP_FRAME_HEIGHT, settings.height))
        for name, value in sizes + ((cv2.CAP_PROP_FPS, settings.fps),):
            capture.set(name, value)
        return OpenCvCapture(capture, is_stamped=True)

    return opener


def stream(name: str, address: str, settings: SourceSettings) -> Opener:
    """Opens an address, rtsp://... or http://..., through FFmpeg. name: for messages."""

    def opener() -> Capture:
        return OpenCvCapture(_opened(name, address, cv2.CAP_FFMPEG, _timeouts(settings)))

    return opener


def pipeline(name: str, text: str, settings: SourceSettings) -> Opener:
    """Opens a GStreamer pipeline that ends in an appsink. name: for messages."""

    def opener() -> Capture:
        return OpenCvCapture(_opened(name, text, cv2.CAP_GSTREAMER, _timeouts(settings)))

    return opener


def rate_of(capture: Any) -> Optional[float]:
    """Frames per second; None for what streams without a rate announce, such as 0, -1 or 90000."""
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return rate if 0 < rate <= 1000 else None


def _opened(name: str, device: Union[int, str], backend: int, parameters: List[int]) -> Any:
    capture = cv2.VideoCapture()
    try:
        is_open = capture.open(device, backend, parameters) if parameters else capture.open(device, backend)
    except cv2.error:  # a backend that is not there, in some versions
        is_open = False
    if not is_open:
        capture.release()
        raise refuse(name, "the camera or stream cannot be opened", "check the cable, the number and who uses it")
    return capture


def _timeouts(settings: SourceSettings) -> List[int]:
    """Where OpenCV is new enough (4.5.2), it gives up by itself before the source does, and gives the device back."""
    milliseconds = int(settings.patience * 1000)
    names = ("CAP_PROP_OPEN_TIMEOUT_MSEC", "CAP_PROP_READ_TIMEOUT_MSEC")
    known = [getattr(cv2, name) for name in names if hasattr(cv2, name)]
    return [value for name in known for value in (name, milliseconds)]
