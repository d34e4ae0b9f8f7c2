"""Processes that torchrun started train as one would, and go on when they are broken off."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from drawn import write_experiment

from pipeline.darknet.batch_norm import BatchNorm

pytestmark = pytest.mark.long

TRIAL = Path("runs/small/first/scratch-f0-s0")


def _torchrun(root: Path) -> subprocess.Popen[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    command += ["-m", "pipeline.cli", "train", str(root / "experiment.yaml"), "--root", str(root)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def _experiment(root: Path, iterations: int, **changes: object) -> Path:
    stages = [{"name": "first", "data": "squares", "iterations": iterations, "evaluate_at": [min(30, iterations)]}]
    return write_experiment(root, **({"precision": "float32", "stages": stages, "export": None} | changes))


def _weights(root: Path) -> np.ndarray:
    return np.frombuffer((root / TRIAL / "last.weights").read_bytes()[20:], np.float32)


def _losses(root: Path) -> list[float]:
    rows = [json.loads(line) for line in (root / TRIAL / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """What two processes left and said, and nothing broke."""
    root = tmp_path_factory.mktemp("two")
    _experiment(root, 60)
    process = _torchrun(root)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return root, output, errors


def test_two_processes_learn_what_one_learns(tmp_path, skylight):
    """Three iterations: from there rounding grows as it does between any two machines."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert skylight("train", _experiment(one, 3), "--root", one).returncode == 0
    _experiment(two, 3)
    process = _torchrun(two)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    a, b = _weights(one), _weights(two)
    np.testing.assert_allclose(_losses(two), _losses(one), rtol=1e-5)
    assert np.sqrt(((a - b) ** 2).mean() / (a**2).mean()) < 1e-4
    np.testing.assert_allclose(b, a, atol=1e-3)


def test_only_the_first_process_speaks(two):
    _, output, errors = two
    assert output.count("small, stage first") == 1
    told = [line for line in errors.splitlines() if line.startswith("train first/")]
    assert len(told) == len(set(told)) > 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_processes_that_were_ended_resume_to_the_same_numbers(number, tmp_path, two):
    whole, _, _ = two
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("runs"))
    process = _torchrun(tmp_path)
    end = time.monotonic() + 60
    while not (tmp_path / TRIAL / "state.pt").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)
    torchrun = psutil.Process(process.pid)  # its children have sessions of their own
    for one in [*torchrun.children(recursive=True), torchrun] if number == signal.SIGKILL else [torchrun]:
        one.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    if number == signal.SIGINT:
        assert errors.count("kept up to iteration") == 1, errors
    assert json.loads((tmp_path / TRIAL / "trial.json").read_text())["result"] is None
    process = _torchrun(tmp_path)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    for name in ("best.weights", "last.weights"):
        assert (tmp_path / TRIAL / name).read_bytes() == (whole / TRIAL / name).read_bytes(), name
    assert _losses(tmp_path) == _losses(whole)


def test_batch_that_cannot_be_dealt_is_refused_once(tmp_path):
    _experiment(tmp_path, 3, batch=9)
    process = _torchrun(tmp_path)
    _, errors = process.communicate(timeout=60)
    told = [line for line in errors.splitlines() if line.startswith("skylight:")]
    assert told == [
        "skylight: batch: 9: cannot be dealt to 2 processes with 1 subdivisions each; "
        "set a multiple of 2, or start fewer processes"
    ]
    assert not (tmp_path / TRIAL).exists()


def _norm(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    inputs = torch.load(f"{folder}/inputs.pt")
    own = slice(4 * rank, 4 * rank + 4)
    norm = _loaded_norm(inputs)
    norm.is_synchronised = True
    x = inputs["x"][own].clone().requires_grad_()
    y = norm(x)
    y.backward(inputs["gradient"][own])
    torch.save(
        {
            "y": y.detach(),
            "dx": x.grad,
            "dscale": norm.scale.grad,
            "dbias": norm.bias.grad,
            "mean": norm.rolling_mean,
            "variance": norm.rolling_variance,
        },
        f"{folder}/{rank}.pt",
    )
    dist.destroy_process_group()


def _loaded_norm(inputs: dict[str, torch.Tensor]) -> BatchNorm:
    norm = BatchNorm(inputs["x"].shape[1])
    with torch.no_grad():
        norm.scale.copy_(inputs["scale"])
        norm.bias.copy_(inputs["bias"])
    return norm.train()


def test_synchronised_norm_equals_the_norm_of_the_joined_batch(tmp_path):
    generator = torch.Generator().manual_seed(3)
    inputs = {
        "x": torch.randn(8, 5, 6, 7, generator=generator) * 3 + 2,
        "gradient": torch.randn(8, 5, 6, 7, generator=generator),
        "scale": torch.randn(5, generator=generator),
        "bias": torch.randn(5, generator=generator),
    }
    inputs["x"][4:] += 5  # what one process sees is unlike what the other does
    torch.save(inputs, tmp_path / "inputs.pt")
    multiprocessing.spawn(_norm, (str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    norm = _loaded_norm(inputs)
    x = inputs["x"].clone().requires_grad_()
    y = norm(x)
    y.backward(inputs["gradient"])
    exact: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(torch.cat([part["y"] for part in parts]), y.detach(), **exact)
    torch.testing.assert_close(torch.cat([part["dx"] for part in parts]), x.grad, **exact)
    # DistributedDataParallel adds up what each process has.
    torch.testing.assert_close(parts[0]["dscale"] + parts[1]["dscale"], norm.scale.grad, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(parts[0]["dbias"] + parts[1]["dbias"], norm.bias.grad, rtol=1e-5, atol=1e-4)
    for part in parts:
        torch.testing.assert_close(part["mean"], norm.rolling_mean, **exact)
        torch.testing.assert_close(part["variance"], norm.rolling_variance, **exact)
