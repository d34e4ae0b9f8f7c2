"""The drone's command on pictures, folders and videos: same results each time, and plain refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn import assert_refused, draw_picture

from deploy.sources import open_source


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "squares.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 80))
    rng = np.random.default_rng(0)
    for _ in range(12):
        writer.write(draw_picture(rng)[0])
    writer.release()
    return path


def _rows(out: Path) -> tuple[dict, list[dict]]:
    lines = [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()]
    return lines[0], lines[1:]


def test_video_gives_a_line_per_frame_and_an_annotated_video(tmp_path, skylight, bundle, video):
    done = skylight("detect", "--bundle", bundle, "--source", video, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    header, rows = _rows(tmp_path / "out")
    assert header["bundle"] == "square"
    assert [row["frame"] for row in rows] == list(range(12))
    assert [row["source_time"] for row in rows] == pytest.approx([n / 10 for n in range(12)])
    captured = [row["captured"] for row in rows]
    assert captured == sorted(set(captured))
    assert set(rows[0]["milliseconds"]) == {"read", "resize", "network", "decode", "track"}
    assert open_source(str(tmp_path / "out" / "annotated.mp4")).length == 12
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["annotated.mp4", "detections.jsonl"]


def test_same_video_gives_the_same_detections(tmp_path, skylight, bundle, video):
    found = []
    for name in ("a", "b"):
        command = ("detect", "--bundle", bundle, "--source", video, "--out", tmp_path / name, "--threshold", 0.05)
        assert skylight(*command, "--no-video").returncode == 0
        found.append([row["detections"] for row in _rows(tmp_path / name)[1]])
    assert found[0] == found[1]
    assert any(found[0])


def test_detections_lie_on_the_labels(tmp_path, skylight, trained, bundle):
    source = trained / "squares" / "images" / "val"
    done = skylight("detect", "--bundle", bundle, "--source", source, "--out", tmp_path, "--threshold", 0.02, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == 8
    hits = 0
    for row in _rows(tmp_path)[1]:
        label = (trained / "squares" / "labels" / "val" / row["name"]).with_suffix(".txt").read_text().split()
        x, y = float(label[1]) * 96, float(label[2]) * 80
        hits += any(d["box"][0] < x < d["box"][2] and d["box"][1] < y < d["box"][3] for d in row["detections"])
    assert hits >= 6
    assert len(list((tmp_path / "annotated").iterdir())) == 8


def test_pictures_are_bgr_and_named(tmp_path):
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, :, 2] = 255  # red
    cv2.imwrite(str(tmp_path / "red.png"), image)
    (frame,) = open_source(str(tmp_path / "red.png"))
    assert frame.image[0, 0].tolist() == [0, 0, 255]
    assert (frame.name, frame.number) == ("red.png", 0)


def test_interrupted_run_keeps_what_is_complete(tmp_path, bundle):
    long = tmp_path / "long.mp4"
    writer = cv2.VideoWriter(str(long), cv2.VideoWriter.fourcc(*"mp4v"), 25, (640, 480))
    frame = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
    for _ in range(300):
        writer.write(frame)
    writer.release()
    out = tmp_path / "out"
    command = [Path(sys.executable).with_name("skylight-detect"), "--bundle", bundle, "--source", long, "--out", out]
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (out / "annotated.part.mp4").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    _, rows = _rows(out)
    assert 0 < len(rows) < 300
    assert sorted(path.name for path in out.iterdir()) == ["annotated.mp4", "detections.jsonl"]


def test_bad_sources_are_refused(tmp_path, skylight, bundle):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    (tmp_path / "broken.mp4").write_bytes(os.urandom(2000))
    cases = {
        "missing.mp4": "no such file or folder",
        "empty": "no picture in it",
        "broken.jpg": "cannot be decoded",
        "broken.mp4": "cannot be opened",
    }
    for name, message in cases.items():
        done = skylight("detect", "--bundle", bundle, "--source", tmp_path / name, "--out", tmp_path / "out")
        assert_refused(done, name, message)
        assert not (tmp_path / "out").exists(), name


def test_bad_options_are_refused(tmp_path, skylight, bundle, video):
    out = ("--out", tmp_path / "out")
    assert_refused(skylight("detect", "--bundle", tmp_path, "--source", video, *out), "is no bundle")
    bad = ("--threshold", "2")
    assert_refused(skylight("detect", "--bundle", bundle, "--source", video, *out, *bad), "--threshold: 2.0")
    assert_refused(skylight("detect", "--bundle", bundle, "--source", "77", *out), "77", "cannot be opened")
    assert not (tmp_path / "out").exists()
