"""A live source hands out the newest frame only, counts what it drops, and ends when its stream does.

The stream is a video file behind a file:// address, which OpenCV reads as it reads any other stream, as fast as it
can: a stand-in for a camera, with real decoding and a real reader thread.
"""

import json
import time

import cv2
import numpy as np
import pytest

from deploy.sources import LiveSource, open_source


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> str:
    """100 frames whose brightness is their number."""
    path = tmp_path_factory.mktemp("stream") / "numbers.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (640, 480))
    for number in range(100):
        writer.write(np.full((480, 640, 3), 2 * number + 20, np.uint8))
    writer.release()
    return path.as_uri()


def test_slow_reader_gets_the_newest_frames(stream):
    with open_source(stream) as source:
        assert isinstance(source, LiveSource)
        frames = []
        for frame in source:
            frames.append(frame)
            time.sleep(0.02)
    numbers = [frame.number for frame in frames]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 99
    assert len(numbers) < 100
    assert source.dropped == 100 - len(numbers)
    for frame in frames:
        assert abs(float(frame.image.mean()) - (2 * frame.number + 20)) < 4


def test_capture_time_is_that_of_the_frame(stream):
    with open_source(stream) as source:
        for frame in source:
            assert 0 <= time.monotonic() - frame.captured < 5
            time.sleep(0.01)


def test_live_run_reports_what_was_dropped(stream, tmp_path, skylight, bundle):
    out = tmp_path / "out"
    done = skylight("detect", "--bundle", bundle, "--source", stream, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["frames"] + summary["dropped"] == 100
    rows = [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()[1:]]
    assert len(rows) == summary["frames"]
    assert all(row["age_ms"] >= 0 for row in rows)
