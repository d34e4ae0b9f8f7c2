"""A camera measured from pictures of a chessboard: reads them, writes the file, says what came of each."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from deploy.camera_calibration import Board, Calibration, Finder, calibrate, calibration_json
from deploy.errors import refuse
from deploy.files import new_file
from deploy.sources import open_source

__all__ = ["board_of", "calibration_text", "measure_camera", "write_calibration"]


def board_of(text: str, square: float) -> Board:
    """Read the inner corners of a board, 9x6, and the side of a square in millimetres.

    Raises:
        UserError: it is no board, or the square has no side.
    """
    found = re.fullmatch(r"(\d{1,2})x(\d{1,2})", text, re.ASCII)
    columns, rows = (int(found[1]), int(found[2])) if found else (0, 0)
    if min(columns, rows) < 3:
        raise refuse(f"--board {text}", "is no board", "give its inner corners, at least 3x3, for example 9x6")
    if not 0 < square < 10_000:
        raise refuse(f"--square {square:g}", "is no side of a square", "give millimetres")
    return Board(columns, rows, square)


def measure_camera(
    source: Path, board: Board, every: int, on_picture: Callable[[int, int], None] | None = None
) -> Calibration:
    """Look for the board in every nth picture of a folder or video, and measure the camera.

    on_picture: called with how many pictures were looked at and how many can be used.
    Raises UserError where there is nothing to read or the pictures do not make a camera.
    """
    if every < 1:
        raise refuse(f"--every {every}", "is no step", "give a whole number from 1")
    finder = Finder(board)
    with open_source(str(source)) as frames:
        if frames.kind == "live":
            raise refuse(source, "is a camera or a stream", "record a video with it, and give that")
        for frame in frames:
            if frame.number % every == 0:
                name = frame.name if frames.kind == "folder" else f"frame {frame.number}"
                finder.add(name, frame.image)
                if on_picture is not None:
                    on_picture(len(finder.views), finder.usable)
    return calibrate(finder, str(source))


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write the file that a drone's settings name, complete or not at all."""
    with new_file(path) as part:
        part.write_text(calibration_json(calibration), encoding="ascii")


def calibration_text(calibration: Calibration) -> str:
    """What was measured, and what became of the pictures, in a few lines."""
    lines = [
        f"{len(calibration.used)} of {len(calibration.views)} pictures used, "
        f"{calibration.width}x{calibration.height}, corners off by {calibration.rms:.2f} pixels (rms)"
    ]
    for names, values, errors in (
        (("fx", "fy", "cx", "cy"), calibration.matrix, calibration.matrix_error),
        (("k1", "k2", "p1", "p2", "k3"), calibration.distortion, calibration.distortion_error),
    ):
        pairs = zip(names, values, errors, strict=True)
        lines.append("  ".join(f"{name} {value:.5g} ± {error:.2g}" for name, value, error in pairs))
    reasons = Counter(re.sub(r"(?<=shows the same as ).*", "another", view.reason) for view in calibration.views)
    lines += [f"{count} left out: {reason}" for reason, count in sorted(reasons.items()) if reason]
    lines += [f"note: {note}" for note in calibration.notes]
    return "\n".join(lines)
