"""What a run leaves behind: one JSON line per frame, and the frames with their boxes as a video or as pictures.

Files appear under their names when they are complete: until `finish` they are called `*.part`.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from deploy.draw import draw
from deploy.errors import refuse
from deploy.frame import Detections, Frame

_MPEG4 = cv2.VideoWriter_fourcc(*"mp4v")  # type: ignore[attr-defined]  # VideoWriter.fourcc is newer than 4.1.1


class Outputs:
    """Writes a run into `folder`: detections.jsonl, and annotated.mp4 or, for pictures, annotated/.

    with_pictures: whether the drawn frames are wanted. is_video: one video, or one picture per frame.
    """

    def __init__(
        self, folder: Path, classes: Sequence[str], fps: Optional[float], is_video: bool, with_pictures: bool
    ) -> None:
        self._folder = folder
        self._classes = classes
        self._fps = fps or 25.0
        self._is_video, self._with_pictures = is_video, with_pictures
        self._writer: Any = None
        self._size: Tuple[int, int] = (0, 0)
        self._parts: List[Path] = []
        self._made_folder = not folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lines = self._part("detections.jsonl").open("w", encoding="utf-8")
        except OSError as error:
            raise refuse(folder, error.strerror or str(error), "give a folder that can be written") from None

    def header(self, content: Dict[str, Any]) -> None:
        """Write the first line: what ran, on what."""
        self._lines.write(json.dumps(content) + "\n")

    def frame(self, frame: Frame, detections: Detections, age: float, milliseconds: Dict[str, float]) -> None:
        """Write one frame's line; `age` in seconds since capture, `milliseconds` per stage."""
        found = [
            {
                "class": int(index),
                "name": self._classes[int(index)],
                "score": round(float(score), 5),
                "box": [round(float(value), 2) for value in box],
            }
            for box, score, index in zip(*detections)
        ]
        row = {
            "frame": frame.number,
            "name": frame.name,
            "captured": frame.captured,
            "source_time": frame.source_time,
            "age_ms": round(age * 1000, 3),
            "detections": found,
            "milliseconds": {stage: round(value, 3) for stage, value in milliseconds.items()},
        }
        self._lines.write(json.dumps(row) + "\n")

    def picture(self, frame: Frame, detections: Detections, network_ms: float) -> None:
        """Draw one frame, if pictures are wanted."""
        if not self._with_pictures:
            return
        image = draw(frame, detections, self._classes, "frame {}  {:.1f} ms".format(frame.number, network_ms))
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if self._is_video:
            self._write_video(bgr)
        elif not cv2.imwrite(str(self._picture_folder() / frame.name), bgr):
            raise refuse(self._folder / frame.name, "cannot be written", "free some space, or use another folder")

    def finish(self) -> List[Path]:
        """Close everything and give the files their names; returns them."""
        self._close()
        names = []
        for part in self._parts:
            name = part.with_name(part.name.replace(".part", ""))
            if name.is_dir():
                shutil.rmtree(str(name))
            part.replace(name)
            names.append(name)
        return names

    def discard(self) -> None:
        """Remove everything written."""
        self._close()
        for part in self._parts:
            if part.is_dir():
                shutil.rmtree(str(part), ignore_errors=True)
            elif part.exists():
                part.unlink()
        if self._made_folder:
            self._folder.rmdir()

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

    def _close(self) -> None:
        self._lines.close()
        if self._writer is not None:
            self._writer.release()
            self._writer = None
