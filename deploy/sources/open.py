"""From what a user writes to a source: which kind is meant by `csi:1`, `0`, `rtsp://...`, `gst:...` or a path."""

import re
from pathlib import Path
from typing import Any, Mapping, Optional

from deploy.errors import refuse
from deploy.events import Events
from deploy.pictures import PICTURES
from deploy.sources.capture import Capture, Opener, camera, pipeline, stream
from deploy.sources.file import PacedCapture, PictureSource, VideoSource, pictures_in
from deploy.sources.gstreamer import board_pipeline, require_gstreamer, unknown_camera
from deploy.sources.live import LiveSource
from deploy.sources.settings import SourceSettings
from deploy.sources.source import Source

_ALLOWED = "give a picture, folder, video, camera (csi, 0, /dev/video0), rtsp:// address or gst: and a pipeline"
_GSTREAMER = "gst:"
# Cameras as boards name them; without such a board, that is said, and not that there is no such file.
_CREDENTIALS = re.compile(r"://[^/\s\"']*@")
_CAMERA = re.compile(r"(csi|usb|usb-mjpeg|rtsp-h264|rtsp-h265)(:.*)?")


def open_source(
    spec: Optional[str] = None,
    settings: Optional[SourceSettings] = None,
    board: Optional[Mapping[str, Any]] = None,
    events: Optional[Events] = None,
) -> Source:
    """Open a source.

    spec: a camera of the board (csi, csi:1, usb-mjpeg:/dev/video1, rtsp-h264:rtsp://...), a camera by number or path
    (0, /dev/video0), a stream (rtsp://..., http://...), gst: and a GStreamer pipeline that ends in an appsink, or the
    path of a video, a picture or a folder; by default settings.device. settings: without any, a camera that is not
    there is refused. board: the bundle's entry. events: told when a camera is lost and back.

    Raises UserError if there is nothing to read.
    """
    settings = settings or SourceSettings(wait=False)
    board = board or {}
    spec = settings.device if spec is None else spec
    opener = _live(spec, settings, board)
    if opener is not None:
        return LiveSource(shown_name(spec), opener, settings, events, is_endless=not spec.startswith("file://"))
    path = _path(spec)
    if path.is_dir():
        return PictureSource(path, pictures_in(path))
    if path.suffix.lower() in PICTURES:
        return PictureSource(path, [path])
    if settings.pace == "real":
        return _paced(path, settings, events)
    return VideoSource(path)


def shown_name(spec: str) -> str:
    """What frames, page, log and messages call a source: its address without user and password.

    >>> shown_name("rtsp://pilot:secret@10.0.0.2:554/a")
    'rtsp://10.0.0.2:554/a'
    """
    return _CREDENTIALS.sub("://", spec)


def _live(spec: str, settings: SourceSettings, board: Mapping[str, Any]) -> Optional[Opener]:
    """What opens a camera or stream; None for what can only be a path."""
    if spec.isdecimal() and len(spec) < 4:
        return camera(int(spec), settings)
    if spec.startswith("/dev/video"):
        return camera(spec, settings)
    text = spec[len(_GSTREAMER) :] if spec.startswith(_GSTREAMER) else board_pipeline(spec, board, settings)
    if text is not None:
        require_gstreamer(spec)
        return pipeline(shown_name(spec), text, settings)
    if _CAMERA.fullmatch(spec) and not Path(spec).exists():
        raise unknown_camera(spec, board)
    if "://" in spec:
        return stream(shown_name(spec), spec, settings)
    return None


def _path(spec: str) -> Path:
    path = Path(spec)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise refuse(spec, "no such file or folder", _ALLOWED) from None
    except OSError as error:
        raise refuse(spec, error.strerror or str(error), _ALLOWED) from None
    if not spec:
        raise refuse("--source", "is empty", _ALLOWED)
    return path


def _paced(path: Path, settings: SourceSettings, events: Optional[Events]) -> LiveSource:
    """A video as a camera would give it; it is opened here, so that a refusal is said at once."""
    capture = PacedCapture(path)

    def opener() -> Capture:
        return capture

    source = LiveSource(path.name, opener, settings, events, is_endless=False)
    source.length = capture.length
    return source
