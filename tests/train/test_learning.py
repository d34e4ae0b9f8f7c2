"""The trainer learns, and Darknet's own files come out of it."""

import json

import cv2
import numpy as np
import pytest
import torch
from drawn import write_experiment

from pipeline.darknet import DarknetNetwork, load_weights, read_cfg

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def learnt(tmp_path_factory, skylight):
    root = tmp_path_factory.mktemp("learnt")
    steps = {400: 0.1}  # without it the last steps' noise decides the AP
    stages = [
        {"name": "first", "data": "squares", "iterations": 500, "evaluate_at": [250], "learning_rate_steps": steps}
    ]
    done = skylight("train", write_experiment(root, stages=stages, export=None), "--root", root, "--json")
    assert done.returncode == 0, done.stderr
    return root / "runs/small/first/scratch-f0-s0", json.loads(done.stdout)


def test_ap_on_new_pictures_becomes_high(learnt):
    _, table = learnt
    assert table["first"][0]["best"]["ap50"] > 0.8
    assert table["first"][0]["best"]["coco_map"] > 0.25


def test_records_have_iterations_seconds_and_dose(learnt):
    trial, _ = learnt
    rows = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if "loss" in row][-1]
    assert last["iteration"] == 500
    assert last["dose"] == pytest.approx(400 * 0.003 + 100 * 0.0003)
    assert last["seconds"] > 0
    assert rows[0]["loss"] > last["loss"]


@pytest.mark.parametrize("run", ["free", "frozen"])
def test_opencv_reads_the_checkpoint_and_finds_the_same(learnt, trained, run):
    trial = learnt[0] if run == "free" else trained / "runs/small/second/first-f4-s0"
    network = DarknetNetwork(read_cfg(trial / "network.cfg")).eval()
    load_weights(network, trial / "best.weights")
    image = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    with torch.no_grad():
        boxes, scores = (part[0].numpy() for part in network.decode(network(torch.from_numpy(image))))
    other = cv2.dnn.readNetFromDarknet(str(trial / "network.cfg"), str(trial / "best.weights"))
    other.setInput(image)
    rows = np.concatenate(other.forward(other.getUnconnectedOutLayersNames()))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 128
    # OpenCV orders cell by cell, we anchor by anchor: pair each of its rows with the nearest box of ours.
    for row in rows:
        by_place = np.abs(centres - row[:2]).max(axis=1)
        by_size = np.abs((boxes[:, 2:] - boxes[:, :2]) / 64 - row[2:4]).max(axis=1)
        distance = by_place + by_size
        nearest = distance.argmin()
        assert distance[nearest] < 1e-4
        if row[5]:  # OpenCV writes 0 for scores below its own threshold
            assert scores[nearest, 0] == pytest.approx(row[5], abs=1e-4)


def test_best_weights_are_a_whole_darknet_file(learnt):
    trial, _ = learnt
    network = DarknetNetwork(read_cfg(trial / "network.cfg"))
    header, loaded = load_weights(network, trial / "best.weights")
    assert loaded == network.spec.weighted_layers
    assert header.seen % 8 == 0
    assert header.is_wide
