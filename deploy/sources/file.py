"""Pictures, folders of pictures and video files: every frame, in order, the same each time.

A video may also play at its own pace, as a camera would; then it is a live source, read by `PacedCapture`.
"""

import time
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Tuple

import cv2
import numpy as np

from deploy.containers import missing_bytes
from deploy.errors import refuse
from deploy.frame import Frame
from deploy.pictures import PICTURES, read_picture
from deploy.sources.capture import Capture, Reading, rate_of
from deploy.sources.source import Source


class PictureSource(Source):
    """Pictures in the order of their names."""

    def __init__(self, path: Path, files: List[Path]) -> None:
        self.kind = "folder" if path.is_dir() else "picture"
        self.length = len(files)
        self._files = files

    def __iter__(self) -> Iterator[Frame]:
        for number, file in enumerate(self._files):
            image = read_picture(file)
            yield Frame(number, time.monotonic(), None, image, file.name)


class VideoSource(Source):
    """A video file, every frame in order, as fast as the caller asks. Source time counts from the first frame."""

    def __init__(self, path: Path) -> None:
        self.kind = "video"
        self._path = path
        missing = missing_bytes(path)
        if missing:
            raise refuse(path, "breaks off, {} bytes are missing at its end".format(missing), "give a complete video")
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise refuse(path, "cannot be opened as a picture or a video", "give a video that OpenCV can decode")
        self.fps = rate_of(self._capture)
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.length = count if count > 0 else None
        self._first = self._read()
        if self._first is None:
            raise refuse(path, "no frame can be decoded", "give a complete video")

    def __iter__(self) -> Iterator[Frame]:
        for number, (image, source_time) in enumerate(self.readings()):
            yield Frame(number, time.monotonic(), source_time, image, self._path.name)

    def readings(self) -> Iterator[Tuple[np.ndarray, float]]:
        """Every frame as OpenCV gives it, (H, W, 3) uint8 BGR, and its time in the video, seconds."""
        image, source_time = self._first, 0.0
        begin = self._position()
        while image is not None:
            yield image, source_time
            image = self._read()
            # A few containers hold no times; their position stays where it was.
            usual = source_time + 1 / (self.fps or 25.0)
            clock = self._position() - begin
            source_time = round(clock if clock > source_time else usual, 6)

    def _read(self) -> Optional[np.ndarray]:
        is_read, image = self._capture.read()
        return image if is_read else None

    def _position(self) -> float:
        """Time of the frame just read, s; OpenCV 4.1 names that of the next one, always one frame more."""
        return float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


class PacedCapture(Capture):
    """A video file at its own pace: each frame comes when it is due, counted from the first one asked for."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = VideoSource(path)
        self._frames = self._source.readings()
        self._clock = clock
        self._begin: Optional[float] = None
        self.fps = self._source.fps
        self.length = self._source.length

    def read(self) -> Optional[Reading]:
        """See Capture."""
        for image, source_time in self._frames:
            now = self._clock()
            self._begin = now if self._begin is None else self._begin
            time.sleep(max(0.0, self._begin + source_time - now))
            return Reading(image, self._clock(), source_time)
        return None

    def close(self) -> None:
        """See Capture."""
        self._source.close()


def pictures_in(folder: Path) -> List[Path]:
    """The pictures of a folder in the order of their names. Raises UserError where there are none."""
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES)
    except OSError as error:
        raise refuse(folder, error.strerror or str(error), "give a folder that can be read") from None
    if not files:
        raise refuse(folder, "no picture in it", "give a folder with " + ", ".join(PICTURES))
    return files
