"""Networks of other families go through the same stages, freezing, evaluation and resume as Tiny-YOLOv3."""

import json
from pathlib import Path

import pytest
import torch
from drawn import Skylight, assert_refused, write_experiment
from safetensors.torch import load_file

from pipeline.darknet import DarknetNetwork, load_weights, read_cfg

SECOND = {"name": "second", "data": "squares", "starts": ["first"], "iterations": 3}


def _stages(freeze: int) -> list[dict[str, object]]:
    return [{"name": "first", "data": "squares", "iterations": 3}, {**SECOND, "freeze": [0, freeze]}]


@pytest.mark.parametrize(
    ("network", "freeze", "prefix"),
    [
        ("yolov3-tinyu", 10, "model"),
        ("yolo11n", 5, "model"),
        ("yolo26n", 5, "model"),
        ("fasterrcnn_resnet50_fpn", 4, ""),
    ],
)
def test_stages_and_freezing_of_other_families(
    tmp_path: Path, skylight: Skylight, network: str, freeze: int, prefix: str
) -> None:
    file = write_experiment(
        tmp_path, network=network, stages=_stages(freeze), export=None, batch=4, learning_rate=0.001
    )
    done = skylight("train", file, "--root", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    arms = json.loads(done.stdout)["second"]
    assert [arm["freeze"] for arm in arms] == ["0", str(freeze)]
    runs = tmp_path / "runs/small"
    start = load_file(runs / "first/scratch-f0-s0/best.safetensors")
    result = json.loads((runs / f"second/first-f{freeze}-s0/trial.json").read_text())["result"]
    assert result["feature_cache"] == "memory"
    frozen = load_file(runs / f"second/first-f{freeze}-s0/last.safetensors")
    free = load_file(runs / "second/first-f0-s0/last.safetensors")
    same = {name for name in start if torch.equal(start[name], frozen[name])}
    assert same
    assert not all(torch.equal(start[name], free[name]) for name in same)
    if prefix:  # the number after it is the layer
        numbers = {int(name.split(".")[1]) for name in set(start) - same}
        assert min(numbers) >= freeze
        assert all(int(name.split(".")[1]) >= freeze or name in same for name in start)


def test_whole_yolov3_trains_from_its_cfg(tmp_path: Path, skylight: Skylight) -> None:
    stages = [{"name": "first", "data": "squares", "iterations": 1, "freeze": [75], "freeze_untrained": True}]
    done = skylight(
        "train", write_experiment(tmp_path, network="yolov3", stages=stages, export=None, batch=2), "--root", tmp_path
    )
    assert done.returncode == 0, done.stderr
    trial = tmp_path / "runs/small/first/scratch-f75-s0"
    network = DarknetNetwork(read_cfg(trial / "network.cfg"))
    assert load_weights(network, trial / "best.weights")[1] == network.spec.weighted_layers


def test_a_bundle_of_another_family_is_refused_for_now(tmp_path: Path, skylight: Skylight) -> None:
    stages = [{"name": "first", "data": "squares", "iterations": 1}]
    file = write_experiment(tmp_path, network="yolo11n", stages=stages, export={"stage": "first", "name": "x"}, batch=2)
    assert skylight("train", file, "--root", tmp_path).returncode == 0
    assert_refused(skylight("export", file, "--root", tmp_path), "yolo11n", "bundles are made of Darknet networks")
