"""Draws a video of a drone that flies along a row of fronts, past a target window, and where everything is in it.

The row, its light and the flight are drawn; the camera moves in space, so near things pass faster than far ones.
"""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import refuse
from pipeline.files import new_file
from pipeline.synthetic.camera import Camera, look_at
from pipeline.synthetic.light import Light, expose
from pipeline.synthetic.plan import Street, add_clutter, add_front
from pipeline.synthetic.scene import Label, find_labels, render, visible_wall

__all__ = ["draw_flyby"]

_FOCAL = 0.9  # picture widths
_EVENING = Light(gain=(1.04, 1.0, 0.95), fall=0.2, angle=0.6, shadow=(0, 0, 0, 0), blur=0.6, noise=3.0)


def draw_flyby(
    out: Path,
    frames: int = 150,
    seed: int = 0,
    width: int = 640,
    height: int = 480,
    fps: int = 25,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write an .mp4 of `frames` frames, and beside it `<stem>.truth.jsonl` with the boxes in every frame.

    A line of the truth: {"frame": 0, "time": 0.0, "objects": [{"class": "Door", "box": [x0, y0, x1, y1], "occluded":
    false, "truncated": false}]}; boxes in pixels, time in seconds. Each file appears complete or not at all.
    `progress` is called with the number of frames done.

    Raises:
        UserError: numbers that make no video, or an OpenCV that cannot write one.

    >>> draw_flyby(Path("flyby.mp4"), frames=150)
    """
    _check(out, frames, width, height, fps)
    rng = np.random.default_rng([seed, frames])
    street, aim = _plan(rng)
    path = _flight(aim, frames, width, height, rng)
    add_clutter(street, path[frames // 3], ("Tree", "Lamp"), rng)
    add_clutter(street, path[-1 - frames // 5], ("Car", "Person", "Bin"), rng)
    scene = street.scene(rng)
    wall = visible_wall(scene, path, 1.4 * _FOCAL * width / -max(camera.position[2] for camera in path))
    with new_file(out) as video, new_file(out.with_suffix(".truth.jsonl")) as truth, truth.open("w") as lines:
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
        if not writer.isOpened():
            raise refuse(out, "OpenCV cannot write an mp4v video", "install an OpenCV built with FFmpeg")
        try:
            for index, camera in enumerate(path):
                picture = expose(render(scene, wall, camera), _EVENING, rng)
                writer.write(picture[:, :, ::-1])
                lines.write(json.dumps(_truth(index, fps, find_labels(scene, camera))) + "\n")
                if progress:
                    progress(index + 1)
        finally:
            writer.release()


def _plan(rng: np.random.Generator) -> tuple[Street, tuple[float, float]]:
    """Five fronts in a row, and the middle (world x, y) of the one target window, in the fourth."""
    street = Street()
    for _ in range(3):
        add_front(street, int(rng.integers(2, 5)), int(rng.integers(3, 5)), rng)
    (target,) = add_front(street, 3, 4, rng, targets=1)
    add_front(street, int(rng.integers(2, 5)), 4, rng)
    x0, y0, x1, y1 = target.rect
    return street, ((x0 + x1) / 2, (y0 + y1) / 2)


def _flight(aim: tuple[float, float], frames: int, width: int, height: int, rng: np.random.Generator) -> list[Camera]:
    """One camera per frame: from 11 m before the target to 3 m past it, closing in, looking ahead, swaying a bit."""
    phase = rng.uniform(0, 2 * np.pi, (6, 1))
    seconds = np.linspace(0, 6, frames)
    sway = sum(np.sin(seconds * speed + phase + speed) / speed for speed in (2.1, 5.3, 11.0))
    cameras = []
    for part, shake in zip(np.linspace(0, 1, frames), np.transpose(sway), strict=True):
        eased = part * part * (3 - 2 * part) * 0.5 + part * 0.5
        x = aim[0] - 11 + 14 * eased
        closing = np.exp(-(((x - aim[0]) / 4) ** 2))
        up = min(aim[1] - 0.6 + 1.2 * part, -1.6)
        position = np.array([x, up, -9.5 + 3 * closing]) + shake[:3] * 0.08
        ahead = 2.2 * (1 - eased) - 0.6
        focus = np.array([x + ahead, up * 0.4 + aim[1] * 0.6, 0]) + shake[3:] * (0.05, 0.05, 0)
        cameras.append(look_at(position, focus, 0.012 * shake[5], _FOCAL * width, width, height))
    return cameras


def _truth(index: int, fps: int, labels: list[Label]) -> dict[str, object]:
    objects = [
        {
            "class": label.name,
            "box": [round(value, 2) for value in label.box],
            "occluded": label.occluded,
            "truncated": label.truncated,
        }
        for label in labels
    ]
    return {"frame": index, "time": round(index / fps, 4), "objects": objects}


def _check(out: Path, frames: int, width: int, height: int, fps: int) -> None:
    if out.suffix.lower() != ".mp4":
        raise refuse(out, f"a name ending in {out.suffix or 'nothing'}", "give a name ending in .mp4")
    for name, value, least in (("frames", frames, 1), ("fps", fps, 1), ("width", width, 32), ("height", height, 32)):
        if value < least:
            raise refuse(name, str(value), f"give at least {least}")
    if width % 2 or height % 2:
        raise refuse("width and height", f"{width} x {height} pixels", "the video format needs even numbers")
