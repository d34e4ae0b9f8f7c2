"""Of every network whose weights can be compared: the right convolutions, in order, each with its own batch norm."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.darknet import DarknetNetwork, load_weights, network_cfg, save_weights
from pipeline.errors import UserError
from pipeline.networks.families import architecture
from pipeline.score.difference import differences
from pipeline.score.networks import CLASSIFIERS, comparable
from pipeline.score.outline import Outline

FASTER_RCNN = "fasterrcnn_resnet50_fpn"
# Convolutions in all, those that have a batch norm, and where some are, with the batch norm that belongs to each.
EXPECTED: dict[str, tuple[int, int, dict[int, tuple[str, str | None]]]] = {
    "yolov3-tiny": (13, 11, {0: ("conv 0", "layers.0.norm"), 9: ("conv 15", None), 10: ("conv 18", "layers.18.norm")}),
    "yolov3": (75, 72, {1: ("conv 1", "layers.1.norm"), 58: ("conv 81", None)}),
    "yolo11n": (87, 81, {0: ("model.0.conv", "model.0.bn"), 2: ("model.2.cv1.conv", "model.2.cv1.bn")}),
    FASTER_RCNN: (
        64,
        53,
        {
            0: ("backbone.body.conv1", "backbone.body.bn1"),
            3: ("backbone.body.layer1.0.conv3", "backbone.body.layer1.0.bn3"),
            4: ("backbone.body.layer1.0.downsample.0", "backbone.body.layer1.0.downsample.1"),
            61: ("rpn.head.conv.0.0", None),
        },
    ),
    "lenet5": (3, 0, {2: ("features.c5", None)}),
    "alexnet": (5, 0, {1: ("features.3", None)}),
    "vgg16": (13, 0, {12: ("features.28", None)}),
    "vgg19": (16, 0, {15: ("features.34", None)}),
    "googlenet": (59, 59, {3: ("inception3a.branch1.conv", "inception3a.branch1.bn"), 57: ("aux1.conv.conv",) * 2}),
    "inception_v3": (96, 96, {0: ("Conv2d_1a_3x3.conv", "Conv2d_1a_3x3.bn"), 94: ("AuxLogits.conv0.conv",) * 2}),
    "resnet18": (
        20,
        20,
        {6: ("layer2.0.conv2", "layer2.0.bn2"), 7: ("layer2.0.downsample.0", "layer2.0.downsample.1")},
    ),
    "resnet50": (53, 53, {4: ("layer1.0.downsample.0", "layer1.0.downsample.1")}),
    "mobilenet_v2": (52, 52, {2: ("features.1.conv.1", "features.1.conv.2")}),
    "unet-resnet18": (31, 30, {0: ("encoder.conv1", "encoder.bn1"), 30: ("segmentation_head.0", None)}),
}
NETWORKS = [*EXPECTED]


def _outline(name: str) -> Outline:
    if name.startswith("unet"):
        pytest.importorskip("segmentation_models_pytorch")
    return comparable(name).outline


def _random_weights(name: str, outline: Outline) -> dict[str, Tensor]:
    """Random tensors under the names of the outline, as many filters as the network has, of a few inputs each."""
    shapes = {key: tensor.shape for key, tensor in _module(name).state_dict().items()}
    weights = {}
    for convolution in outline.convolutions:
        filters, inputs, *size = shapes[convolution.kernel]
        weights[convolution.kernel] = torch.randn(filters, min(inputs, 4), *size)
        if convolution.norm is not None:
            for key in (convolution.norm.scale, convolution.norm.mean, convolution.norm.variance):
                weights[key] = torch.rand(shapes[key]) + 0.5
    return weights


def _module(name: str) -> nn.Module:
    if name in CLASSIFIERS:
        with torch.device("meta"):
            return CLASSIFIERS[name].make()
    if name.startswith("unet"):
        import segmentation_models_pytorch as smp

        network: nn.Module = smp.Unet(name.removeprefix("unet-"), encoder_weights=None)
        return network
    if name.startswith("yolov3"):
        with torch.device("meta"):
            return DarknetNetwork(network_cfg(name))
    with torch.device("meta" if name == FASTER_RCNN else "cpu"):
        inside = architecture(name, 64, 1).build().network
    assert isinstance(inside, nn.Module)
    return inside


@pytest.mark.parametrize("name", NETWORKS)
def test_one_moved_layer_is_the_only_one_that_scores(name: str) -> None:
    outline = _outline(name)
    before = _random_weights(name, outline)
    for place in (0, len(outline.convolutions) // 2, len(outline.convolutions) - 1):
        convolution = outline.convolutions[place]
        after = {**before, convolution.kernel: before[convolution.kernel] + 0.1}
        found = differences(outline, before, after)
        assert [row.convolution.index for row in found if row.raw != 0] == [place]
        assert [row.convolution.index for row in found if row.folded != 0] == [place]
        if convolution.norm is not None:
            after = {**before, convolution.norm.variance: before[convolution.norm.variance] * torch.rand(1)}
            after[convolution.norm.variance][0] *= 4
            found = differences(outline, before, after)
            assert all(row.raw == 0 for row in found)
            assert [row.convolution.index for row in found if row.folded != 0] == [place]
            assert [row.convolution.index for row in found if row.drift and row.drift.variance] == [place]


@pytest.mark.parametrize("name", NETWORKS)
def test_convolutions_come_in_the_order_of_the_data_with_their_own_batch_norm(name: str) -> None:
    outline = _outline(name)
    count, with_norm, places = EXPECTED[name]
    assert len(outline.convolutions) == count
    assert sum(convolution.norm is not None for convolution in outline.convolutions) == with_norm
    assert [convolution.index for convolution in outline.convolutions] == list(range(count))
    norms = [convolution.norm.scale for convolution in outline.convolutions if convolution.norm]
    assert len(set(norms)) == with_norm
    for place, (convolution_name, norm) in places.items():
        convolution = outline.convolutions[place]
        assert convolution.name == convolution_name
        if norm == convolution_name:  # of auxiliary heads: the sibling
            norm = norm.rpartition(".")[0] + ".bn"
        assert (convolution.norm and convolution.norm.scale.rpartition(".")[0]) == norm


def test_eps_is_the_networks_own() -> None:
    expected = {"yolov3-tiny": 1e-5, "resnet18": 1e-5, "inception_v3": 1e-3, "yolo11n": 1e-3}
    for name, eps in expected.items():
        norm = comparable(name).outline.convolutions[0].norm
        assert norm is not None
        assert norm.eps == eps


def test_the_48_of_a_resnet_50_are_its_bottlenecks_and_53_its_trunk() -> None:
    outline = comparable(FASTER_RCNN).outline
    bottlenecks = outline.only("bottlenecks")
    names = [convolution.name for convolution in bottlenecks.convolutions]
    assert names[:4] == [f"backbone.body.layer1.{key}" for key in ("0.conv1", "0.conv2", "0.conv3", "1.conv1")]
    assert [c.index for c in bottlenecks.convolutions] == list(range(48))
    assert [c.layer for c in bottlenecks.convolutions] == [block for block in range(1, 17) for _ in range(3)]
    assert len(outline.only("trunk").convolutions) == 53
    with pytest.raises(UserError, match="has none"):
        comparable("vgg16").outline.only("bottlenecks")


def test_darknet_heads_of_another_number_of_classes_are_read(tmp_path: Path) -> None:
    few = architecture("yolov3-tiny", 96, 2).build()
    few.save(tmp_path / "few.weights", 0)
    weights = comparable("yolov3-tiny").read(tmp_path / "few.weights")
    assert weights["layers.15.weight"].shape[0] == 3 * (5 + 2)
    network = DarknetNetwork(network_cfg("yolov3-tiny"))
    save_weights(network, tmp_path / "part.weights", up_to=15)
    assert "layers.15.weight" not in comparable("yolov3-tiny").read(tmp_path / "part.weights")
    assert load_weights(network, tmp_path / "part.weights")[1][-1] == 14
    (tmp_path / "cut.weights").write_bytes((tmp_path / "few.weights").read_bytes()[:-6])
    with pytest.raises(UserError, match="ends at byte"):
        comparable("yolov3-tiny").read(tmp_path / "cut.weights")


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    torch.save(CLASSIFIERS["resnet18"].make().state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(UserError, match=r"conv1\.weight is no convolution of mobilenet_v2"):
        comparable("mobilenet_v2").read(tmp_path / "resnet.pth")
    with pytest.raises(UserError, match="no such network"):
        comparable("resnet17")
