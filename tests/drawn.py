"""A small network and a small set of drawn pictures that tests train on in seconds; how a refusal must look."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import yaml

# For commands that may write next to nothing, and so nothing of how much of the code they ran either.
UNMEASURED = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}

Skylight = Callable[..., subprocess.CompletedProcess[str]]  # the command, run as a user would

# Two heads like yolov3-tiny, a fiftieth of the work; layers 0 to 6 are the trunk, 7 and 12 the last convolutions.
SMALL_CFG = """[net]
width=64
height=64
channels=3

[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky

[convolutional]
batch_normalize=1
filters=16
size=3
stride=2
pad=1
activation=leaky

[convolutional]
batch_normalize=1
filters=16
size=3
stride=2
pad=1
activation=leaky

[convolutional]
batch_normalize=1
filters=32
size=3
stride=2
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[maxpool]
size=2
stride=1

[convolutional]
batch_normalize=1
filters=32
size=3
stride=1
pad=1
activation=leaky

[convolutional]
filters=18
size=1
stride=1
pad=1
activation=linear

[yolo]
mask=2,3
anchors=8,8, 14,14, 24,24, 40,40
classes=4
num=4
ignore_thresh=.7

[route]
layers=6

[upsample]
stride=2

[route]
layers=-1,3

[convolutional]
filters=18
size=1
stride=1
pad=1
activation=linear

[yolo]
mask=0,1
anchors=8,8, 14,14, 24,24, 40,40
classes=4
num=4
ignore_thresh=.7
"""


def draw_picture(rng: np.random.Generator, width: int = 96, height: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """One picture with one or two red squares among grey ones: (H, W, 3) uint8 BGR, and (N, 4) xyxy pixels."""
    image = rng.integers(90, 130, (height, width, 3)).astype(np.uint8)
    boxes = []
    for number, left in enumerate((4, width // 2 + 2)):
        size = int(rng.integers(16, width // 2 - 10))
        top = int(rng.integers(2, height - size - 2))
        is_target = number == 0 or rng.random() < 0.5
        cv2.rectangle(
            image, (left, top), (left + size - 1, top + size - 1), (30, 30, 220) if is_target else (60,) * 3, -1
        )
        if is_target:
            boxes.append((left, top, left + size, top + size))
    return image, np.array(boxes, np.float32)


def draw_set(root: Path, train: int = 24, val: int = 8, seed: int = 0) -> Path:
    """A plain YOLO folder with one class, `square`."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("val", val)):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for index in range(count):
            image, boxes = draw_picture(rng)
            height, width = image.shape[:2]
            cv2.imwrite(str(root / "images" / split / f"{split}{index:03d}.png"), image)
            fractions = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
            fractions /= [width, height, width, height]
            rows = ["0 " + " ".join(f"{value:.6f}" for value in row) for row in fractions]
            (root / "labels" / split / f"{split}{index:03d}.txt").write_text("\n".join(rows) + "\n")
    (root / "data.yaml").write_text(yaml.safe_dump({"train": "images/train", "val": "images/val", "names": ["square"]}))
    return root


def write_experiment(folder: Path, **changes: object) -> Path:
    """An experiment on a drawn set: a first stage from scratch, a second one frozen at 0 and 4."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "squares").exists():
        draw_set(folder / "squares")
    (folder / "small.cfg").write_text(SMALL_CFG)
    content: dict[str, object] = {
        "name": "small",
        "network": "small.cfg",
        "size": 64,
        "batch": 8,
        "learning_rate": 0.003,
        "data": {"squares": {"path": "squares"}},
        "stages": [
            {"name": "first", "data": "squares", "iterations": 30, "evaluate_at": [10, 20]},
            {"name": "second", "data": "squares", "starts": ["first"], "freeze": [0, 4], "iterations": 20},
        ],
        "export": {"stage": "second", "name": "square"},
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def assert_refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Exit status 2, and on standard error exactly one line that holds every part."""
    assert done.returncode == 2, done.stderr + done.stdout
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for part in parts:
        assert part in lines[0], lines[0]
