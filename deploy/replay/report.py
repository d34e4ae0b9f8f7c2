"""What a replay found, for people and for machines: a table, JSON values, pictures side by side. Computes nothing."""

import contextlib
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from deploy.draw import draw
from deploy.errors import refuse
from deploy.files import new_folder
from deploy.frame import Detections, Frame
from deploy.replay.frames import FrameReplay, Named, summarise

_ROWS = 20


def collect(
    replayed: Iterable[Tuple[FrameReplay, np.ndarray]], out: Optional[Path] = None, most: int = 200
) -> List[FrameReplay]:
    """Run a replay to its end. out: folder for pictures of the first `most` frames that differ, side by side.

    The folder appears when all of it is there. Raises UserError where there is one already.
    """
    if out is not None and out.exists():
        raise refuse(out, "is there already", "give another --out, or move it away")
    frames: List[FrameReplay] = []
    pictures = 0
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(new_folder(out)) if out is not None else None
        for frame, image in replayed:
            frames.append(frame)
            is_different = any(change.kind != "stays" for change in frame.changes)
            if folder is not None and is_different and pictures < most:
                _write_picture(folder / "{:06d}.jpg".format(frame.number), side_by_side(frame, image))
                pictures += 1
    return frames


def replay_text(frames: Sequence[FrameReplay], rows: int = _ROWS) -> str:
    """A summary, and the frames that differ most, a line each."""
    total = summarise(frames)
    lines = [
        "{} frames, {} of them differ".format(total.frames, total.changed_frames),
        "detections   {} before, {} now".format(total.before, total.after),
        "             {} appear, {} vanish, {} move, {} stay".format(
            total.appears, total.vanishes, total.moves, total.stays
        ),
        "score change {:.4f} on average, {:.4f} at most, of those found by both".format(
            total.score_change, total.largest_score_change
        ),
    ]
    ranked = sorted((frame for frame in frames if frame.size > 0), key=lambda frame: (-frame.size, frame.number))
    if ranked:
        lines.append("{:>8}  {:9} {:>6} {:>6} {:>5}  class".format("frame", "what", "before", "now", "IoU"))
    for frame in ranked[:rows]:
        for change in frame.changes:
            if change.kind != "stays" or len(frame.changes) == 1:
                scores = ["-" if score is None else "{:.3f}".format(score) for score in (change.before, change.after)]
                line = "{:>8}  {:9} {:>6} {:>6} {:5.2f}  {}"
                lines.append(line.format(frame.number, change.kind, scores[0], scores[1], change.iou, change.name))
    if len(ranked) > rows:
        lines.append("... and {} frames more".format(len(ranked) - rows))
    return "\n".join(lines)


def replay_json(frames: Sequence[FrameReplay]) -> Dict[str, Any]:
    """The summary, and every frame with what differs."""
    rows: List[Dict[str, Any]] = [
        {"frame": frame.number, "name": frame.name, "changes": [dict(change._asdict()) for change in frame.changes]}
        for frame in frames
    ]
    return {"summary": dict(summarise(frames)._asdict()), "frames": rows}


def side_by_side(frame: FrameReplay, image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 BGR to (H, 2 W + 4, 3): before on the left, now on the right."""
    halves = [_drawn(frame, image, frame.before, "before"), _drawn(frame, image, frame.after, "now")]
    gap = np.full((image.shape[0], 4, 3), 255, np.uint8)
    return np.concatenate([halves[0], gap, halves[1]], axis=1)


def _write_picture(path: Path, image: np.ndarray) -> None:
    """image: (H, W, 3) uint8 BGR."""
    if not cv2.imwrite(str(path), image):
        raise refuse(path, "cannot be written", "free some space, or give another --out")


def _drawn(frame: FrameReplay, image: np.ndarray, found: Named, what: str) -> np.ndarray:
    names = sorted(set(frame.before.classes) | set(frame.after.classes))
    classes = np.array([names.index(name) for name in found.classes], np.int64)
    shown = Frame(frame.number, 0.0, None, image, frame.name)
    caption = "{}: frame {}".format(what, frame.number)
    return draw(shown, Detections(found.boxes, found.scores, classes), names, caption)
