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

from deploy.errors import refuse
from deploy.frame import Frame

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

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
    if spec.isdigit():
        return LiveSource(spec, int(spec))
    if "://" in spec or spec.startswith("/dev/video"):
        return LiveSource(spec, spec)
    path = Path(spec)
    if path.is_dir():
        return PictureSource(path, _pictures(path))
    if not path.exists():
        raise refuse(spec, "no such file or folder", "give a picture, folder, video, camera number or rtsp:// address")
    if path.suffix.lower() in PICTURES:
        return PictureSource(path, [path])
    return VideoSource(path)


class PictureSource(Source):
    """Pictures in the order of their names; OpenCV applies their EXIF rotation."""

    def __init__(self, path: Path, files: List[Path]) -> None:
        self.kind = "folder" if path.is_dir() else "picture"
        self.length = len(files)
        self._files = files

    def __iter__(self) -> Iterator[Frame]:
        for number, file in enumerate(self._files):
            image = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if image is None:
                raise refuse(file, "cannot be decoded as a picture", "replace or remove it")
            yield Frame(number, time.monotonic(), None, _rgb(image), file.name)


class VideoSource(Source):
    """A video file, every frame in order, as fast as the caller asks."""

    def __init__(self, path: Path) -> None:
        self.kind = "video"
        self._path = path
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise refuse(path, "cannot be opened as a picture or a video", "give a video that OpenCV can decode")
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or None
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.length = count if count > 0 else None
        self._first = self._read()
        if self._first is None:
            raise refuse(path, "no frame can be decoded", "give a complete video")

    def __iter__(self) -> Iterator[Frame]:
        image, number = self._first, 0
        while image is not None:
            source_time = number / self.fps if self.fps else None
            yield Frame(number, time.monotonic(), source_time, _rgb(image), self._path.name)
            image, number = self._read(), number + 1

    def _read(self) -> Optional[np.ndarray]:
        is_read, image = self._capture.read()
        return image if is_read else None

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


class LiveSource(Source):
    """A camera or stream, read by a thread of its own into a slot that holds the newest frame alone."""

    def __init__(self, name: str, device: Union[int, str]) -> None:
        self.kind = "live"
        self._name = name
        self._capture = cv2.VideoCapture(device)
        if not self._capture.isOpened():
            raise refuse(name, "the camera or stream cannot be opened", "check the cable, the number and who uses it")
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or None
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
                if frame is None and not self._is_over:
                    raise refuse(self._name, "no frame for {:.0f} s".format(_PATIENCE), "check the cable")
            if frame is None:
                return
            yield frame._replace(image=_rgb(frame.image))

    def _fill(self) -> None:
        number = 0
        while not self._is_over:
            is_read, image = self._capture.read()
            with self._news:
                if not is_read:
                    self._is_over = True
                else:
                    self.dropped += self._slot is not None
                    self._slot = Frame(number, time.monotonic(), None, image, self._name)
                    number += 1
                self._news.notify()

    def close(self) -> None:
        """Stop the reader and give the camera back."""
        self._is_over = True
        self._thread.join(timeout=_PATIENCE)
        self._capture.release()


def _pictures(folder: Path) -> List[Path]:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES)
    if not files:
        raise refuse(folder, "no picture in it", "give a folder with " + ", ".join(PICTURES))
    return files


def _rgb(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
