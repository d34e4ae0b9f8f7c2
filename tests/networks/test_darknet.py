"""A Darknet network behind the common door: frozen means frozen, and cut in two it computes the same."""

import pytest
import torch
from torch import Tensor

from pipeline.darknet import DarknetNetwork, adapted, network_cfg
from pipeline.errors import UserError
from pipeline.networks.darknet import DarknetDetector


def _detector(name: str = "yolov3-tiny", size: int = 64, classes: int = 2) -> DarknetDetector:
    return DarknetDetector(DarknetNetwork(adapted(network_cfg(name), size, size, classes)))


def _batch(count: int = 4, size: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand((count, 3, 5), generator=generator) * 0.4 + 0.3
    truth[..., 4] = (truth[..., 4] > 0.5).float()
    return torch.rand((count, 3, size, size), generator=generator), truth


def _learn(detector: DarknetDetector, steps: int) -> None:
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.001, momentum=0.9, weight_decay=0.1)
    images, truth = _batch()
    for _ in range(steps):
        detector.train()
        optimizer.zero_grad()
        torch.stack(list(detector.losses(detector.trunk(images), truth).values())).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("frozen", [(0, 2, 4, 6, 8, 10, 12), (2, 13), (0, 2, 4, 6, 8, 10, 12, 13, 14, 15, 18)])
def test_frozen_layers_keep_weights_and_statistics_to_the_bit_and_others_learn(frozen: tuple[int, ...]) -> None:
    detector = _detector()
    detector.freeze(frozen)
    before = {name: values.clone() for name, values in detector.state_dict().items()}
    _learn(detector, 3)
    for name, values in detector.state_dict().items():
        layer = int(name.split(".")[2])
        assert torch.equal(values, before[name]) == (layer in frozen), name


def test_layers_frozen_after_training_do_not_decay_and_those_let_go_learn_again() -> None:
    detector = _detector()
    _learn(detector, 1)
    detector.freeze((0,))
    before = detector.network.weighted(0).weight.clone()
    torch.optim.SGD(detector.parameters(), lr=0.01, weight_decay=0.1).step()
    assert torch.equal(detector.network.weighted(0).weight, before)
    detector.freeze(())
    _learn(detector, 1)
    assert not torch.equal(detector.network.weighted(0).weight, before)


@pytest.mark.parametrize(
    ("name", "counts"), [("yolov3-tiny", (1, 3, 9, 13, 14, 16, 19, 22)), ("yolov4-tiny", (3, 9, 29)), ("yolov3", (75,))]
)
def test_cut_at_any_layer_losses_and_gradients_are_those_of_the_whole(name: str, counts: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    detector = _detector(name)
    images, truth = _batch(2)
    for count in counts:
        detector.freeze([index for index in detector.weighted_layers if index < count])
        detector.train()
        features = detector.trunk(images)
        assert detector.has_trunk
        assert not any(feature.requires_grad for feature in features)
        cut = torch.stack(list(detector.losses(features, truth).values()))
        detector.zero_grad()
        cut.sum().backward()
        found = {key: p.grad.clone() for key, p in detector.named_parameters() if p.grad is not None}
        detector.zero_grad()
        raw = detector.network(images)
        whole = torch.stack(list(detector._costs(raw, truth).values()))
        torch.testing.assert_close(cut, whole)
        whole.sum().backward()
        for key, parameter in detector.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None
                torch.testing.assert_close(found[key], parameter.grad, rtol=1e-4, atol=1e-5)


def test_what_is_kept_of_a_trunk_is_no_more_than_the_tail_reads() -> None:
    detector = _detector(size=224)
    shapes = {}
    for count in (13, 20):
        detector.freeze([index for index in detector.weighted_layers if index < count])
        shapes[count] = [tuple(part.shape[1:]) for part in detector.trunk(torch.zeros(1, 3, 224, 224))]
    assert shapes[13] == [(256, 14, 14), (1024, 7, 7)]  # layers 8 and 12
    # Layer 8, the frozen head, and layer 18 before it is made larger and joined with 8.
    assert shapes[20] == [(256, 14, 14), (21, 7, 7), (128, 7, 7)]


def test_freezing_a_layer_after_one_that_learns_keeps_nothing() -> None:
    detector = _detector()
    detector.freeze((13, 14))
    assert not detector.has_trunk
    images, _ = _batch()
    assert detector.trunk(images)[0] is images


def test_numbers_of_no_layer_and_every_layer_are_refused() -> None:
    detector = _detector()
    with pytest.raises(UserError, match="layer 24; the network has the layers 0 to 23"):
        detector.freeze((24,))
    with pytest.raises(UserError, match="leave at least one"):
        detector.freeze(detector.weighted_layers)
