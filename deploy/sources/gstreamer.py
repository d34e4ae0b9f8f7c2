"""GStreamer pipelines: those of the board's file with their placeholders filled, and whether OpenCV can run them."""

import re
from typing import Any, Dict, Mapping, Optional

import cv2

from deploy.errors import UserError, refuse
from deploy.opencv_build import gstreamer_in
from deploy.sources.settings import SourceSettings

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# What stands behind the colon of a camera, by the placeholder it fills, and what it is without one.
_PLACES = {"sensor": "0", "device": "/dev/video0", "url": None}


def board_pipeline(spec: str, board: Mapping[str, Any], settings: SourceSettings) -> Optional[str]:
    """The pipeline of a camera of the board: `csi`, `csi:1`, `usb-mjpeg:/dev/video1`, `rtsp-h264:rtsp://...`.

    Returns None where the board has no camera of that name.
    Raises UserError where the place behind the colon is missing, or would be read as more than a place.
    """
    kind, _, place = spec.partition(":")
    pipeline = board.get("cameras", {}).get(kind)
    if pipeline is None:
        return None
    values: Dict[str, Any] = {"width": settings.width, "height": settings.height, "fps": settings.fps}
    needed = [name for name in _PLACEHOLDER.findall(pipeline) if name in _PLACES]
    if place and not needed:
        raise refuse(spec, "the camera has no place to fill", "give " + kind)
    for name in needed:
        value = place or _PLACES[name]
        if not value:
            raise refuse(spec, "the {} is missing".format(name), "give {}:{}".format(kind, name.upper()))
        if any(character in ' !"\n' for character in value) or (name == "sensor" and not value.isdecimal()):
            raise refuse(spec, "{}={!r}".format(name, value), "give a {}, without blank, quote or !".format(name))
        values[name] = value
    return pipeline.format(**values)


def has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer; most wheels are not, a Jetson's own is."""
    return gstreamer_in(cv2.getBuildInformation()).startswith("YES")


def require_gstreamer(spec: str) -> None:
    """Raise UserError where this OpenCV runs no pipelines."""
    if not has_gstreamer():
        remedy = "use the system's OpenCV, as JetPack brings it, not a wheel; or give a camera's number or rtsp://"
        raise refuse(spec, "OpenCV {} here is built without GStreamer".format(cv2.__version__), remedy)


def unknown_camera(spec: str, board: Mapping[str, Any]) -> UserError:
    """The error for a name such as `csi` on a board that has no such camera."""
    known = ", ".join(sorted(board.get("cameras", {}))) or "none"
    return refuse(spec, "board {} has no such camera".format(board.get("name", "unknown")), "it has: " + known)
