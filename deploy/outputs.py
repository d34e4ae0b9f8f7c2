"""What a run leaves behind: one JSON line per frame, and the frames with their boxes as a video or as pictures.

Files appear under their names when they are complete: until `finish` they are called `*.part`.
"""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from deploy.draw import draw
from deploy.errors import UserError, refuse
from deploy.frame import Detections, Frame, Observation, Track
from deploy.part import Part

NAMES = ("detections.jsonl", "annotated.mp4", "annotated")
_MPEG4 = cv2.VideoWriter_fourcc(*"mp4v")  # type: ignore[attr-defined]  # VideoWriter.fourcc is newer than 4.1.1


class Outputs(Part):
    """Writes a run into `folder`: detections.jsonl, and annotated.mp4 or, for pictures, annotated/.

    with_pictures: whether the drawn frames are wanted. is_video: one video, or one picture per frame.
    frames: lines written so far. What cannot be written is refused: without its results a run is for nothing.
    """

    name = "files"
    is_vital = True

    def __init__(
        self, folder: Path, classes: Sequence[str], fps: Optional[float], is_video: bool, with_pictures: bool
    ) -> None:
        self.frames = 0
        self._folder = folder
        self._classes = classes
        self._fps = fps or 25.0
        self._is_video, self._with_pictures = is_video, with_pictures
        self._writer: Any = None
        self._size: Tuple[int, int] = (0, 0)
        self._parts: List[Path] = []
        self._is_closed = False
        _refuse_foreign(folder)
        self._made = [part for part in (folder, *folder.parents) if not part.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lines = self._part("detections.jsonl").open("w", encoding="utf-8")
        except OSError as error:
            self._remove_made()
            raise refuse(folder, error.strerror or str(error), "give a folder that can be written") from None

    def header(self, content: Dict[str, Any]) -> None:
        """Write the first line: what ran, on what."""
        self._lines.write(json.dumps(content) + "\n")

    def publish(self, observation: Observation) -> None:
        """Write a frame's line and, where pictures are wanted, draw it."""
        frame, detections = observation.frame, observation.detections
        row = {
            "frame": frame.number,
            "name": frame.name,
            "captured": frame.captured,
            "source_time": frame.source_time,
            "age_ms": round(observation.age * 1000, 3),
            "detections": self._found(detections),
            "tracks": [self._track(track) for track in observation.tracks],
            "milliseconds": {stage: round(value, 3) for stage, value in observation.milliseconds.items()},
        }
        self._lines.write(json.dumps(row) + "\n")
        if self._with_pictures:
            self._picture(frame, detections, observation.milliseconds["network"])
        self.frames += 1

    def _found(self, detections: Detections) -> List[Dict[str, Any]]:
        return [
            {
                "class": int(index),
                "name": self._classes[int(index)],
                "score": round(float(score), 5),
                "box": [round(float(value), 2) for value in box],
            }
            for box, score, index in zip(*detections)
        ]

    def _track(self, track: Track) -> Dict[str, Any]:
        return {
            "number": track.number,
            "name": self._classes[track.class_index],
            "score": round(track.score, 5),
            "box": [round(value, 2) for value in track.box],
            "bridged_ms": round(track.bridged * 1000, 3),
        }

    def _picture(self, frame: Frame, detections: Detections, network_ms: float) -> None:
        image = draw(frame, detections, self._classes, "frame {}  {:.1f} ms".format(frame.number, network_ms))
        if self._is_video:
            self._write_video(image)
        elif not cv2.imwrite(str(self._picture_folder() / frame.name), image):
            raise refuse(self._folder / frame.name, "cannot be written", "free some space, or use another folder")

    def close(self) -> None:
        """Write out what is buffered; OpenCV does not say that the disk did not take a video, so it is looked at.

        Raises UserError or OSError if something is missing. A second call does nothing.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._lines.close()
        finally:
            if self._writer is not None:
                self._writer.release()
                self._writer = None
        for part in self._parts:
            if part.suffix == ".mp4" and _count_frames(part) < self.frames:
                raise refuse(part, "could not be written whole", "free some space, or run with --no-video")

    def finish(self) -> List[Path]:
        """Close everything and give the files their names; returns them. What an earlier run left there goes."""
        self.close()
        for name in NAMES:
            _remove(self._folder / name)
        names = [part.with_name(part.name.replace(".part", "")) for part in self._parts]
        for part, path in zip(self._parts, names):
            part.replace(path)
        return names

    def discard(self) -> None:
        """Remove everything written, and the folders made for it."""
        with contextlib.suppress(OSError, UserError):
            self.close()
        for part in self._parts:
            _remove(part)
        self._remove_made()

    def _remove_made(self) -> None:
        with contextlib.suppress(OSError):  # somebody else put something there
            for folder in self._made:
                folder.rmdir()

    def _part(self, name: str) -> Path:
        stem, dot, suffix = name.partition(".")
        part = self._folder / (stem + ".part" + dot + suffix)
        self._parts.append(part)
        return part

    def _picture_folder(self) -> Path:
        part = self._folder / "annotated.part"
        if part not in self._parts:
            shutil.rmtree(str(part), ignore_errors=True)
            self._part("annotated").mkdir()
        return part

    def _write_video(self, image: np.ndarray) -> None:
        size = (image.shape[1], image.shape[0])
        if self._writer is None:
            self._size = size
            path = self._part("annotated.mp4")
            self._writer = cv2.VideoWriter(str(path), _MPEG4, self._fps, size)
            if not self._writer.isOpened():
                raise refuse(path, "OpenCV cannot write MPEG-4 here", "run with --no-video")
        self._writer.write(image if size == self._size else cv2.resize(image, self._size))


def _refuse_foreign(folder: Path) -> None:
    """Refuse to replace what no run of ours wrote: an earlier run's lines lie beside its video and pictures."""
    if (folder / "detections.jsonl").exists():
        return
    for name in NAMES:
        if (folder / name).exists():
            raise refuse(folder / name, "is not of an earlier run", "move it away, or give another --out")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(str(path))
    elif path.exists():
        path.unlink()


def _count_frames(video: Path) -> int:
    capture = cv2.VideoCapture(str(video))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    return count
