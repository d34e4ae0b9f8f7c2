"""The drawn fly-by: a readable video whose truth follows what is seen."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.synthetic.catalogue import TARGET
from pipeline.synthetic.flyby import draw_flyby


@pytest.fixture(scope="module")
def flyby(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flyby") / "flyby.mp4"
    draw_flyby(path, frames=40, width=320, height=240)
    return path


def _truth(video: Path) -> list[dict]:
    return [json.loads(line) for line in video.with_suffix(".truth.jsonl").read_text().splitlines()]


def test_video_has_the_frames_asked_for(flyby):
    capture = cv2.VideoCapture(str(flyby))
    shapes = []
    while True:
        is_read, image = capture.read()
        if not is_read:
            break
        shapes.append(image.shape)
    assert shapes == [(240, 320, 3)] * 40
    assert [row["frame"] for row in _truth(flyby)] == list(range(40))
    assert sorted(path.name for path in flyby.parent.iterdir()) == ["flyby.mp4", "flyby.truth.jsonl"]


def test_target_is_in_sight_and_moves_smoothly(flyby):
    middles: dict[int, np.ndarray] = {}
    for row in _truth(flyby):
        for found in row["objects"]:
            if found["class"] == TARGET and not found["truncated"]:
                x0, y0, x1, y1 = found["box"]
                assert 0 <= x0 < x1 <= 320
                assert 0 <= y0 < y1 <= 240
                middles.setdefault(row["frame"], np.array([(x0 + x1) / 2, (y0 + y1) / 2]))
    assert len(middles) > 15
    steps = [np.abs(middles[n + 1] - middles[n]).max() for n in middles if n + 1 in middles]
    assert max(steps) < 25


def test_same_seed_gives_the_same_truth(tmp_path, flyby):
    draw_flyby(tmp_path / "again.mp4", frames=40, width=320, height=240)
    assert _truth(tmp_path / "again.mp4") == _truth(flyby)


def test_interrupted_flyby_leaves_nothing(tmp_path):
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_flyby(tmp_path / "flyby.mp4", frames=3, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_no_frames_are_refused(tmp_path):
    with pytest.raises(UserError):
        draw_flyby(tmp_path / "flyby.mp4", frames=0)
