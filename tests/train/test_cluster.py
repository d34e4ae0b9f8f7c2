"""Trials on Ray, on one machine and on a cluster of two nodes, end as they do one after the other."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from drawn import Skylight, assert_refused, write_experiment
from ray.cluster_utils import Cluster

from pipeline.errors import UserError
from pipeline.experiment import read_experiment
from pipeline.interrupt import StopRequest
from pipeline.train import cluster as on_ray
from pipeline.train.stages import plan_trials
from pipeline.workspace import Workspace

pytestmark = pytest.mark.long

STAGES = [
    {"name": "first", "data": "squares", "iterations": 400, "evaluate_at": [30, 60], "seeds": [0, 1]},
    {"name": "second", "data": "squares", "starts": ["first"], "freeze": [4], "iterations": 20},
]
TRIALS = ["first/scratch-f0-s0", "first/scratch-f0-s1", "second/first-f4-s0"]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Ray cluster of two nodes with one CPU each."""
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes.address
    nodes.shutdown()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, skylight: Skylight) -> Path:
    """The same experiment, one trial after the other in one process."""
    root = tmp_path_factory.mktemp("plain")
    done = skylight("train", write_experiment(root, stages=STAGES, export=None), "--root", root, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def root(tmp_path: Path, plain: Path) -> Path:
    """The inputs alone."""
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("runs"))
    return tmp_path


@contextmanager
def _training(root: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [str(Path(sys.executable).with_name("skylight")), "train", str(root / "experiment.yaml")]
    process = subprocess.Popen(
        [*command, "--root", str(root), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _ray_trials(address: str) -> list[psutil.Process]:
    """The processes that train now on the nodes of that cluster; their parents are their nodes."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.NoSuchProcess):
            if (process.info["cmdline"] or [""])[0].startswith("ray::_train"):
                node = process.parent()
                if node and f"--gcs-address={address}" in node.cmdline():
                    found.append(process)
    return found


def _wait(process: subprocess.Popen[str], condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def _finish(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return errors


def _assert_same(root: Path, plain: Path) -> None:
    for name in TRIALS:
        ours, theirs = root / "runs/small" / name, plain / "runs/small" / name
        for file in ("best.weights", "last.weights", "network.cfg"):
            assert (ours / file).read_bytes() == (theirs / file).read_bytes(), (name, file)
        assert json.loads((ours / "trial.json").read_text())["result"]["machine"]["threads"] == "1"
        assert not (ours / "state.pt").exists()


def test_trials_run_on_both_nodes_and_equal_those_of_a_plain_run(address, root, plain):
    nodes: set[int] = set()
    with _training(root, "--address", address) as process:
        while process.poll() is None:
            for trial in _ray_trials(address):
                try:
                    nodes.add(trial.ppid())
                except psutil.NoSuchProcess:
                    continue
            time.sleep(0.05)
        errors = _finish(process)
    assert len(nodes) == 2, nodes
    _assert_same(root, plain)
    told = errors.strip().splitlines()
    assert all(line.startswith("train ") for line in told), errors  # nothing of Ray's own
    assert any(f"{TRIALS[0]}: 400 of 400 best AP" in line for line in told), errors


def test_trial_whose_process_is_killed_goes_on_to_the_same_numbers(address, root, plain):
    folder = root / "runs/small" / TRIALS[1]
    before = {process.pid for process in _ray_trials(address)}
    with _training(root, "--address", address) as process:
        _wait(process, lambda: all((root / "runs/small" / name / "state.pt").exists() for name in TRIALS[:2]))
        victims = [trial for trial in _ray_trials(address) if trial.pid not in before]
        assert len(victims) == 2
        for victim in victims:
            victim.kill()
        assert json.loads((folder / "trial.json").read_text())["result"] is None
        _finish(process)
    _assert_same(root, plain)


def test_ctrl_c_keeps_every_trial_and_the_same_command_goes_on(root, plain):
    with _training(root, "--workers", "2", "--cpus-per-trial", "1") as process:
        _wait(process, lambda: all((root / "runs/small" / name / "metrics.jsonl").exists() for name in TRIALS[:2]))
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.strip().splitlines() == [
        "skylight: stopped: 3 trials are not finished, 2 of them kept where they are; the same command goes on"
    ]
    assert all((root / "runs/small" / name / "state.pt").exists() for name in TRIALS[:2])
    with _training(root, "--workers", "2", "--cpus-per-trial", "1") as process:
        _finish(process)
    _assert_same(root, plain)


def test_refused_trial_lets_the_others_finish(address, root):
    broken = root / "runs/small" / TRIALS[1]
    broken.mkdir(parents=True)
    (broken / "trial.json").write_text("{")
    with _training(root, "--address", address) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    refusals = [line for line in errors.splitlines() if not line.startswith("train ")]
    assert refusals == [
        f"skylight: {broken / 'trial.json'}: is not what this version of Skylight writes; "
        f"remove {broken} and train again"
    ]
    assert json.loads((root / "runs/small" / TRIALS[2] / "trial.json").read_text())["result"] is not None


def test_node_that_does_not_see_the_workspace_is_refused(address, root, monkeypatch):
    @contextmanager
    def elsewhere(_workspace: Workspace) -> Iterator[Path]:
        yield root / "cache" / "only-the-driver-sees-this"

    monkeypatch.setattr(on_ray, "_token", elsewhere)
    experiment, workspace = read_experiment(root / "experiment.yaml"), Workspace(root)
    plan = plan_trials(experiment, workspace)
    places = on_ray.Places(address=address)
    with pytest.raises(UserError, match=rf"{root}: node .* does not see it; give --root a folder that all nodes share"):
        list(on_ray.run_trials_on_ray(experiment, plan, workspace, StopRequest(), None, places))
    assert not (root / "runs").exists()


def test_cluster_without_room_is_refused(address, root, skylight):
    done = skylight("train", root / "experiment.yaml", "--root", root, "--address", address, "--cpus-per-trial", 64)
    assert_refused(done, "a trial with 64 CPUs and 0 GPUs", "1 CPUs and 0 GPUs, 1 CPUs and 0 GPUs", "--cpus-per-trial")


def test_address_without_a_cluster_is_refused(root, skylight):
    done = skylight("train", root / "experiment.yaml", "--root", root, "--address", "127.0.0.1:1")
    assert_refused(done, "--address 127.0.0.1:1", "ray start --head")


def test_share_without_places_is_refused(root, skylight):
    done = skylight("train", root / "experiment.yaml", "--root", root, "--gpus-per-trial", 0.5)
    assert_refused(done, "--gpus-per-trial", "add --workers or --address")


def test_machine_is_divided_among_its_workers(monkeypatch):
    monkeypatch.setattr(on_ray.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(on_ray.torch.cuda, "device_count", lambda: 2)
    shares = {workers: on_ray.Places(workers=workers).share(True) for workers in (1, 2, 3, 8)}
    assert {workers: (share.cpus, share.gpus) for workers, share in shares.items()} == {
        1: (16, 1.0),
        2: (8, 1.0),
        3: (5, 0.5),
        8: (2, 0.25),
    }
    assert shares[8].fits({"CPU": 16, "GPU": 2}) == 8
    assert shares[3].fits({"CPU": 16}) == 0


def test_ray_is_not_imported_without_being_asked_for():
    code = "import sys, pipeline.training, pipeline.train.cluster; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
