"""A bundle says where its weights come from, as far back as anybody knows."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from drawn import draw_picture, write_experiment

from pipeline.curated import read_curated_set
from pipeline.darknet.known import known_weights
from pipeline.experiment import read_experiment
from pipeline.export.provenance import provenance_of, provenance_of_folder
from pipeline.files import file_sha256
from pipeline.train.named import finished_trial
from pipeline.train.stages import plan_trials
from pipeline.workspace import Workspace


def _provenance(root: Path, file: Path | None = None) -> dict[str, Any]:
    """Of the last trial of the experiment in `root`."""
    experiment = read_experiment(file or root / "experiment.yaml")
    return provenance_of(experiment, plan_trials(experiment, Workspace(root))[-1])


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    """A finished experiment of a test's own."""
    return Path(shutil.copytree(trained, tmp_path / "root", ignore=shutil.ignore_patterns("bundles")))


def _set_start(trial: Path, sha256: str) -> None:
    content = json.loads((trial / "trial.json").read_text())
    content["settings"]["start_sha256"] = sha256
    (trial / "trial.json").write_text(json.dumps(content))


def test_chain_goes_through_the_stages_to_chance(root):
    found = _provenance(root)
    trial, start, end = found["chain"]
    assert (trial["stage"], start["stage"], end) == ("second", "first", {"kind": "random", "seed": 0})
    assert found["weights_sha256"] == trial["weights_sha256"]
    assert trial["start_sha256"] == start["weights_sha256"]
    assert file_sha256(root / "runs/small/first/scratch-f0-s0/best.weights") == start["weights_sha256"]
    assert trial["frozen"] == [0, 1, 2, 3]
    assert found["seeds"] == [0, 0, 0]
    assert found["versions"].keys() >= {"skylight", "torch", "onnx", "onnxruntime", "python"}
    assert json.loads(json.dumps(found)) == found


def test_published_weights_are_known_by_their_hash(root):
    known = known_weights("yolov3-tiny")
    assert known.sha256 is not None
    _set_start(root / "runs/small/first/scratch-f0-s0", known.sha256)
    end = _provenance(root)["chain"][-1]
    assert (end["kind"], end["name"], end["trained_on"]) == ("published", "yolov3-tiny", "COCO")
    assert known.licence in _provenance(root)["licences"]


def test_unknown_file_is_called_unknown(root):
    _set_start(root / "runs/small/first/scratch-f0-s0", "a" * 64)
    assert _provenance(root)["chain"][-1] == {"kind": "file", "name": "scratch", "sha256": "a" * 64}


def test_weights_of_another_experiment_are_found_by_their_hash(root):
    """A start that was named as a file, of a trial in the same runs/."""
    other = root / "runs" / "earlier" / "windows" / "scratch-f0-s0"
    shutil.copytree(root / "runs/small/first/scratch-f0-s0", other)
    content = json.loads((other / "trial.json").read_text())
    content["settings"] |= {"experiment": "earlier", "stage": "windows"}
    weights = other / "best.weights"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    content["result"]["best_weights_sha256"] = file_sha256(weights)
    (other / "trial.json").write_text(json.dumps(content))
    _set_start(root / "runs/small/first/scratch-f0-s0", file_sha256(weights))
    chain = _provenance(root)["chain"]
    assert [step.get("experiment") for step in chain] == ["small", "small", "earlier", None]
    assert chain[-1]["kind"] == "random"


def test_circle_of_starts_ends(root):
    """Records that somebody edited; each trial is told once."""
    first = root / "runs/small/first/scratch-f0-s0"
    _set_start(first, file_sha256(first / "best.weights"))
    chain = _provenance(root)["chain"]
    assert len(chain) <= 4
    assert chain[-1]["kind"] == "file"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@localhost", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_recipe_ledger_licences_and_commit_are_named(tmp_path, skylight):
    import cv2
    import numpy as np
    from drawn_source import HEADER, row

    source, recipes = tmp_path / "source", tmp_path / "recipes"
    rng = np.random.default_rng(0)
    rows = []
    (source / "data").mkdir(parents=True)
    for number in range(24):
        image, boxes = draw_picture(rng)
        name = f"{number:016x}"
        cv2.imwrite(str(source / "data" / f"{name}.jpg"), image)
        rows += [row(name, box=tuple(box / [96, 80, 96, 80])) for box in boxes]
    for folder, name, text in (
        ("labels", "detections.csv", "\n".join([HEADER, *rows]) + "\n"),
        ("metadata", "classes.csv", "/x/window,Window\n"),
    ):
        (source / folder).mkdir()
        (source / folder / name).write_text(text)
    recipes.mkdir()
    recipe = {"name": "drawn", "licence": "CC0-1.0", "source": {"format": "open-images"}, "classes": ["Window"]}
    (recipes / "drawn.yaml").write_text(yaml.safe_dump(recipe))
    _git(recipes, "init", "-q")
    _git(recipes, "add", ".")
    _git(recipes, "commit", "-qm", "recipe")
    stage = {"name": "only", "data": "drawn", "iterations": 4}
    data = {"drawn": {"recipe": "recipes/drawn.yaml", "source": "source"}}
    file = write_experiment(tmp_path, data=data, stages=[stage], export={"stage": "only", "name": "drawn"})
    for verb in ("curate", "train"):
        done = skylight(verb, file, "--root", tmp_path)
        assert done.returncode == 0, done.stderr
    found = _provenance(tmp_path)
    step = found["chain"][0]
    assert found["licences"] == step["licences"] == ["CC0-1.0"]
    assert step["ledger_sha256"] == file_sha256(tmp_path / "data/drawn/ledger.parquet")
    about = json.loads((tmp_path / "data/drawn/dataset.json").read_text())
    assert step["recipe"]["sha256"] == about["recipe_sha256"]
    assert step["recipe"]["content"]["classes"] == ["Window"]
    assert step["data_hash"] == about["content_hash"]
    assert step["recipe"]["git"] == {"commit": _git(recipes, "rev-parse", "HEAD"), "is_clean": True}
    (recipes / "note").write_text("x")
    assert _provenance(tmp_path)["chain"][0]["recipe"]["git"]["is_clean"] is False
    trial = plan_trials(read_experiment(file), Workspace(tmp_path))[-1].folder.root
    alone = provenance_of_folder(finished_trial(trial), read_curated_set(tmp_path / "data/drawn"))
    assert alone["licences"] == ["CC0-1.0"]
    assert alone["chain"][0]["ledger_sha256"] == step["ledger_sha256"]
    assert alone["chain"][0]["recipe"] == step["recipe"] | {"file": None, "git": None}
