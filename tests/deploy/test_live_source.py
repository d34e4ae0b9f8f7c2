"""A live source hands out the newest frame only, counts what it drops, and ends when its stream does.

The stream is a video file behind a file:// address, which OpenCV reads as it reads any other stream, as fast as it
can: a stand-in for a camera, with real decoding and a real reader thread.
"""

import json
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from flown import detections
from scripted_camera import Scripted, picture, take

from deploy.events import Events
from deploy.sources import EndOfSource, LiveSource, SourceSettings, open_source
from deploy.sources.capture import OpenCvCapture
from deploy.tracks import Tracker, TrackSettings


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 frames whose brightness is their number."""
    path = tmp_path_factory.mktemp("stream") / "numbers.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 100, (640, 480))
    for number in range(100):
        writer.write(np.full((480, 640, 3), 2 * number + 20, np.uint8))
    writer.release()
    return path


@pytest.fixture
def stream(video: Path) -> str:
    return video.as_uri()


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


def test_video_at_its_own_pace_is_a_live_source(video):
    begin = time.monotonic()
    with open_source(str(video), SourceSettings(pace="real")) as source:
        assert (source.kind, source.length, source.fps) == ("live", 100, 100)
        frames = [take(source)]
        time.sleep(0.2)
        frames += list(source)
    assert time.monotonic() - begin >= 0.98  # the last of 100 frames is due then
    numbers = [frame.number for frame in frames]
    assert numbers[0] == 0
    assert numbers[1] > 5
    assert numbers[-1] == 99
    for frame in frames:
        assert frame.source_time is not None
        assert frame.captured - frames[0].captured >= frame.source_time - 0.05  # the first frame's stamp may come late
        assert frame.source_time == pytest.approx(frame.number / 100)


def test_nothing_comes_in_the_time_given_and_then_the_end():
    gate = threading.Event()

    def one_then_wait(number: int) -> object:
        if number:
            gate.wait()
        return None if number else picture(1)

    source = LiveSource("camera", lambda: Scripted(one_then_wait), SourceSettings(), is_endless=False)
    assert take(source).number == 0
    assert source.newest(0.01) is None
    gate.set()
    with pytest.raises(EndOfSource):
        source.newest(5)
    source.close()


def test_file_gives_its_next_frame_whatever_the_timeout(video, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture(3))
    for spec, count in ((str(video), 100), (str(tmp_path), 1)):
        with open_source(spec) as source:
            numbers = [take(source, 0).number for _ in range(count)]
            assert numbers == list(range(count))
            with pytest.raises(EndOfSource):
                source.newest(1)


class _Stamps:
    """What OpenCV's V4L2 says of one frame. times: of its buffers, seconds."""

    def __init__(self, times: list[float]) -> None:
        self._times, self._number = times, -1

    def grab(self) -> bool:
        self._number += 1
        return True

    def get(self, name: int) -> float:
        return self._times[self._number] * 1000 if name == cv2.CAP_PROP_POS_MSEC else 30.0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, picture(self._number)


@pytest.mark.parametrize(
    ("stamps", "captured"),
    [
        ([999.98, 999.99], [999.98, 999.99]),
        ([0, 0], [1000, 1000]),  # a driver that stamps nothing
        ([998.9, 1000.01], [1000, 1000]),  # too old; in the future
        ([999.98, 999.98], [999.98, 1000]),  # a stamp that stands still
        ([999.98, 999.9], [999.98, 999.9]),  # the source says so, and puts it right
        ([1.7e9, 1.7e9 + 0.03], [1000, 1000]),  # wall time
    ],
)
def test_stamp_of_a_buffer_is_used_where_it_is_sane(stamps, captured):
    capture = OpenCvCapture(_Stamps(stamps), is_stamped=True, clock=lambda: 1000.0)
    readings = [capture.read() for _ in stamps]
    assert [reading.captured for reading in readings if reading] == pytest.approx(captured)


class _Stepping:
    """A camera whose stamps lie 20 ms back, and once step back by 60 ms more, as where the driver's clock is set."""

    STEP = 4  # of 9 frames

    def __init__(self) -> None:
        self._number = -1
        self._begin = time.monotonic()

    def grab(self) -> bool:
        self._number += 1
        time.sleep(0.03)
        return self._number < 9

    def get(self, name: int) -> float:
        late = 0.08 if self._number >= self.STEP else 0.02
        return (time.monotonic() - late) * 1000 if name == cv2.CAP_PROP_POS_MSEC else 30.0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, picture(self._number)

    def release(self) -> None:
        pass


def test_stamps_that_step_back_end_no_track_and_are_told_once():
    events = Events(stream=None)
    tracker = Tracker(TrackSettings(min_hits=1))
    captured, numbers, ages = [], set(), []

    def opener() -> OpenCvCapture:
        return OpenCvCapture(_Stepping(), is_stamped=True)

    source = LiveSource("camera", opener, SourceSettings(), events, is_endless=False)
    for frame in source:
        captured.append(frame.captured)
        ages.append(time.monotonic() - frame.captured)
        tracks = tracker.update(frame.captured, detections(((10.0, 10.0, 20.0, 20.0), 0.9, 0)))
        numbers |= {track.number for track in tracks}
    assert captured == sorted(captured)
    assert numbers == {1}
    assert min(ages) >= 0.02
    assert source.steps_back >= 1
    assert [event.kind for event in events.newest()] == ["camera.clock"]
    assert "camera: its stamps step back, by 0.0" in events.newest()[0].text
    source.close()
