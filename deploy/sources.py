"""Where frames come from: a picture, a folder of pictures, a video file, or a live camera or stream.

A file gives every frame, in order, the same each time. A live source gives the newest frame only: what arrives while
the network is busy is counted and dropped. Knows nothing of what is done with the frames.
"""

import threading
import time
from pathlib import Path
from typing import Iterator, List, Optional, Union

import cv2
import numpy as np

from deploy.containers import missing_bytes
from deploy.errors import refuse
from deploy.frame import Frame
from deploy.pictures import PICTURES, read_picture

_ALLOWED = "give a picture, folder, video, camera number or rtsp:// address"
_PATIENCE = 5.0  # seconds without a frame before a live source counts as lost


class Source:
    """An iterator of Frame and a context manager.

    kind: "picture", "folder", "video" or "live". fps: frames per second, or None. length: frames, or None if unknown.
    dropped: frames that arrived and were never handed out.
    """

    kind = ""
    fps: Optional[float] = None
    length: Optional[int] = None
    dropped = 0

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        raise NotImplementedError

    def close(self) -> None:
        """Give back the camera or the file."""


def open_source(spec: str) -> Source:
    """Open a path of a picture, folder or video, a camera (0, 1, ... or /dev/video0), or a stream (rtsp://...).

    Raises UserError if there is nothing to read.
    """
    if spec.isdecimal() and len(spec) < 4:
        return LiveSource(spec, int(spec), is_endless=True)
    if spec.startswith("/dev/video"):
        return LiveSource(spec, spec, is_endless=True)
    if "://" in spec:
        return LiveSource(spec, spec, is_endless=False)
    path = Path(spec)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise refuse(spec, "no such file or folder", _ALLOWED) from None
    except OSError as error:
        raise refuse(spec, error.strerror or str(error), _ALLOWED) from None
    if not spec:
        raise refuse("--source", "is empty", _ALLOWED)
    if path.is_dir():
        return PictureSource(path, _pictures(path))
    if path.suffix.lower() in PICTURES:
        return PictureSource(path, [path])
    return VideoSource(path)


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
        self.fps = _rate(self._capture)
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.length = count if count > 0 else None
        self._first = self._read()
        if self._first is None:
            raise refuse(path, "no frame can be decoded", "give a complete video")

    def __iter__(self) -> Iterator[Frame]:
        image, number, source_time = self._first, 0, 0.0
        begin = self._position()
        while image is not None:
            yield Frame(number, time.monotonic(), source_time, _rgb(image), self._path.name)
            image, number = self._read(), number + 1
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


class LiveSource(Source):
    """A camera or stream, read by a thread of its own into a slot that holds the newest frame alone.

    is_endless: a camera, which is lost when it gives no more frames; a stream may end.
    """

    def __init__(self, name: str, device: Union[int, str], is_endless: bool) -> None:
        self.kind = "live"
        self._name = name
        self._is_endless = is_endless
        self._capture = cv2.VideoCapture(device)
        if not self._capture.isOpened():
            raise refuse(name, "the camera or stream cannot be opened", "check the cable, the number and who uses it")
        self.fps = _rate(self._capture)
        self._slot: Optional[Frame] = None
        self._is_over = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._slot is not None or self._is_over, timeout=_PATIENCE)
                frame, self._slot = self._slot, None
                is_over = self._is_over
            if frame is not None:
                yield frame._replace(image=_rgb(frame.image))
            elif not is_over:
                raise refuse(self._name, "no frame for {:.0f} s".format(_PATIENCE), "check the cable")
            elif self._is_endless:
                raise refuse(self._name, "the camera gives no more frames", "check the cable")
            else:
                return

    def _fill(self) -> None:
        """Read until the end or `close`; the thread that reads also gives the camera back."""
        number = 0
        try:
            while not self._is_over and self._capture.grab():
                captured = time.monotonic()
                is_read, image = self._capture.retrieve()
                if not is_read:
                    break
                with self._news:
                    self.dropped += self._slot is not None
                    self._slot = Frame(number, captured, None, image, self._name)
                    self._news.notify()
                number += 1
        finally:
            with self._news:
                self._is_over = True
                self._news.notify()
            self._capture.release()

    def close(self) -> None:
        """Stop the reader, which gives the camera back."""
        self._is_over = True
        self._thread.join(timeout=_PATIENCE)


def _pictures(folder: Path) -> List[Path]:
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES)
    except OSError as error:
        raise refuse(folder, error.strerror or str(error), "give a folder that can be read") from None
    if not files:
        raise refuse(folder, "no picture in it", "give a folder with " + ", ".join(PICTURES))
    return files


def _rate(capture: cv2.VideoCapture) -> Optional[float]:
    """Frames per second; None for what streams without a rate announce, such as 0, -1 or 90000."""
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return rate if 0 < rate <= 1000 else None


def _rgb(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
