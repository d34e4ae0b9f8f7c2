"""The verb that measures a camera."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import Json, app
from pipeline.cli.overview import examples


@app.command(
    epilog=examples(
        "skylight calibrate board/ --board 9x6 --square 25",
        "skylight calibrate board.mp4 --board 9x6 --square 24.8 --out /etc/skylight/camera.json",
    )
)
def calibrate(
    source: Annotated[Path, typer.Argument(metavar="PICTURES", help="Folder or video of a chessboard.")],
    board: Annotated[str, typer.Option(metavar="9x6", help="Inner corners of the board.")],
    square: Annotated[float, typer.Option(metavar="MM", help="Side of a square, millimetres.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write.")] = Path("camera.json"),
    every: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Look at every nth picture; by default 1, of a video 5.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a camera from pictures of a chessboard: focal length, middle, distortion, each with its error."""
    from deploy.camera_calibration import calibration_json
    from pipeline.calibrating import board_of, calibration_text, measure_camera, write_calibration

    step = every if every is not None else 1 if source.is_dir() else 5
    is_shown = sys.stderr.isatty() and not as_json

    def show(looked_at: int, usable: int) -> None:
        if is_shown:
            print(f"\r{looked_at} pictures, {usable} usable", end="", file=sys.stderr, flush=True)

    try:
        found = measure_camera(source, board_of(board, square), step, show)
    finally:
        if is_shown:
            print(file=sys.stderr)
    write_calibration(out, found)
    print(calibration_json(found) if as_json else f"{calibration_text(found)}\n{out}", end="" if as_json else "\n")
