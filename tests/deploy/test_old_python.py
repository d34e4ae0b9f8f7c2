"""A Jetson TX2 has Python 3.6, numpy 1.19 and OpenCV 4.1: what flies runs on them, and finds the same."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from colour_model import SIZE, square, write_colour_bundle
from python36 import python36
from signed_bundle import edit, make_key, write_signed

from deploy.cli import main

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]

# The newest versions of these that have wheels for Python 3.6; ONNX Runtime's own pins ask for more than it uses.
_PINS = (
    "numpy==1.19.4",
    "opencv-python-headless==4.1.1.26",
    "onnxruntime==1.3.0",
    "PyNaCl==1.5.0",
    "cffi==1.15.1",
    "tornado==6.1",
)


def _run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    texts = [str(part) for part in command]
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(texts, capture_output=True, text=True, timeout=300, check=False, env=alone, **options)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment like that of a TX2."""
    python = python36()
    if python is None:
        pytest.skip("no Python 3.6 here")
    root = tmp_path_factory.mktemp("old")
    assert _run(python, "-m", "venv", root / "venv").returncode == 0
    pip = (root / "venv/bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps")
    _run(*pip, "pip==21.3.1")  # the last for Python 3.6; the one it comes with cannot see PyNaCl's wheels
    done = _run(*pip, "--only-binary", ":all:", *_PINS)
    if done.returncode:
        pytest.skip(f"no wheels for Python 3.6 here: {done.stderr.strip().splitlines()[-1]}")
    source = shutil.copytree(ROOT / "deploy", root / "deploy")
    done = _run(*pip, source)
    assert done.returncode == 0, done.stderr
    return root / "venv" / "bin"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources")
    (root / "photos").mkdir()
    writer = cv2.VideoWriter(str(root / "video.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for number in range(8):
        picture = square(number % 4, number // 4, (250, 20, 20) if number % 3 else (20, 240, 20))
        writer.write(picture)
        cv2.imwrite(str(root / "photos" / f"{number}.png"), picture)
    writer.release()
    return root


@pytest.mark.parametrize("name", ["photos", "video.avi"])
def test_old_python_finds_the_same(old, sources, tmp_path, name):
    bundle = write_colour_bundle(tmp_path / "colours-1").root
    command = ["--bundle", str(bundle), "--source", str(sources / name), "--quiet", "--out"]
    done = _run(old / "skylight-detect", *command, tmp_path / "old", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert main([*command, str(tmp_path / "new")]) == 0
    found = []
    for folder in ("old", "new"):
        lines = (tmp_path / folder / "detections.jsonl").read_text().splitlines()[1:]
        found.append([(row["source_time"], row["detections"]) for row in map(json.loads, lines)])
    assert found[0] == found[1]
    assert len(found[0]) == 8
    assert all(detections for _, detections in found[0])


def test_old_python_checks_signature_and_golden_frames(old, sources, tmp_path):
    """Frames and signature were made by today's libraries."""
    bundle = write_signed(tmp_path / "colours-1", make_key(tmp_path / "keys", "maker")).root
    make_key(tmp_path / "others", "other")
    command = (old / "skylight-detect", "--bundle", bundle, "--source", sources / "photos", "--golden", "--out", "out")
    done = _run(*command, "--trusted", tmp_path / "keys", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    header = json.loads((tmp_path / "out" / "detections.jsonl").read_text().splitlines()[0])
    assert header["trust"].startswith("signed by maker (")
    done = _run(*command, "--trusted", tmp_path / "others", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "who is not trusted here; trusted: other" in done.stderr
    (bundle / "signature").write_bytes((bundle / "signature").read_bytes()[:-9] + b"AAAAAA==\n")
    done = _run(*command, "--trusted", tmp_path / "keys", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "does not fit bundle.json" in done.stderr


def test_old_python_refuses_in_one_line(old, sources, tmp_path):
    bundle = write_colour_bundle(tmp_path / "colours-1").root
    (tmp_path / "broken.avi").write_bytes((sources / "video.avi").read_bytes()[:-500])
    command = (old / "skylight-detect", "--bundle", bundle, "--out", tmp_path / "out", "--source")
    for source, message in ((tmp_path / "broken.avi", "breaks off"), ("nothing", "no such file"), ("77", "opened")):
        done = _run(*command, source, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        lines = [line for line in done.stderr.splitlines() if "VIDEOIO" not in line]  # OpenCV 4.1 cannot be silenced
        assert len(lines) == 1, done.stderr
        assert message in lines[0], lines[0]
    assert not (tmp_path / "out").exists()


_ENGINE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np
import tensorrt_8_2_stand_in
from cuda_stand_in import CudaStandIn
from deploy.engine import build_engine
from deploy.tensorrt import TensorRt
from deploy.tensorrt_backend import TensorRtBackend
library, cuda = TensorRt(tensorrt_8_2_stand_in, "tensorrt"), CudaStandIn()
board = {"name": "jetson-tx2", "precisions": ["fp32", "fp16"]}
build = lambda: build_engine(Path(sys.argv[2]), Path("engines"), "fp16", board, library=library, cuda=cuda)
engine = build()
assert engine.is_new and not build().is_new
boxes, scores = TensorRtBackend(engine, library, cuda).infer(np.full((1, 3, %d, %d), 0.25, np.float32))
print(sys.version_info[:2], boxes.shape, scores.shape, float(scores.min()), float(scores.max()))
"""


def test_old_python_builds_and_runs_an_engine(old, tmp_path):
    """The line of a TX2, on the stand-in for its TensorRT."""
    model = write_colour_bundle(tmp_path / "colours-1").model
    done = _run(old / "python", "-c", _ENGINE % (SIZE, SIZE), ROOT / "tests" / "deploy", model, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(3, 6) (16, 4) (16, 2) 0.25 0.25\n"


_LIFE = """
import argparse, sys
from pathlib import Path
from deploy.life import doctor, install, list_bundles, roll_back
from deploy.settings import read_settings, settings_text
from deploy.life.start import LifeSettings, Proving, choose_bundle
from deploy.life.systemd import Watchdog
def run(command, *texts):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(list(texts)))
options = ["--store", "store", "--trusted", sys.argv[1]]
for bundle in sys.argv[2:]:
    assert run(install, bundle, *options) == 0
proving = Proving(choose_bundle(Path("store")), lasting=1.0)
for part in (proving, Watchdog()):
    part.idle(0.0)
    part.idle(2.0)
    part.close()
assert run(roll_back, *options) == 0
assert run(list_bundles, *options) == 0
Path("a.ini").write_text(settings_text({"life": LifeSettings}) + "failed_starts = 5")
assert read_settings(Path("a.ini"), {"life": LifeSettings})["life"].failed_starts == 5
assert run(doctor, "--store", "store") in (0, 1)
"""


def test_old_python_installs_starts_and_diagnoses(old, tmp_path):
    key = make_key(tmp_path / "keys", "maker")
    first = write_signed(tmp_path / "colours-1", key).root
    second = shutil.copytree(first, tmp_path / "colours-2")
    edit(second, key, version="2")
    done = _run(old / "python", "-c", _LIFE, tmp_path / "keys", first, second, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "colours-1-" in str((tmp_path / "store" / "current").readlink())
    assert "FAILED: taken back by hand; verifies" in done.stdout
    assert "numpy                  1.19.4" in done.stdout
    assert "could not be looked at" not in done.stdout


_FOLLOW = """
import sys, json
import numpy as np
from deploy.autopilot.messages import Speaker, body_angles
from deploy.frame import Detections
from deploy.geometry import GeometrySettings, Sight
from deploy.tracks import Tracker, TrackSettings
settings = GeometrySettings(calibration=sys.argv[1], target_size=("1.0x1.0",))
settings.check()
tracker, sight, sent = Tracker(TrackSettings()), Sight(settings, ("arch",)), []
speaker = Speaker(1, 191, lambda data: sent.append(data) or True)
for frame in range(20):
    boxes = np.array([[300 + 2 * frame, 200, 380 + 2 * frame, 290], [20, 20, 60, 60]], np.float32)
    count = 1 + frame % 2
    found = Detections(boxes[:count], np.array([0.9, 0.5], np.float32)[:count], np.zeros(count, np.int64))
    tracks = tracker.update(frame / 30, found)
aim = sight.aim(tracks[0], 640, 480)
speaker.say(speaker.landing_target(tracks[0], aim, 123, body_angles(aim)))
(heard,) = Speaker(2, 1, lambda data: True).hear(sent[0])
print(json.dumps({name: getattr(heard, name) for name in heard.get_fieldnames()}))
"""


def test_old_python_follows_and_speaks_to_an_autopilot(old, tmp_path):
    pins = ("pymavlink==2.4.41", "future==1.0.0")
    done = _run(old / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", *pins)
    if done.returncode:
        pytest.skip(f"no pymavlink for Python 3.6 here: {done.stderr.strip().splitlines()[-1]}")
    matrix = {"fx": 500.0, "fy": 505.0, "cx": 322.0, "cy": 241.0}
    content = {"schema": 1, "image": {"width": 640, "height": 480}, "matrix": matrix}
    content |= {"distortion": {"k1": -0.2, "k2": 0.05, "p1": 0.001, "p2": 0, "k3": 0}}
    (tmp_path / "camera.json").write_text(json.dumps(content | {"matrix_error": dict.fromkeys(matrix, 1.0)}))
    told = []
    for python in (old / "python", Path(sys.executable)):
        where = {"cwd": tmp_path} if python.parent == old else {"cwd": ROOT}
        done = _run(python, "-c", _FOLLOW, tmp_path / "camera.json", **where)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
    assert told[0].pop("q") == told[1].pop("q")
    assert told[0] == pytest.approx(told[1], rel=1e-5)
    assert told[0]["position_valid"] == 1


def test_old_python_serves_the_page(old, tmp_path):
    """Tornado 6.1 reads a request that holds another one as two; ours does not let it."""
    done = _run(old / "python", ROOT / "tests" / "deploy" / "page_alone.py", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert json.loads(first) == [[[1.0, 2.0, 30.0, 40.0, 0.5, "square"]], "ffd8", "ok\n", True]
    assert second == "400 1 ['web.open']"
