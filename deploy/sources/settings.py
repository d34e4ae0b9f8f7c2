"""What can be set about the source of frames."""

from typing import NamedTuple

from deploy.errors import refuse
from deploy.settings import require_ranges

PACES = ("fast", "real")


class SourceSettings(NamedTuple):
    """Where frames come from, and what is done when none come.

    device: a camera of the board's file (csi, csi:1, usb:/dev/video1, rtsp-h264:rtsp://...), a camera's number or
        /dev/video0, a stream's address, gst: and a pipeline, or a video, a picture or a folder of pictures
    width, height, fps: asked of a camera, pixels and frames per second, above 0
    pace: of a video file: fast gives every frame as soon as it is asked for, real plays it as a camera would
    patience: seconds without a good frame after which a camera counts as lost and is opened again, from 0.1
    retry, longest_retry: seconds before the first and, doubled each time, at most before a later try to open it, from
        0.01; each is 25 % longer or shorter by chance
    wait: yes starts without the camera and waits for it, with page and heartbeat; no refuses
    """

    device: str = "csi"
    width: int = 1280
    height: int = 720
    fps: int = 30
    pace: str = "fast"
    patience: float = 5.0
    retry: float = 0.5
    longest_retry: float = 8.0
    wait: bool = True

    def check(self) -> None:
        """Raise UserError for what is out of range."""
        require_ranges(self, width=(1, 16384), height=(1, 16384), fps=(1, 16384))
        require_ranges(self, patience=(0.1, 3600), retry=(0.01, 3600), longest_retry=(0.01, 3600))
        if self.longest_retry < self.retry:
            remedy = "give at least retry={:g}".format(self.retry)
            raise refuse("longest_retry={:g}".format(self.longest_retry), "is shorter than the first", remedy)
        if self.pace not in PACES:
            raise refuse("pace=" + self.pace, "unknown", "allowed: " + ", ".join(PACES))
        if not self.device:
            raise refuse("device=", "is empty", "give a camera, a stream, a video, a picture or a folder")
