"""The network that the reference numbers were measured with, and how far a number may lie from them."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from pipeline.darknet import DarknetNetwork, adapted, load_weights, network_cfg

CLASSES = 3


def random_tiny_weights(darknet_data: Path, folder: Path) -> Path:
    """The weights file that both reference files were computed with."""
    path = folder / "random.weights"
    command = [sys.executable, str(darknet_data / "random_weights.py"), str(path), "--classes", str(CLASSES)]
    subprocess.run(command, check=True, timeout=60)
    return path


def reference_network(weights: Path, size: int) -> DarknetNetwork:
    """Tiny-YOLOv3 for three classes at `size` x `size` pixels."""
    network = DarknetNetwork(adapted(network_cfg("yolov3-tiny"), size, size, CLASSES))
    load_weights(network, weights)
    return network


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())
