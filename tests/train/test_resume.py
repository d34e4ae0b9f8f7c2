"""A trial that was broken off, at any moment and in any way, ends as if nothing had happened."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from drawn import UNMEASURED, Skylight, assert_refused, write_experiment
from forked import Forked, Started

from pipeline.errors import UserError
from pipeline.files import file_sha256
from pipeline.train.trial import TrialFolder

TRIAL = Path("runs/small/first/scratch-f0-s0")
STAGES = [{"name": "first", "data": "squares", "iterations": 120, "evaluate_at": [30, 60, 90]}]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, skylight: Skylight) -> Path:
    root = tmp_path_factory.mktemp("unbroken")
    done = skylight("train", write_experiment(root, stages=STAGES, export=None), "--root", root)
    assert done.returncode == 0, done.stderr
    return root


def _train(root: Path, forked: Forked, code: str = "") -> Started:
    return forked.start(["train", str(root / "experiment.yaml"), "--root", str(root)], code=code)


def _numbers(root: Path) -> list[dict]:
    """Everything that was measured, without the times."""
    rows = [json.loads(line) for line in (root / TRIAL / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("seconds", None)
        row.pop("images_per_second", None)
        row.get("evaluation", {}).pop("seconds", None)
    return rows


def _assert_same(root: Path, unbroken: Path) -> None:
    for name in ("best.weights", "last.weights", "network.cfg"):
        assert (root / TRIAL / name).read_bytes() == (unbroken / TRIAL / name).read_bytes(), name
    assert _numbers(root) == _numbers(unbroken)
    assert not list((root / TRIAL).glob(".*"))
    assert not (root / TRIAL / "state.pt").exists()


def _copy_inputs(unbroken: Path, root: Path) -> None:
    shutil.copytree(unbroken / "squares", root / "squares")
    for name in ("experiment.yaml", "small.cfg"):
        shutil.copy(unbroken / name, root / name)


def _wait_for(path: Path, process: Started, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_trial_resumes_to_the_same_numbers(number, tmp_path, unbroken, skylight, forked):
    _copy_inputs(unbroken, tmp_path)
    process = _train(tmp_path, forked)
    _wait_for(tmp_path / TRIAL / "metrics.jsonl", process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "kept up to iteration" in errors
    assert "Traceback" not in errors
    assert (tmp_path / TRIAL / "state.pt").exists()
    done = skylight("train", tmp_path / "experiment.yaml", "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    _assert_same(tmp_path, unbroken)


def test_killed_trial_resumes_to_the_same_numbers(tmp_path, unbroken, skylight, forked):
    seed = int(time.time())
    print("seed", seed)
    rng = random.Random(seed)
    _copy_inputs(unbroken, tmp_path)
    for _ in range(3):
        process = _train(tmp_path, forked)
        _wait_for(tmp_path / TRIAL / "network.cfg", process)
        time.sleep(rng.uniform(0.0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = skylight("train", tmp_path / "experiment.yaml", "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    _assert_same(tmp_path, unbroken)


@pytest.mark.parametrize("place", ["Checkpoints.save", "TrialFolder.settle_best"])
def test_trial_killed_between_its_best_weights_and_its_state_resumes(
    place: str, tmp_path: Path, unbroken: Path, skylight: Skylight, forked: Forked
) -> None:
    """Before the state of the second evaluation is on the disk, and after that but before its weights are the best."""
    _copy_inputs(unbroken, tmp_path)
    code = (
        "import os, signal, sys, pipeline.cli\n"
        "from pipeline.train.checkpoints import Checkpoints\n"
        "from pipeline.train.trial import TrialFolder\n"
        f"whole, calls = {place}, []\n"
        "def killed(self, *arguments):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 2:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return whole(self, *arguments)\n"
        f"{place} = killed\n"
        "pipeline.cli.main()\n"
    )
    assert _train(tmp_path, forked, code).wait(300) == -signal.SIGKILL
    assert (tmp_path / TRIAL / "state.pt").exists()
    done = skylight("train", tmp_path / "experiment.yaml", "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    _assert_same(tmp_path, unbroken)
    assert not list((tmp_path / TRIAL).glob(".*"))


def test_a_state_without_its_settings_is_refused(
    tmp_path: Path, unbroken: Path, skylight: Skylight, forked: Forked
) -> None:
    _copy_inputs(unbroken, tmp_path)
    process = _train(tmp_path, forked)
    _wait_for(tmp_path / TRIAL / "state.pt", process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    (tmp_path / TRIAL / "trial.json").unlink()
    done = skylight("train", tmp_path / "experiment.yaml", "--root", tmp_path)
    assert_refused(done, "trial.json: not there", "state.pt does not say what it is of", "train again")


def test_a_full_disk_is_one_line_and_the_trial_goes_on_when_there_is_room(
    tmp_path: Path, unbroken: Path, skylight: Skylight
) -> None:
    _copy_inputs(unbroken, tmp_path)
    code = (
        "import resource, sys, pipeline.cli\n"
        "from pipeline.train.checkpoints import Checkpoints\n"
        "whole = Checkpoints.save\n"
        "def limited(self, state):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "    whole(self, state)\n"
        "Checkpoints.save = limited\n"
        "sys.argv = ['skylight', 'train', *sys.argv[1:]]\n"
        "pipeline.cli.main()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "experiment.yaml"), "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=UNMEASURED)
    assert_refused(done, "File too large", "what was complete is kept")
    done = skylight("train", tmp_path / "experiment.yaml", "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    _assert_same(tmp_path, unbroken)


AVERAGED = [
    {"name": "first", "data": "squares", "iterations": 20},
    {
        "name": "second",
        "data": "squares",
        "starts": ["first"],
        "freeze": [4],
        "iterations": 400,
        "evaluate_at": [50, 100, 150],
    },
]


def test_average_frozen_layers_and_kept_features_resume_to_the_same_numbers(
    tmp_path: Path, skylight: Skylight, forked: Forked
) -> None:
    trial = Path("runs/small/second/first-f4-s0")
    for name in ("unbroken", "broken"):
        write_experiment(tmp_path / name, stages=AVERAGED, export=None, ema=0.99, views=3)
    assert skylight("train", tmp_path / "unbroken/experiment.yaml", "--root", tmp_path / "unbroken").returncode == 0
    process = _train(tmp_path / "broken", forked)
    _wait_for(tmp_path / "broken" / trial / "last.weights", process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert skylight("train", tmp_path / "broken/experiment.yaml", "--root", tmp_path / "broken").returncode == 0
    for name in ("best.weights", "last.weights"):
        files = [(tmp_path / root / trial / name).read_bytes() for root in ("unbroken", "broken")]
        assert files[0] == files[1], name


def test_log_that_a_power_cut_shortened_gets_its_evaluations_back(tmp_path: Path, unbroken: Path) -> None:
    shutil.copytree(unbroken, tmp_path / "copy")
    folder = TrialFolder(tmp_path / "copy" / TRIAL)
    evaluations = [asdict(row) for row in folder.evaluations()]
    length = folder.metrics.stat().st_size
    os.truncate(folder.metrics, length // 2 + 3)  # in the middle of a line
    assert folder.cut_metrics(length, evaluations) == folder.metrics.stat().st_size
    assert [asdict(row) for row in folder.evaluations()] == evaluations
    assert folder.cut_metrics(0, []) == 0
    assert folder.rows() == []


def test_best_weights_that_are_not_those_of_the_state_are_refused(tmp_path: Path, unbroken: Path) -> None:
    shutil.copytree(unbroken, tmp_path / "copy")
    folder = TrialFolder(tmp_path / "copy" / TRIAL)
    folder.require_best(file_sha256(folder.best_weights))
    with pytest.raises(UserError, match="not the file that the saved state speaks of"):
        folder.require_best("0" * 64)


def test_finished_trial_is_not_trained_again(unbroken, skylight):
    weights = unbroken / TRIAL / "best.weights"
    before = weights.stat().st_mtime_ns
    assert skylight("train", unbroken / "experiment.yaml", "--root", unbroken).returncode == 0
    assert weights.stat().st_mtime_ns == before


def test_changed_settings_are_refused(tmp_path, unbroken, skylight):
    shutil.copytree(unbroken, tmp_path / "copy")
    file = tmp_path / "copy" / "experiment.yaml"
    file.write_text(file.read_text().replace("learning_rate: 0.003", "learning_rate: 0.004"))
    done = skylight("train", file, "--root", tmp_path / "copy")
    assert_refused(done, "learning_rate=0.003", "learning_rate=0.004", "scratch-f0-s0")


def test_changed_data_are_refused_with_both_hashes(tmp_path, unbroken, skylight):
    root = tmp_path / "copy"
    shutil.copytree(unbroken, root)
    hash_before = json.loads((root / TRIAL / "trial.json").read_text())["settings"]["data_hash"]
    os.truncate(root / "squares" / "labels" / "train" / "train000.txt", 0)
    done = skylight("train", root / "experiment.yaml", "--root", root)
    assert_refused(done, "data_hash", hash_before[:40])
