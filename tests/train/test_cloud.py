"""SkyPilot's task file says what SkyPilot knows: fields and values as in its sky/utils/schemas.py (0.14)."""

import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main
import yaml

from pipeline.cli import app

FILE = Path(__file__).resolve().parents[2] / "cloud" / "skylight.sky.yaml"
TASK = {"name", "workdir", "num_nodes", "resources", "envs", "secrets", "file_mounts", "volumes", "setup", "run"}
RESOURCES = {"infra", "accelerators", "cpus", "memory", "instance_type", "use_spot", "disk_size", "disk_tier"}
RESOURCES |= {"image_id", "ports", "labels", "autostop", "any_of", "ordered", "job_recovery"}
STORAGE = {"name", "source", "store", "mode", "persistent"}


@pytest.fixture(scope="module")
def task() -> dict:
    return yaml.safe_load(FILE.read_text())


def test_task_file_has_fields_that_skypilot_knows(task):
    assert set(task) <= TASK
    assert set(task["resources"]) <= RESOURCES
    assert set(task["resources"]["job_recovery"]) <= {"strategy", "max_restarts_on_errors", "recover_on_exit_codes"}
    assert task["resources"]["job_recovery"]["strategy"] in {"FAILOVER", "EAGER_NEXT_REGION"}
    assert task["resources"]["use_spot"] is True
    assert list(task["resources"]["accelerators"].values()) == [1]
    assert all(value is None or isinstance(value, str) for value in task["envs"].values())
    for mount in task["file_mounts"].values():
        assert set(mount) <= STORAGE
        assert mount["mode"] in {"MOUNT", "COPY", "MOUNT_CACHED"}


def test_what_a_preempted_job_needs_lies_in_the_bucket(task):
    (bucket,) = task["file_mounts"]
    assert f'mkdir -p "{bucket}/$folder" && ln -sfn "{bucket}/$folder"' in task["run"]
    assert "for folder in data runs bundles;" in task["run"]


@pytest.mark.parametrize("script", ["setup", "run"])
def test_its_scripts_are_sound_and_call_commands_that_exist(script, task):
    assert subprocess.run(["bash", "-n"], input=task[script], text=True, check=False).returncode == 0
    verbs = [shlex.split(line)[1] for line in task[script].splitlines() if "/skylight " in line]
    assert set(verbs) <= set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
