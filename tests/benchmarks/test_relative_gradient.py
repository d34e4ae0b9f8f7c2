"""Relative gradients: of the sum of the losses, over the weights, with nothing changed by looking."""

from pathlib import Path

import pytest
import torch
from drawn import SMALL_CFG
from relative_gradient import relative_gradients

from pipeline.darknet import DarknetNetwork, read_cfg
from pipeline.networks.darknet import DarknetDetector
from pipeline.train.dataset import ImageTensors


@pytest.fixture
def detector(tmp_path: Path) -> DarknetDetector:
    (tmp_path / "small.cfg").write_text(SMALL_CFG.replace("filters=18", "filters=12").replace("classes=4", "classes=1"))
    return DarknetDetector(DarknetNetwork(read_cfg(tmp_path / "small.cfg")))


@pytest.fixture
def data() -> ImageTensors:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (6, 3, 64, 64), dtype=torch.uint8, generator=generator)
    truth = torch.rand((6, 2, 5), generator=generator) * 0.3 + 0.3
    truth[..., 4] = 0
    return ImageTensors(images, truth, (), ())


def test_every_layer_with_weights_has_one_and_nothing_is_changed_by_looking(
    detector: DarknetDetector, data: ImageTensors
) -> None:
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    found = relative_gradients(detector, data, batch=4, batches=2)
    assert tuple(found) == detector.weighted_layers
    assert all(value > 0 for value in found.values())
    assert all(torch.equal(tensor, before[name]) for name, tensor in detector.state_dict().items())
    assert relative_gradients(detector, data, batch=4, batches=2) == found


def test_larger_weights_that_give_the_same_output_are_pulled_at_less(
    detector: DarknetDetector, data: ImageTensors
) -> None:
    """Twice the kernel before a batch norm that knows twice the moments: half the gradient, over twice the weights."""
    layer = detector.network.weighted(1)
    assert layer.norm is not None
    before = relative_gradients(detector, data, batch=4, batches=1)[1]
    with torch.no_grad():
        layer.weight.mul_(2)
        layer.norm.rolling_mean.mul_(2)
        layer.norm.rolling_variance.mul_(4)
    after = relative_gradients(detector, data, batch=4, batches=1)[1]
    assert after < before
