"""Networks of other families go through the same stages, freezing, evaluation and resume as Tiny-YOLOv3."""

import json
from pathlib import Path

import pytest
import torch
from drawn import Skylight, write_experiment
from safetensors.torch import load_file

from pipeline.darknet import DarknetNetwork, load_weights, read_cfg

pytestmark = pytest.mark.long

SECOND = {"name": "second", "data": "squares", "starts": ["first"], "iterations": 2}


def _train(root: Path, skylight: Skylight, network: str, freezes: list[int]) -> Path:
    """Train from scratch, and from there with so many layers frozen; returns the folder of the runs."""
    stages = [{"name": "first", "data": "squares", "iterations": 2}, {**SECOND, "freeze": freezes}]
    file = write_experiment(root, network=network, stages=stages, export=None, batch=4, learning_rate=0.001)
    done = skylight("train", file, "--root", root, "--json")
    assert done.returncode == 0, done.stderr
    assert [arm["freeze"] for arm in json.loads(done.stdout)["second"]] == list(map(str, freezes))
    return root / "runs/small"


@pytest.mark.parametrize(("network", "freeze"), [("yolov3-tinyu", 10), ("yolo11n", 5), ("yolo26n", 5)])
def test_stages_and_freezing_of_ultralytics(tmp_path: Path, skylight: Skylight, network: str, freeze: int) -> None:
    runs = _train(tmp_path, skylight, network, [0, freeze])
    start = load_file(runs / "first/scratch-f0-s0/best.safetensors")
    for count in (0, freeze):
        trained = load_file(runs / f"second/first-f{count}-s0/last.safetensors")
        result = json.loads((runs / f"second/first-f{count}-s0/trial.json").read_text())["result"]
        assert result["feature_cache"] == ("memory" if count else None)
        changed = {int(name.split(".")[1]) for name in start if not torch.equal(start[name], trained[name])}
        assert min(changed) >= count


def test_stages_and_freezing_of_faster_rcnn(tmp_path: Path, skylight: Skylight) -> None:
    runs = _train(tmp_path, skylight, "fasterrcnn_resnet50_fpn", [4])
    start = load_file(runs / "first/scratch-f0-s0/best.safetensors")
    trained = load_file(runs / "second/first-f4-s0/last.safetensors")
    frozen = ("backbone.body.conv1.", "backbone.body.bn1.", "backbone.body.layer1.")
    for name in start:
        if name.endswith("num_batches_tracked"):
            continue
        assert torch.equal(start[name], trained[name]) == name.startswith(frozen), name


def test_whole_yolov3_trains_from_its_cfg(tmp_path: Path, skylight: Skylight) -> None:
    stages = [{"name": "first", "data": "squares", "iterations": 1, "freeze": [75], "freeze_untrained": True}]
    done = skylight(
        "train", write_experiment(tmp_path, network="yolov3", stages=stages, export=None, batch=2), "--root", tmp_path
    )
    assert done.returncode == 0, done.stderr
    trial = tmp_path / "runs/small/first/scratch-f75-s0"
    network = DarknetNetwork(read_cfg(trial / "network.cfg"))
    assert load_weights(network, trial / "best.weights")[1] == network.spec.weighted_layers


def test_a_trial_of_another_family_becomes_a_bundle(tmp_path: Path, skylight: Skylight) -> None:
    stages = [{"name": "first", "data": "squares", "iterations": 1}]
    file = write_experiment(tmp_path, network="yolo11n", stages=stages, export={"stage": "first", "name": "x"}, batch=2)
    assert skylight("train", file, "--root", tmp_path).returncode == 0
    done = skylight("export", file, "--root", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    provenance = json.loads(done.stdout)["provenance"]
    assert provenance["chain"][0]["network"] == "yolo11n"
    assert [step["kind"] for step in provenance["chain"]] == ["trial", "random"]
