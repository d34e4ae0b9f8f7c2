"""One step of learning: parts of a batch add up, frozen tensors stay, and the moving average moves as it should."""

import pytest
import torch
from torch import Tensor

from pipeline.darknet import DarknetNetwork, adapted, network_cfg
from pipeline.networks.darknet import DarknetDetector
from pipeline.train.update import MovingAverage, Updater


def _detector(frozen: int = 0) -> DarknetDetector:
    torch.manual_seed(0)
    detector = DarknetDetector(DarknetNetwork(adapted(network_cfg("yolov3-tiny"), 64, 64, 1)))
    detector.freeze([index for index in detector.weighted_layers if index < frozen])
    return detector


def _batch(count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand((count, 2, 5), generator=generator) * 0.3 + 0.3
    truth[..., 4] = 0
    return torch.rand((count, 3, 64, 64), generator=generator), truth


def _step(detector: DarknetDetector, images: Tensor, truth: Tensor, **options: float) -> dict[str, Tensor]:
    settings = {"momentum": 0.9, "decay": 0.0005, "subdivisions": 1} | options
    updater = Updater(detector, "float32", settings["momentum"], settings["decay"], int(settings["subdivisions"]))
    updater.set_rate(0.01)
    return updater.learn((*detector.trunk(images), truth))


def test_subdivisions_of_equal_parts_change_the_weights_as_one_part_does() -> None:
    """Batch norm sees a part at a time, so the parts must be equal for the numbers to be."""
    images, truth = _batch(2)
    one, two = _detector(), _detector()
    whole = _step(one, images, truth)
    parts = _step(two, images.repeat(2, 1, 1, 1), truth.repeat(2, 1, 1), subdivisions=2)
    for name, value in whole.items():
        assert float(parts[name]) == pytest.approx(float(value), rel=1e-5)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_decay_is_for_kernels_only() -> None:
    images, truth = _batch()
    plain, decayed = _detector(), _detector()
    before = [p.clone() for p in plain.parameters()]
    _step(plain, images, truth, decay=0)
    _step(decayed, images, truth, decay=0.5)
    kernels = {id(parameter) for parameter in decayed.decayed()}
    for a, b, start in zip(plain.parameters(), decayed.parameters(), before, strict=True):
        shrunk = a - 0.01 * 0.5 * start if id(b) in kernels else a
        torch.testing.assert_close(b, shrunk, rtol=1e-4, atol=1e-6)


def test_moving_average_follows_what_is_trained_and_is_put_in_place_only_for_a_while() -> None:
    images, truth = _batch()
    detector = _detector(frozen=13)
    average = MovingAverage(detector, 0.5)
    expected = {name: value.clone() for name, value in average.values.items()}
    assert not any(int(name.split(".")[2]) < 13 for name in expected)
    assert any("rolling_mean" in name for name in expected)
    tensors = dict(detector.state_dict(keep_vars=True))
    for step in (1, 2, 3):
        _step(detector, images, truth)
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = {name: decay * value + (1 - decay) * tensors[name].detach() for name, value in expected.items()}
    live = {name: value.clone() for name, value in detector.state_dict().items()}
    with average.applied():
        for name, value in expected.items():
            torch.testing.assert_close(tensors[name].detach(), value)
    assert all(torch.equal(live[name], value) for name, value in detector.state_dict().items())


def test_bfloat16_takes_nearly_the_same_step() -> None:
    images, truth = _batch()
    steps = {}
    for precision in ("float32", "bfloat16"):
        detector = _detector()
        before = detector.network.weighted(22).weight.clone()
        updater = Updater(detector, precision, 0.9, 0.0, 1)
        updater.set_rate(0.01)
        updater.learn((images, truth))
        steps[precision] = (detector.network.weighted(22).weight - before).flatten()
    similarity = torch.nn.functional.cosine_similarity(steps["float32"], steps["bfloat16"], dim=0).detach()
    assert similarity.item() > 0.99
    assert not torch.equal(steps["float32"], steps["bfloat16"])
