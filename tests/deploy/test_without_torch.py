"""What flies needs no torch and nothing of the workstation: installed alone, it gives the same detections."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    texts = [str(part) for part in command]
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(texts, capture_output=True, text=True, timeout=300, check=False, env=alone, **options)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def drone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that holds skylight-drone[cpu] alone."""
    root = tmp_path_factory.mktemp("drone")
    source = shutil.copytree(ROOT / "deploy", root / "deploy")
    uv = Path(sys.executable).with_name("uv")
    made = _run(uv, "venv", "--quiet", "--python", sys.executable, root / "venv")
    assert made.returncode == 0, made.stderr
    pins = ("--constraint", ROOT / "constraints.txt")
    done = _run(uv, "pip", "install", "--quiet", "--python", root / "venv/bin/python", *pins, f"{source}[cpu]")
    assert done.returncode == 0, done.stderr
    return root / "venv" / "bin"


def test_torch_and_pipeline_are_not_there(drone, tmp_path):
    code = "import importlib.util as u; print([u.find_spec(n) is None for n in ('torch', 'pipeline', 'deploy')])"
    assert _run(drone / "python", "-c", code, cwd=tmp_path).stdout.strip() == "[True, True, False]"


def test_it_detects_the_same_as_the_workstation(drone, tmp_path, skylight, trained, bundle):
    arguments = ("--bundle", bundle, "--source", trained / "squares/images/val", "--threshold", "0.05")
    alone = _run(drone / "skylight-detect", *arguments, "--out", tmp_path / "alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert skylight("detect", *arguments, "--out", tmp_path / "here").returncode == 0
    found = []
    for name in ("alone", "here"):
        lines = (tmp_path / name / "detections.jsonl").read_text().splitlines()[1:]
        found.append([json.loads(line)["detections"] for line in lines])
    assert found[0] == found[1]
    assert any(found[0])


def test_trusted_keys_need_pynacl(drone, tmp_path):
    from signed_bundle import make_key, write_signed

    bundle = write_signed(tmp_path / "colours-1", make_key(tmp_path / "keys", "maker")).root
    command = (drone / "skylight-detect", "--bundle", bundle, "--source", bundle / "golden", "--out", tmp_path / "out")
    done = _run(*command, "--golden", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "which is not checked either, without PyNaCl" in done.stdout
    done = _run(*command, "--trusted", tmp_path / "keys", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith("skylight-detect: PyNaCl: not installed, and signatures must be checked here; pip")


def test_the_page_needs_tornado(drone, tmp_path):
    code = """
from deploy.errors import UserError
from deploy.events import Events
from deploy.web import WebSettings, open_web
print(open_web(WebSettings(enabled=False), (), dict, Events()))
try:
    open_web(WebSettings(), (), dict, Events())
except UserError as error:
    print(error)
"""
    done = _run(drone / "python", "-c", code, cwd=tmp_path)
    refusal = "tornado: not installed, and [web] is enabled; pip install 'tornado>=6.1', or enabled = no in [web]"
    assert done.stdout.splitlines() == ["None", refusal], done.stderr
