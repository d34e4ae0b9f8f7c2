"""What the drone's command leaves behind: everything under its name, or nothing."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from colour_model import colour_model, square, write_colour_bundle
from drawn import UNMEASURED, assert_refused

from deploy.cli import COMMANDS, main


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_bundle(tmp_path_factory.mktemp("bundle") / "colours-1").root


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    cv2.imwrite(str(folder / "b.png"), square(2, 1, (10, 240, 30)))
    cv2.imwrite(str(folder / "a.png"), square(0, 3, (240, 10, 30)))
    return folder


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "long.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (640, 480))
    frame = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
    for number in range(200):
        writer.write(np.roll(frame, number, axis=1))
    writer.release()
    return path


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "deploy.cli", *map(str, arguments)]


def _run(*arguments: object, file_size: int | None = None) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        assert file_size is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

    preexec = limit if file_size else None
    environment = UNMEASURED if file_size else None
    return subprocess.run(
        _command(*arguments),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=preexec,
        env=environment,
    )


def _rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()][1:]


def _names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def test_detections_are_those_of_the_colours(colours, photos, tmp_path):
    assert main(["--bundle", str(colours), "--source", str(photos), "--out", str(tmp_path), "--quiet"]) == 0
    first, second = _rows(tmp_path)
    assert (first["name"], second["name"]) == ("a.png", "b.png")
    (red,), (green,) = first["detections"], second["detections"]
    assert (red["name"], red["class"], red["box"]) == ("red", 0, [0, 180, 80, 240])
    assert (green["name"], green["class"], green["box"]) == ("green", 1, [160, 60, 240, 120])
    assert red["score"] == green["score"] == pytest.approx(240 / 255, abs=1e-4)


def test_drawn_boxes_lie_on_what_was_found(colours, photos, tmp_path):
    assert main(["--bundle", str(colours), "--source", str(photos / "a.png"), "--out", str(tmp_path), "--quiet"]) == 0
    before, after = cv2.imread(str(photos / "a.png")), cv2.imread(str(tmp_path / "annotated" / "a.png"))
    assert before is not None
    assert after is not None
    is_changed = (before != after).any(axis=2)
    assert is_changed[181:239, 80].mean() > 0.8
    assert not is_changed[:150, 100:].any()


def test_results_of_an_earlier_run_do_not_stay_beside_new_ones(colours, photos, long_video, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    command = ["--bundle", str(colours), "--out", str(tmp_path), "--quiet", "--max-frames", "3", "--source"]
    assert main([*command, str(long_video)]) == 0
    assert _names(tmp_path) == ["annotated.mp4", "detections.jsonl", "notes.txt"]
    assert main([*command, str(photos)]) == 0
    assert _names(tmp_path) == ["annotated", "detections.jsonl", "notes.txt"]
    assert main([*command, str(photos), "--no-video"]) == 0
    assert _names(tmp_path) == ["detections.jsonl", "notes.txt"]


@pytest.mark.parametrize("name", ["annotated", "annotated/a.png"])
def test_source_that_the_run_would_replace_is_refused(colours, photos, tmp_path, capfd, name):
    command = ["--bundle", str(colours), "--out", str(tmp_path), "--quiet", "--source"]
    assert main([*command, str(photos)]) == 0
    assert main([*command, str(tmp_path / name)]) == 2
    assert "this run would replace it" in capfd.readouterr().err
    assert _names(tmp_path / "annotated") == ["a.png", "b.png"]


def test_folders_made_for_a_refused_run_are_removed(colours, photos, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes((photos / "a.png").read_bytes())
    (tmp_path / "in" / "b.jpg").write_bytes(b"\xff\xd8 no picture")
    done = _run("--bundle", colours, "--source", tmp_path / "in", "--out", tmp_path / "x" / "y" / "z")
    assert_refused(done, "b.jpg", "cannot be decoded")
    assert _names(tmp_path) == ["in"]


def test_refused_run_keeps_the_results_of_an_earlier_one(colours, photos, tmp_path):
    out = tmp_path / "out"
    assert main(["--bundle", str(colours), "--source", str(photos), "--out", str(out), "--quiet"]) == 0
    before = (out / "detections.jsonl").read_bytes()
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    assert_refused(_run("--bundle", colours, "--source", tmp_path / "broken.jpg", "--out", out), "broken.jpg")
    assert _names(out) == ["annotated", "detections.jsonl"]
    assert (out / "detections.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "file_size", "message"),
    [(("--no-video",), 20_000, "File too large"), ((), 500_000, "annotated.part.mp4: could not be written whole")],
)
def test_full_disk_is_refused_and_leaves_nothing(colours, long_video, tmp_path, options, file_size, message):
    """A limit on the size of files stands in for the disk: the log passes it, or the video alone."""
    command = ("--bundle", colours, "--source", long_video, "--out", tmp_path / "out", *options)
    assert_refused(_run(*command, file_size=file_size), message)
    assert _names(tmp_path) == []


def test_file_in_place_of_the_folder_is_refused(colours, photos, tmp_path):
    (tmp_path / "out").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "out" / "deeper"):
        assert_refused(_run("--bundle", colours, "--source", photos, "--out", out), str(out))
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--max-frames", "0"), ("--max-frames: 0",)),
        (("--max-frames", "many"), ("--max-frames", "'many'")),
        (("--threads", "-1"), ("--threads: -1",)),
        (("--threshold", "nan"), ("--threshold: nan",)),
        (("--threshold", "1"), ("--threshold: 1.0",)),
        (("--surprise",), ("--surprise",)),
    ],
)
def test_wrong_option_is_refused(colours, photos, tmp_path, options, parts):
    done = _run("--bundle", colours, "--source", photos, "--out", tmp_path / "out", *options)
    assert_refused(done, *parts)
    assert _names(tmp_path) == []


def test_forgotten_option_is_refused():
    assert_refused(_run("--source", "x"), "--bundle")


def test_model_of_another_size_than_the_bundle_says_is_refused(photos, tmp_path):
    bundle = write_colour_bundle(tmp_path / "colours-1", colour_model(size=32)).root
    done = _run("--bundle", bundle, "--source", photos, "--out", tmp_path / "out")
    assert_refused(done, "model.onnx", "32x32 with 2 classes")
    assert _names(tmp_path) == ["colours-1"]


def test_box_that_is_not_finite_does_not_reach_the_log(photos, tmp_path):
    bundle = write_colour_bundle(tmp_path / "colours-1", colour_model(first_left=float("nan"))).root
    cv2.imwrite(str(tmp_path / "red.png"), np.full((64, 64, 3), (0, 0, 255), np.uint8))
    done = _run("--bundle", bundle, "--source", tmp_path / "red.png", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len(_rows(tmp_path / "out")[0]["detections"]) == 15
    assert "NaN" not in (tmp_path / "out" / "detections.jsonl").read_text()


def test_picture_of_one_pixel_is_detected_on(colours, tmp_path):
    cv2.imwrite(str(tmp_path / "dot.png"), np.full((1, 1, 3), (0, 0, 255), np.uint8))
    done = _run("--bundle", colours, "--source", tmp_path / "dot.png", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert _rows(tmp_path / "out")[0]["detections"]


def test_interrupted_run_says_what_it_keeps(colours, long_video, tmp_path):
    out = tmp_path / "out"
    command = _command("--bundle", colours, "--source", long_video, "--out", out)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (out / "annotated.part.mp4").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    count = len(_rows(out))
    assert f"stopped; {out} holds {count} frames" in errors
    assert 0 < count < 200


def test_interrupt_before_the_first_frame_is_no_traceback(colours, tmp_path):
    heard = "signal.signal(2, signal.default_int_handler)"  # a shell may have started the tests deaf to Ctrl-C
    patched = "r.read_bundle = lambda *_: os.kill(os.getpid(), 2)"
    code = f"import deploy.cli as c, deploy.run as r, os, signal; {heard}; {patched}; exit(c.main())"
    command = [sys.executable, "-c", code, "--bundle", str(colours), "--source", "x", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "skylight-detect: stopped\n")


def test_help_says_how_it_is_used_once(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert text.count("usage:") == 1
    assert all(name in text for name in COMMANDS)


def test_settings_can_be_printed_where_python_writes_ascii_alone():
    """As Python 3.6 does without a locale: under sudo, in a shell by ssh."""
    command = [sys.executable, "-m", "deploy.cli", "fly", "--print-settings"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "[health]" in done.stdout


def test_error_of_the_system_without_a_file_is_one_line(capsys, monkeypatch):
    def fails(_arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deploy.life.list_bundles.run", fails)
    assert main(["bundles"]) == 2
    assert capsys.readouterr().err == "skylight-detect: No space left on device\n"
