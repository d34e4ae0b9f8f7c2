"""Frozen means frozen, and what was never trained is not frozen by mistake."""

import json
from pathlib import Path

import pytest
import torch
from drawn import assert_refused, write_experiment

from pipeline.darknet import DarknetNetwork, load_weights, network_cfg, read_cfg
from pipeline.errors import UserError
from pipeline.experiment import Freeze, FreezeRule
from pipeline.networks.darknet import DarknetDetector
from pipeline.train.freeze import check_freeze, freeze_label, frozen_layers


def _tensors(weights: Path, cfg: Path) -> dict[str, torch.Tensor]:
    network = DarknetNetwork(read_cfg(cfg))
    load_weights(network, weights)
    return network.state_dict()


def test_frozen_layers_are_bit_identical_after_training(trained):
    start = trained / "runs/small/first/scratch-f0-s0"
    frozen = trained / "runs/small/second/first-f4-s0"
    before = _tensors(start / "best.weights", start / "network.cfg")
    after = _tensors(frozen / "last.weights", frozen / "network.cfg")
    changed = {int(name.split(".")[1]) for name in before if not torch.equal(before[name], after[name])}
    assert changed == {6, 7, 12}
    assert json.loads((frozen / "trial.json").read_text())["result"]["frozen_layers"] == [0, 1, 2, 3]


def test_unfrozen_layers_all_learn(trained):
    start = trained / "runs/small/first/scratch-f0-s0"
    free = trained / "runs/small/second/first-f0-s0"
    before = _tensors(start / "best.weights", start / "network.cfg")
    after = _tensors(free / "last.weights", free / "network.cfg")
    same = [name for name in before if torch.equal(before[name], after[name])]
    assert same == []


def test_frozen_layers_do_not_decay_and_keep_their_statistics():
    torch.manual_seed(0)
    network = DarknetDetector(DarknetNetwork(network_cfg("yolov3-tiny")))
    network.freeze(frozen_layers(network, 13))
    assert network.frozen == (0, 2, 4, 6, 8, 10, 12)
    network.train()
    for layer in network.network_layers:
        if layer.has_weights:
            assert layer.module.training == (layer.index >= 13)
            assert all(p.requires_grad == (layer.index >= 13) for p in layer.module.parameters())


def test_freezing_untrained_layers_is_refused_by_name():
    network = DarknetDetector(DarknetNetwork(network_cfg("yolov3-tiny")))
    trained = [0, 2, 4, 6, 8, 10, 12, 13, 14]
    check_freeze(network, 13, trained, "stage target", force=False)
    check_freeze(network, 15, trained, "stage target", force=False)
    with pytest.raises(UserError, match=r"freeze 20 would freeze layers 15, 18, never trained; .*at most 15"):
        check_freeze(network, 20, trained, "stage target", force=False)
    check_freeze(network, 20, trained, "stage target", force=True)


def test_layers_are_chosen_by_count_list_rule_and_function():
    network = DarknetDetector(DarknetNetwork(network_cfg("yolov3-tiny")))
    assert frozen_layers(network, 3) == (0, 2)
    assert frozen_layers(network, (4, 0)) == (0, 4)
    assert frozen_layers(network, FreezeRule(kernel=1)) == (13, 15, 18, 22)
    assert frozen_layers(network, FreezeRule(batch_norm=False)) == (15, 22)
    assert frozen_layers(network, FreezeRule(below=14, kernel=1)) == (13,)
    assert frozen_layers(network, lambda layer: layer.index in (2, 3)) == (2,)
    with pytest.raises(UserError, match=r"freeze \[1, 2\]: 1; layers with weights are 0, 2, 4"):
        frozen_layers(network, (1, 2))


def test_labels_of_freezes_are_short_and_tell_them_apart():
    freezes: list[Freeze] = [
        13,
        (13,),
        (0, 2, 4),
        (0, 1, 2, 4),
        FreezeRule(kernel=3),
        FreezeRule(below=13, kernel=3),
        (),
    ]
    labels = [freeze_label(freeze) for freeze in freezes]
    assert labels == ["13", "list13", "list0+2+4", "list0-2+4", "rule-kernel3", "rule-below13-kernel3", "none"]
    long = [freeze_label(tuple(range(start, 100, 2))) for start in (0, 2)]
    assert max(map(len, long)) < 20
    assert long[0] != long[1]


def test_freezing_everything_is_refused():
    network = DarknetDetector(DarknetNetwork(network_cfg("yolov3-tiny")))
    with pytest.raises(UserError, match="no layer to train"):
        check_freeze(network, 24, range(24), "stage target", force=True)


def test_freezing_a_random_start_is_refused_before_training(tmp_path, skylight):
    stages = [{"name": "first", "data": "squares", "freeze": [4], "iterations": 5}]
    done = skylight("train", write_experiment(tmp_path, stages=stages, export=None), "--root", tmp_path)
    assert_refused(done, "stage first, start scratch", "layers 0, 1, 2, 3, never trained", "freeze_untrained")
    assert not (tmp_path / "runs").exists()
