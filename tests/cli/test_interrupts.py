"""Ctrl-C in the long commands: status 130, one line that says what was kept, and the same command goes on.

skylight train and classify, which also end with the same numbers, are tested in tests/train and tests/score.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from drawn import Skylight, draw_set, write_experiment

SKYLIGHT = str(Path(sys.executable).with_name("skylight"))


def _stopped(is_time: Callable[[], bool], *words: object) -> str:
    """Run skylight, send SIGINT once `is_time`, and return its one line."""
    process = subprocess.Popen([SKYLIGHT, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not is_time():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("skylight:")]
    assert "Traceback" not in errors
    assert output == ""
    return line


def _done(skylight: Skylight, *words: object) -> None:
    done = skylight(*words)
    assert done.returncode == 0, done.stderr


def test_curate_keeps_what_was_measured(tmp_path: Path, skylight: Skylight) -> None:
    draw_set(tmp_path / "photos", train=300, val=20)
    recipe = tmp_path / "many.yaml"
    about = {"name": "many", "licence": "CC0-1.0", "source": {"format": "yolo"}, "classes": ["square"]}
    recipe.write_text(yaml.safe_dump(about | {"pixels": {"blur_band": 50, "near_duplicates": "keep"}}))
    scores = tmp_path / "cache/scores.sqlite3"

    def rows() -> int:
        if not scores.exists():
            return 0
        try:
            with sqlite3.connect(scores) as connection:
                return int(connection.execute("SELECT COUNT(*) FROM scores").fetchone()[0])
        except sqlite3.OperationalError:  # not made yet
            return 0

    words = ("curate", recipe, "--source", tmp_path / "photos", "--root", tmp_path)
    line = _stopped(scores.exists, *words)
    assert "stopped: what was measured and fetched is kept" in line
    assert "run it again to go on" in line
    assert not (tmp_path / "data/many").exists()
    _done(skylight, *words)
    assert rows() > 0
    assert (tmp_path / "data/many/ledger.parquet").exists()


@pytest.fixture(scope="module")
def longer(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained experiment under a root of its own, to be scored, advised on and exported."""
    root = tmp_path_factory.mktemp("longer")
    for name in ("runs", "squares"):
        shutil.copytree(trained / name, root / name)
    for name in ("experiment.yaml", "small.cfg"):
        shutil.copy(trained / name, root / name)
    return root


def test_score_goes_on(longer: Path, skylight: Skylight) -> None:
    words = ("score", longer / "experiment.yaml", "--root", longer)
    line = _stopped(lambda: bool(list(longer.glob("runs/small/null/*/*/network.cfg"))), *words)
    assert "kept" in line or "begins again" in line
    assert not (longer / "runs/small/scores.json").exists()
    _done(skylight, *words)
    assert (longer / "runs/small/scores.json").exists()


def test_advise_goes_on(longer: Path, skylight: Skylight) -> None:
    words = ("advise", longer / "experiment.yaml", "--root", longer)
    line = _stopped(lambda: bool(list(longer.glob("runs/small-advice/*/*/network.cfg"))), *words)
    assert "kept" in line or "begins again" in line
    _done(skylight, *words)


def test_export_writes_no_bundle(longer: Path, skylight: Skylight) -> None:
    words = ("export", longer / "experiment.yaml", "--root", longer)
    line = _stopped((longer / "bundles").exists, *words)
    assert "no bundle was written; the same command begins again" in line
    assert not [path for path in (longer / "bundles").glob("*") if path.is_dir()]
    _done(skylight, *words)
    assert (longer / "bundles/square-1/bundle.json").exists()


def test_detect_says_it_once(trained: Path, bundle: Path, tmp_path: Path) -> None:
    source, out = trained / "squares/images/train", tmp_path / "out"
    words = ["detect", "--bundle", bundle, "--source", source, "--pace", "real", "--out", out, "--quiet"]
    process = subprocess.Popen([SKYLIGHT, *map(str, words)], stderr=subprocess.PIPE, text=True)
    while not out.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    (line,) = errors.splitlines()
    assert line.startswith("skylight-detect: stopped")


def test_ctrl_c_while_libraries_load_is_one_line(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    (tmp_path / "torch.py").write_text(f"import os, time\nos.write({writer}, b'.')\ntime.sleep(60)\n")
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    process = subprocess.Popen(
        [SKYLIGHT, "train", str(write_experiment(tmp_path / "e"))],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        pass_fds=[writer],
    )
    os.read(reader, 1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "skylight: stopped: what was complete is kept\n")
