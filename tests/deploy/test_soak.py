"""Many frames while camera, disk, autopilot, clocks, bundle and heat go wrong: nothing old is told, nothing grows."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).with_name("soak.py")
# The log's folder as a small disk of its own, where this user may have one.
_MOUNTED = "mount -t tmpfs -o size=12m none $0/log && exec $1 $2 $0 --frames $3 --seed $4"
_KIB_PER_FRAME = 0.25  # of growth that is none: what a run of 100,000 frames may differ by, 25 MiB


def _soak(folder: Path, frames: int, seed: int) -> dict:
    (folder / "log").mkdir()
    words = [str(word) for word in (sys.executable, SOAK, folder, "--frames", frames, "--seed", seed)]
    if shutil.which("unshare") and not subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        words = ["unshare", "-rm", "sh", "-c", _MOUNTED, str(folder), sys.executable, str(SOAK), str(frames), str(seed)]
    environment = os.environ | {"PYTHONPATH": str(SOAK.parents[2]), "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    result: dict = json.loads(done.stdout.splitlines()[-1])
    return result


def _judge(result: dict, frames: int) -> None:
    assert result["wrong"] == []
    assert result["too_late"] == []
    assert result["made"] == frames
    assert result["frames"] > 0.98 * frames
    assert result["log_mib"] < 12
    sizes = result["kib_files_threads"]
    _, files, threads = (max(column) - min(column) for column in zip(*sizes[4:], strict=True))
    assert files <= 16  # those who watch come and go
    assert threads <= 8


def test_some_frames_with_every_fault(tmp_path):
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    _judge(_soak(tmp_path, 4000, seed), 4000)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_hundred_thousand_frames(tmp_path):
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    result = _soak(tmp_path, 100_000, seed)
    _judge(result, 100_000)
    assert len(result["world"]) == 12
    memory = [size[0] for size in result["kib_files_threads"]]
    assert max(memory[10:]) - max(memory[5:10]) < _KIB_PER_FRAME * 50_000
