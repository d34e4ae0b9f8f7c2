"""torchvision's Faster R-CNN learns, freezes, splits, saves and loads behind our door."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from drawn_batch import changed_layers, drawn_batch, overlap, tensors_of, train_steps
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from pipeline.errors import UserError
from pipeline.networks.torchvision import TorchvisionDetector, faster_rcnn

SIZE = 64
BOX_HEAD, BOX_PREDICTOR = 19, 20


@pytest.fixture(scope="module")
def new() -> tuple[TorchvisionDetector, dict[str, Tensor]]:
    """A detector for two classes with batch norms unlike new ones, and its tensors."""
    torch.manual_seed(0)
    detector = faster_rcnn(2, SIZE)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return detector, {key: value.clone() for key, value in detector.state_dict().items()}


@pytest.fixture
def detector(new: tuple[TorchvisionDetector, dict[str, Tensor]]) -> Iterator[TorchvisionDetector]:
    """That detector as it was at first: 41 million random weights take seconds to draw."""
    detector, tensors = new
    detector.load_state_dict(tensors)
    detector.freeze(())
    detector.train()
    yield detector
    detector.zero_grad()


def refusal(path: Path, detector: TorchvisionDetector, layers: int | None = None) -> str:
    """The line that refuses the file; the detector stays as it is."""
    before = [tensors_of(detector, layer.index) for layer in detector.network_layers]
    with pytest.raises(UserError) as caught:
        detector.load(path, layers)
    assert "\n" not in str(caught.value)
    assert changed_layers(detector, before) == []
    return str(caught.value)


def test_layers_are_in_the_order_of_the_data_and_hold_every_weight(detector: TorchvisionDetector) -> None:
    names = [layer.name for layer in detector.network_layers]
    assert names[:4] == ["conv1", "layer1.0", "layer1.1", "layer1.2"]
    assert names[14:] == ["layer4.0", "layer4.1", "layer4.2", "fpn", "rpn", "box_head", "box_predictor"]
    assert [layer.index for layer in detector.network_layers] == list(range(21))
    held = [
        id(value) for layer in detector.network_layers for value in layer.module.state_dict(keep_vars=True).values()
    ]
    assert sorted(held) == sorted(id(value) for value in detector.state_dict(keep_vars=True).values())


@pytest.mark.long
def test_learns_where_a_square_is() -> None:
    images, truth = drawn_batch(2, SIZE, seed=1)
    detector = faster_rcnn(1, SIZE).train()
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # few steps: the statistics in eval mode are the last batch's
    optimizer = torch.optim.Adam(detector.parameters(), 0.0001)
    for _ in range(10):
        optimizer.zero_grad()
        torch.stack(list(detector.losses((images,), truth).values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        detector.losses((images,), truth)  # for the statistics
    boxes, scores = detector.predict(images)
    assert detector.training  # as before
    for index in range(len(images)):
        best = boxes[index, scores[index, :, 0].argmax()]
        ious = [float(overlap(best[None], row, SIZE)) for row in truth[index] if row[2] > 0]
        assert max(ious) > 0.5, (index, best, truth[index])


@pytest.mark.parametrize("frozen", [(0, 1, 2, 3, 4, 7, 17), (18, 20)])
def test_frozen_layers_keep_weights_and_statistics_to_the_bit(
    detector: TorchvisionDetector, frozen: tuple[int, ...]
) -> None:
    detector.freeze(frozen)
    before = [tensors_of(detector, layer.index) for layer in detector.network_layers]
    images, truth = drawn_batch(2, SIZE)
    losses = detector.losses(detector.trunk(images), truth)
    assert len(losses) == 4  # a frozen layer has its part of the loss all the same
    train_steps(detector, images, truth, 1, 0.01)
    assert changed_layers(detector, before) == [index for index in range(21) if index not in frozen]


@pytest.mark.parametrize("prefix", [0, 1, 3, 4, 6, 14, 16, 17, 19])
def test_trunk_and_losses_equal_the_unsplit_network(detector: TorchvisionDetector, prefix: int) -> None:
    detector.freeze(range(prefix))
    images, truth = drawn_batch(2, SIZE)
    truth[1] = 0  # a picture without boxes
    truth[0, 0, 4] = 1
    state = {key: value.clone() for key, value in detector.state_dict().items()}
    features = detector.trunk(images)
    copies = [feature.clone() for feature in features]
    assert detector.has_trunk == (prefix > 0)
    torch.manual_seed(1)
    with torch.no_grad():
        losses = detector.losses(features, truth)
    detector.load_state_dict(state)

    centre, half = truth[0, :, :2] * SIZE, truth[0, :, 2:4] * SIZE / 2
    boxes, labels = torch.cat((centre - half, centre + half), 1), truth[0, :, 4].long() + 1
    count = int((truth[0, :, 2] > 0).sum())
    targets = [
        {"boxes": boxes[:count], "labels": labels[:count]},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    detector.network.transform._skip_resize = True  # it would draw a number to choose among one size
    torch.manual_seed(1)
    with torch.no_grad():
        expected = detector.network(list(images), targets)
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    for name, value in losses.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6, msg=name)
    assert all(torch.equal(feature, copy) for feature, copy in zip(features, copies, strict=True))


@pytest.mark.parametrize(
    ("prefix", "channels"),
    [(1, [64]), (3, [256]), (4, [256]), (5, [256, 512]), (17, [256, 512, 1024, 2048])],
)
def test_trunk_keeps_only_what_later_layers_read(
    detector: TorchvisionDetector, prefix: int, channels: list[int]
) -> None:
    detector.freeze(range(prefix))
    features = detector.trunk(drawn_batch(1, SIZE)[0])
    assert [feature.shape[1] for feature in features] == channels
    assert not any(feature.requires_grad for feature in features)


def test_pictures_without_boxes_train(detector: TorchvisionDetector) -> None:
    images, truth = drawn_batch(2, SIZE)
    losses = detector.losses(detector.trunk(images), truth[:, :0])
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert torch.isfinite(total)
    losses = {name: value.detach() for name, value in losses.items()}
    assert float(losses["loss_box_reg"]) == float(losses["loss_rpn_box_reg"]) == 0
    assert float(losses["loss_objectness"]) > 0


def test_losses_can_be_had_in_eval_mode(detector: TorchvisionDetector) -> None:
    images, truth = drawn_batch(1, SIZE)
    assert len(detector.eval().losses((images,), truth)) == 4
    assert not any(module.training for module in detector.modules())


def test_predict_holds_every_detection_of_torchvision(detector: TorchvisionDetector) -> None:
    images, _ = drawn_batch(2, SIZE)
    boxes, scores = detector.predict(images)
    detector.eval()
    with torch.no_grad():
        expected = detector.network(list(images))
    assert boxes.shape == (*scores.shape[:2], 4)
    assert scores.shape[2] == 2
    assert boxes.shape[1] <= 1000
    assert bool(((boxes >= 0) & (boxes <= SIZE)).all())
    assert bool(((scores > 0).sum(2) <= 1).all())
    for image, found in enumerate(expected):
        assert len(found["boxes"]) > 10
        for box, label, score in zip(found["boxes"], found["labels"], found["scores"], strict=True):
            near = (boxes[image] - box).abs().amax(1) < 0.01
            assert float((scores[image, near, int(label) - 1] - score).abs().min()) < 1e-4


def test_decay_applies_to_kernels_only(detector: TorchvisionDetector) -> None:
    decayed = {id(parameter) for parameter in detector.decayed()}
    assert decayed == {id(parameter) for parameter in detector.parameters() if parameter.ndim > 1}


def test_saved_and_loaded_it_predicts_the_same(detector: TorchvisionDetector, tmp_path: Path) -> None:
    images, _ = drawn_batch(1, SIZE)
    expected = detector.predict(images)
    path = tmp_path / "one.safetensors"
    detector.save(path, seen=640)
    with torch.no_grad():
        for tensor in detector.state_dict().values():
            tensor.zero_()
    assert detector.load(path) == tuple(range(21))
    for _ in range(6):  # the library's order of metadata changes from one file to the next
        detector.save(tmp_path / "again.safetensors", seen=640)
        assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    for ours, theirs in zip(detector.predict(images), expected, strict=True):
        assert torch.equal(ours, theirs)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"name": "fasterrcnn_resnet50_fpn", "classes": "2", "seen": "640"}


def test_only_what_fits_is_loaded(detector: TorchvisionDetector, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    assert "no such file" in refusal(path, detector)
    path.write_bytes(b"nonsense")
    assert "a.safetensors" in refusal(path, detector)
    tensors = {key: value + 1 for key, value in detector.network.state_dict().items()}
    predictor = "roi_heads.box_predictor.cls_score.weight"
    save_file(tensors | {predictor: torch.zeros(6, 1024)}, path, {"classes": "5"})
    line = refusal(path, detector)
    assert "5 classes" in line
    assert "before 20" in line
    before = [tensors_of(detector, layer.index) for layer in detector.network_layers]
    assert detector.load(path, layers=BOX_PREDICTOR) == tuple(range(20))
    assert changed_layers(detector, before) == list(range(20))
    save_file({key: value for key, value in tensors.items() if key != "backbone.body.conv1.weight"}, path)
    assert "layer 0: holds no backbone.body.conv1.weight" in refusal(path, detector)
    save_file(tensors | {"roi_heads.box_head.fc7.bias": torch.full((1024,), torch.nan)}, path)
    assert f"layer {BOX_HEAD}" in refusal(path, detector)
    assert "22" in refusal(path, detector, layers=22)


def test_files_of_torchvision_fill_what_they_are_of(detector: TorchvisionDetector, tmp_path: Path) -> None:
    whole, body = tmp_path / "fasterrcnn_resnet50_fpn_coco.pth", tmp_path / "resnet50.pth"
    published = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()  # of 90 classes, as on COCO
    torch.save({key: tensor for key, tensor in published.items() if "num_batches" not in key}, whole)
    line = refusal(whole, detector)
    assert "90 classes" in line
    assert "before 20" in line
    assert detector.load(whole, layers=BOX_PREDICTOR) == tuple(range(20))
    assert torch.equal(detector.network.rpn.head.cls_logits.weight, published["rpn.head.cls_logits.weight"])
    classifier = resnet50(weights=None).state_dict()
    torch.save(classifier, body)
    assert "layer 17: holds no backbone.fpn" in refusal(body, detector)
    assert detector.load(body, layers=17) == tuple(range(17))
    assert torch.equal(detector.network.backbone.body.layer4[2].conv3.weight, classifier["layer4.2.conv3.weight"])
    body.write_bytes(b"nonsense")
    assert "resnet50.pth: not readable" in refusal(body, detector)
    torch.save([1], body)
    assert "no tensors by name" in refusal(body, detector)


def test_a_size_that_torchvision_would_pad_is_refused() -> None:
    with pytest.raises(UserError, match="100; give a multiple of 32"):
        faster_rcnn(1, 100)
