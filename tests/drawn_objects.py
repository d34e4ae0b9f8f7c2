"""A small set of photos with two kinds of objects, which small classifiers tell apart after a few epochs."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from pipeline import cli
from pipeline.errors import UserError

CLASSES = ("disc", "square")
NETWORK = "shufflenet_v2_x0_5"  # the smallest of torchvision's
OPTIONS = ["--network", NETWORK, "--size", "32", "--epochs", "10", "--batch", "4", "--learning-rate", "0.002"]


def draw_objects(root: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """A YOLO folder; every photo, 120 x 90 pixels, holds a red disc, a blue square, and a square of 5 pixels."""
    rng = np.random.default_rng(seed)
    for split, count in counts.items():
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for index in range(count):
            image = rng.integers(90, 130, (90, 120, 3)).astype(np.uint8)
            radius, side = int(rng.integers(12, 24)), int(rng.integers(24, 48))
            cv2.circle(image, (30, 45), radius, (30, 30, 220), -1)
            cv2.rectangle(image, (65, 20), (65 + side - 1, 20 + side - 1), (220, 60, 30), -1)
            boxes = [(0, 30 - radius, 45 - radius, 2 * radius, 2 * radius), (1, 65, 20, side, side), (1, 0, 0, 5, 5)]
            rows = [f"{c} {(x + w / 2) / 120} {(y + h / 2) / 90} {w / 120} {h / 90}" for c, x, y, w, h in boxes]
            cv2.imwrite(str(root / "images" / split / f"{split}{index:03d}.png"), image)
            (root / "labels" / split / f"{split}{index:03d}.txt").write_text("\n".join(rows) + "\n")
    content = {split: f"images/{split}" for split in counts} | {"names": list(CLASSES)}
    (root / "data.yaml").write_text(yaml.safe_dump(content))
    return root


def refusal(*arguments: object) -> str:
    """What the command says in this process, which has torch already: one line."""
    with pytest.raises(UserError) as caught:
        cli.app([str(argument) for argument in arguments], standalone_mode=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pretrained_from(root: Path) -> list[str]:
    """The option that names the file of a network in `root`."""
    return ["--pretrained", f"{NETWORK}={root / 'published.pth'}"]
