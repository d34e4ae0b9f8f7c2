"""A video file gives every frame with its own time, the same each time; one that breaks off is refused."""

import struct
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from colour_model import square, write_colour_bundle
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deploy.backends import Networks, OnnxRuntimeBackend
from deploy.containers import missing_bytes
from deploy.errors import UserError
from deploy.loop import Loop
from deploy.sources import open_source
from deploy.vision import Vision

FRAMES = 30


def _write(path: Path, codec: str = "mp4v", frames: int = FRAMES, fps: float = 10) -> Path:
    """Noise, so that every frame takes its room in the file, with a red cell that moves on every other frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (320, 240))
    rng = np.random.default_rng(0)
    for number in range(frames):
        frame = square(number // 2 % 4, number // 8 % 4, (230, 30, 30))
        writer.write(frame + rng.integers(0, 20, frame.shape).astype(np.uint8))
    writer.release()
    return path


def _boxes_of(data: bytes) -> dict[bytes, bytes]:
    """The outermost boxes of an MP4 file."""
    found, place = {}, 0
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        found[data[place + 4 : place + 8]] = data[place : place + length]
        place += length
    return found


def _with_index_in_front(data: bytes) -> bytes:
    """What `ffmpeg -movflags faststart` does: such a file opens even where its end is missing."""
    boxes = _boxes_of(data)
    index = bytearray(boxes[b"moov"])
    table = index.find(b"stco") + 8
    (count,) = struct.unpack_from(">I", index, table)
    for number in range(count):
        place = table + 4 + 4 * number
        struct.pack_into(">I", index, place, struct.unpack_from(">I", index, place)[0] + len(index))
    return boxes[b"ftyp"] + boxes.get(b"free", b"") + bytes(index) + boxes[b"mdat"]


def _truncated(tmp_path: Path, name: str, share: float) -> Path:
    file = _write(tmp_path / name, "MJPG" if name.endswith("avi") else "mp4v")
    data = file.read_bytes()
    if name == "fast.mp4":
        data = _with_index_in_front(data)
    file.write_bytes(data[: int(len(data) * share)])
    return file


@pytest.mark.parametrize("name", ["x.mp4", "fast.mp4", "x.avi", "x.mkv"])
def test_whole_video_gives_every_frame_with_its_time(tmp_path, name):
    with open_source(str(_truncated(tmp_path, name, 1))) as source:
        frames = list(source)
    assert [frame.number for frame in frames] == list(range(FRAMES))
    assert [frame.source_time for frame in frames] == pytest.approx([number / 10 for number in range(FRAMES)])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8, 0.9999])
@pytest.mark.parametrize("name", ["x.mp4", "fast.mp4", "x.avi", "x.mkv"])
def test_video_that_breaks_off_is_refused(tmp_path, name, share):
    file = _truncated(tmp_path, name, share)
    with pytest.raises(UserError, match=rf"{name}: breaks off, \d+ bytes are missing"):
        open_source(str(file))


def test_time_is_that_of_the_videos_own_clock(tmp_path):
    """A phone slows down in the dark: frames 10 to 19 last twice as long as the others."""
    data = bytearray(_write(tmp_path / "x.mp4").read_bytes())
    table = data.find(b"stts") + 8
    count, frames, duration = struct.unpack_from(">III", data, table)
    assert (count, frames) == (1, FRAMES)
    boxes = _boxes_of(bytes(data))
    index = boxes[b"moov"].replace(b"edts", b"free")
    old = data[table - 8 - 4 : table + 12]
    entries = struct.pack(">IIIIIII", 3, 10, duration, 10, 2 * duration, 10, duration)
    new = struct.pack(">I", 12 + len(entries)) + b"stts" + bytes(4) + entries
    for kind in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        place = index.find(kind) - 4
        length = int.from_bytes(index[place : place + 4], "big") + len(new) - len(old)
        index = index[:place] + length.to_bytes(4, "big") + index[place + 4 :]
    index = index.replace(bytes(old), new)
    file = tmp_path / "slow.mp4"
    file.write_bytes(boxes[b"ftyp"] + boxes.get(b"free", b"") + boxes[b"mdat"] + index)
    with open_source(str(file)) as source:
        times = [frame.source_time for frame in source]
    steps = [0.1] * 10 + [0.2] * 10 + [0.1] * 9
    assert times == pytest.approx(np.cumsum([0, *steps]).tolist(), abs=1e-3)


def test_trimmed_video_is_whole(tmp_path):
    """A phone trims by a list of what to show; frames outside of it are there and counted, but not shown."""
    data = bytearray(_write(tmp_path / "x.mp4").read_bytes())
    struct.pack_into(">I", data, data.find(b"elst") + 12, 1000)
    file = tmp_path / "trimmed.mp4"
    file.write_bytes(data)
    with open_source(str(file)) as source:
        assert len(list(source)) == 10
        assert source.length == FRAMES


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.avi"])
def test_what_a_camera_appends_does_no_harm(tmp_path, name):
    file = _truncated(tmp_path, name, 1)
    file.write_bytes(file.read_bytes() + b"gyroscope of the camera")
    with open_source(str(file)) as source:
        assert len(list(source)) == FRAMES


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([b"\0\0\0\x1cftyp", b"RIFF", b"\x1a\x45\xdf\xa3"]), st.binary(max_size=60))
@example(b"\x1a\x45\xdf\xa3", b"\x00\x10\x00\x00\x00\x00\x00")
@example(b"\x1a\x45\xdf\xa3", b"\xff")
@example(b"\0\0\0\x1cftyp", bytes(60))
@example(b"\x1a\x45\xdf\xa3", b"")
def test_any_bytes_are_measured_in_finite_time(tmp_path_factory, head, rest):
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(head + rest)
    assert missing_bytes(file) >= 0


def test_video_starts_anew_when_opened_again(tmp_path):
    bundle = write_colour_bundle(tmp_path / "colours-1")
    file = str(_write(tmp_path / "x.mp4"))
    backend = OnnxRuntimeBackend(bundle.model, threads=1)
    found = []
    for _ in range(2):
        with open_source(file) as source:
            found.append(Loop(source, Networks([Vision(bundle, backend)])).run().detections)
    assert found[0] == found[1] == FRAMES


def test_stream_that_stops_is_at_its_end(tmp_path):
    file = _write(tmp_path / "x.mp4", frames=5)
    with open_source(file.as_uri()) as stream:
        assert list(stream)


def test_live_source_left_early_stops_its_reader(tmp_path):
    file = _write(tmp_path / "x.mp4", frames=600)
    before = threading.active_count()
    with open_source(file.as_uri()) as stream:
        next(iter(stream))
        assert threading.active_count() == before + 1
        begin = time.monotonic()
    assert time.monotonic() - begin < 1
    assert threading.active_count() == before
    assert stream.dropped < 500


@pytest.mark.parametrize("spec", ["", "²", "99999999999999999999", "x" * 400, "nothing/at/all", "/dev/null/x"])
def test_what_cannot_be_a_source_is_refused(spec):
    with pytest.raises(UserError):
        open_source(spec)
