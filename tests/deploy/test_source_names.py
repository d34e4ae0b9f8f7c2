"""What a user writes becomes the source that is meant, or is refused in one line that says what would do."""

import cv2
import pytest
from scripted_camera import wait_for

from deploy.errors import UserError
from deploy.events import Events
from deploy.settings import read_settings, settings_text
from deploy.sources import SourceSettings, open_source
from deploy.sources.gstreamer import board_pipeline, has_gstreamer
from jetson.board import board_names, read_board

TX2 = read_board("jetson-tx2").for_drone()
SETTINGS = SourceSettings(width=640, height=480, fps=60)


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("csi", ["nvarguscamerasrc sensor-id=0 !", "width=640, height=480, framerate=60/1"]),
        ("csi:1", ["nvarguscamerasrc sensor-id=1 !"]),
        ("usb", ["v4l2src device=/dev/video0 !"]),
        ("usb-mjpeg:/dev/video1", ["v4l2src device=/dev/video1 ! image/jpeg, width=640", "nvv4l2decoder mjpeg=1"]),
        ("rtsp-h265:rtsp://10.0.0.2:554/a", ["rtspsrc location=rtsp://10.0.0.2:554/a latency=0 ! rtph265depay"]),
    ],
)
def test_camera_of_the_board_is_its_pipeline_filled(spec, parts):
    pipeline = board_pipeline(spec, TX2, SETTINGS)
    assert pipeline is not None
    for part in (*parts, "appsink drop=true max-buffers=1 sync=false"):
        assert part in pipeline
    assert "{" not in pipeline


@pytest.mark.parametrize("name", [name for name in board_names() if read_board(name).cameras])
def test_every_camera_of_every_board_can_be_filled(name):
    board = read_board(name)
    for kind in board.cameras:
        spec = kind + ":rtsp://host/path" if kind.startswith("rtsp") else kind
        values: dict[str, str | int] = {"width": 640, "height": 480, "fps": 60, "sensor": 0, "device": "/dev/video0"}
        values["url"] = "rtsp://host/path"
        assert board_pipeline(spec, board.for_drone(), SETTINGS) == board.camera(kind, **values)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("csi:one", "sensor='one'; give a sensor, without blank"),
        ("usb:/dev/video0 ! fakesink", "without blank, quote or !"),
        ("rtsp-h264", "the url is missing; give rtsp-h264:URL"),
        ("csi:0", "built without GStreamer; use the system's OpenCV"),
        ("gst:videotestsrc ! appsink", "gst:videotestsrc ! appsink: OpenCV .* here is built without GStreamer"),
    ],
)
def test_pipeline_that_cannot_run_is_refused(spec, message):
    if "GStreamer" in message and has_gstreamer():
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(UserError, match=message) as refusal:
        open_source(spec, SETTINGS, TX2)
    assert len(str(refusal.value).splitlines()) == 1


def test_build_of_opencv_decides_whether_there_is_gstreamer(monkeypatch):
    assert has_gstreamer() == ("GStreamer:                   YES" in cv2.getBuildInformation())
    monkeypatch.setattr(
        cv2, "getBuildInformation", lambda: "  Video I/O:\n    GStreamer:                   YES (1.14.5)\n"
    )
    assert has_gstreamer()


def test_board_without_the_camera_says_which_it_has():
    with pytest.raises(UserError, match="csi: board workstation has no such camera; it has: none"):
        open_source("csi", SETTINGS, read_board("workstation").for_drone())
    board = {"name": "own", "cameras": {"usb": TX2["cameras"]["usb"]}}
    with pytest.raises(UserError, match="csi:1: board own has no such camera; it has: usb"):
        open_source("csi:1", SETTINGS, board)


def test_file_that_is_called_like_a_camera_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "csi").write_bytes(b"no video")
    with pytest.raises(UserError, match="csi: cannot be opened as a picture or a video"):
        open_source("csi")


def test_settings_are_read_and_checked(tmp_path):
    path = tmp_path / "detect.ini"
    path.write_text(settings_text({"source": SourceSettings}))
    assert read_settings(path, {"source": SourceSettings})["source"] == SourceSettings()
    path.write_text("[source]\ndevice = usb:/dev/video2\npace = real\npatience = 2\nwait = yes\n")
    found = read_settings(path, {"source": SourceSettings})["source"]
    assert found == SourceSettings(device="usb:/dev/video2", pace="real", patience=2, wait=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("width = 0", "width=0: is out of range; allowed: 1 to 16384"),
        ("fps = 0.5", "fps=0.5: cannot be taken; write a whole number"),
        ("patience = 0", "patience=0.0: is out of range; allowed: 0.1 to 3600"),
        ("longest_retry = 0.1", "longest_retry=0.1: is shorter than the first; give at least retry=0.5"),
        ("pace = slow", "pace=slow: unknown; allowed: fast, real"),
        ("device =", "device=: is empty"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, line, message):
    (tmp_path / "detect.ini").write_text("[source]\n" + line + "\n")
    with pytest.raises(UserError, match=message):
        read_settings(tmp_path / "detect.ini", {"source": SourceSettings})


def test_password_of_a_camera_is_told_to_the_camera_alone():
    events = Events(None)
    settings = SourceSettings(patience=0.5)
    for address in ("rtsp://pilot:secret@127.0.0.1:9/a", "http://pilot:p%40ss@127.0.0.1:9/b"):
        with pytest.raises(UserError) as refused:
            open_source(address, settings._replace(wait=False))
        assert "127.0.0.1:9/" in str(refused.value)
        assert "pilot" not in str(refused.value)
        with open_source(address, settings, None, events) as source:
            wait_for(lambda: "camera.lost" in events.counts)
            assert "pilot" not in str(source.status()) + str(events.newest())
