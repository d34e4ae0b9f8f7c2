"""Each kind of layer against scalar loops that follow Darknet's maxpool_layer.c, blas.c and batchnorm_layer.c.

The activations have a file of their own.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor

from pipeline.darknet import DarknetNetwork, network_cfg, read_cfg
from pipeline.darknet.batch_norm import BATCH_NORM_EPS, BatchNorm
from pipeline.darknet.layers import Convolutional
from pipeline.errors import UserError


def _network(folder: Path, body: str, width: int, height: int, channels: int = 3) -> DarknetNetwork:
    path = folder / "layers.cfg"
    path.write_text(f"[net]\nwidth={width}\nheight={height}\nchannels={channels}\n{body}")
    return DarknetNetwork(read_cfg(path)).eval()


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _outputs(network: DarknetNetwork, x: Tensor) -> list[np.ndarray]:
    with torch.no_grad():
        outputs = network.outputs(x, range(len(network.layers)))
    for index, output in outputs.items():
        shape = network.spec.shapes[index]
        assert output.shape[1:] == (shape.channels, shape.height, shape.width), index
    return [output.numpy() for output in outputs.values()]


def _maxpool_loop(x: np.ndarray, size: int, stride_y: int, stride_x: int, padding: int) -> np.ndarray:
    """Windows begin padding / 2 (rounded down) before the map; places outside count as minus infinity."""
    batch, channels, height, width = x.shape
    out_height, out_width = (height + padding - size) // stride_y + 1, (width + padding - size) // stride_x + 1
    result = np.full((batch, channels, out_height, out_width), -np.inf, np.float32)
    for b, c, i, j, n, m in itertools.product(*map(range, (batch, channels, out_height, out_width, size, size))):
        row, column = i * stride_y - padding // 2 + n, j * stride_x - padding // 2 + m
        if 0 <= row < height and 0 <= column < width:
            result[b, c, i, j] = max(result[b, c, i, j], x[b, c, row, column])
    return result


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({"size": 2, "stride": 1}, (2, 1, 1, 1)),  # layer 11 of Tiny-YOLOv3
        ({"size": 2, "stride": 2}, (2, 2, 2, 1)),
        ({"size": 3, "stride": 2}, (3, 2, 2, 2)),
        ({"size": 2, "stride": 2, "padding": 1}, (2, 2, 2, 1)),  # as in darknet.cfg
        ({"size": 2, "stride": 2, "padding": 0}, (2, 2, 2, 0)),
        ({"size": 3, "stride": 1, "padding": 3}, (3, 1, 1, 3)),
        ({"size": 4, "stride": 1}, (4, 1, 1, 3)),
        ({"size": 5, "stride": 1}, (5, 1, 1, 4)),  # spatial pyramid pooling
        ({"size": 9, "stride": 1}, (9, 1, 1, 8)),
        ({"size": 13, "stride": 1}, (13, 1, 1, 12)),
        ({"size": 3, "stride_x": 2, "stride_y": 1}, (3, 1, 2, 2)),
        ({"stride": 2}, (2, 2, 2, 1)),
    ],
    ids=str,
)
@pytest.mark.parametrize(("width", "height"), [(14, 14), (13, 13), (12, 7)])
def test_maxpool_takes_darknets_windows(
    tmp_path: Path, options: dict[str, int], arguments: tuple[int, int, int, int], width: int, height: int
) -> None:
    lines = "".join(f"{key}={value}\n" for key, value in options.items())
    x = _random(2, 2, height, width) - 3  # mostly below zero, so that padding with zero would show
    (found,) = _outputs(_network(tmp_path, f"[maxpool]\n{lines}", width, height, 2), x)
    np.testing.assert_array_equal(found, _maxpool_loop(x.numpy(), *arguments))


@pytest.mark.parametrize(
    "options", ["size=3\npad=1\nstride=2\ngroups=2\n", "size=3\npadding=2\n", "size=2\npad=1\nstride_x=2\nstride_y=1\n"]
)
def test_grouped_and_strided_convolutions_are_those_of_scalar_loops(tmp_path: Path, options: str) -> None:
    network = _network(tmp_path, f"[convolutional]\nfilters=4\nactivation=linear\n{options}", 7, 6, 2)
    layer = network.weighted(0)
    layer.bias.data.uniform_(-1, 1)
    x = _random(1, 2, 6, 7)
    (found,) = _outputs(network, x)
    spec = network.spec.layers[0]
    assert isinstance(spec, Convolutional)
    kernel, padded = layer.weight.detach().numpy(), np.pad(x.numpy(), [(0, 0), (0, 0)] + [(spec.padding,) * 2] * 2)
    inputs = 2 // spec.groups
    expected = np.empty_like(found)
    for f, i, j in np.ndindex(found.shape[1:]):
        first = f // (4 // spec.groups) * inputs
        row, column = i * spec.stride[0], j * spec.stride[1]
        window = padded[0, first : first + inputs, row : row + spec.size, column : column + spec.size]
        expected[0, f, i, j] = (window * kernel[f]).sum() + layer.bias[f].item()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_dilated_convolution_keeps_the_size(tmp_path: Path) -> None:
    body = "[convolutional]\nfilters=2\nsize=3\npad=1\ndilation=2\nactivation=linear\n"
    network = _network(tmp_path, body, 9, 9)
    x = _random(1, 3, 9, 9)
    expected = functional.conv2d(x, network.weighted(0).weight, padding=2, dilation=2)
    torch.testing.assert_close(torch.from_numpy(_outputs(network, x)[0]), expected.detach())


def test_route_joins_its_part_of_every_layer_in_the_order_given(tmp_path: Path) -> None:
    pools = "[maxpool]\nsize=1\nstride=1\n[maxpool]\nsize=3\nstride=1\n"
    body = f"{pools}[route]\nlayers=-1,0\n[route]\nlayers=1,0\ngroups=2\ngroup_id=1\n[route_lhalf]\nlayers=0\n"
    first, second, whole, part, half = _outputs(_network(tmp_path, body, 8, 8, 4), _random(1, 4, 8, 8))
    np.testing.assert_array_equal(whole, np.concatenate([second, first], axis=1))
    np.testing.assert_array_equal(part, np.concatenate([second[:, 2:], first[:, 2:]], axis=1))
    np.testing.assert_array_equal(half, first[:, :2])


def _shortcut_loop(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A larger map gives every `stride`-th value, a smaller one lands on every `sample`-th place; channels overlap."""
    stride, sample = max(1, other.shape[3] // x.shape[3]), max(1, x.shape[3] // other.shape[3])
    result = x.copy()
    for c, i, j in np.ndindex(*(min(a, b) for a, b in zip(x.shape[1:], other.shape[1:], strict=True))):
        result[0, c, i * sample, j * sample] += other[0, c, i * stride, j * stride]
    return result


@pytest.mark.parametrize("filters", [2, 4, 6])
@pytest.mark.parametrize("stride", [1, 2])
def test_shortcut_adds_where_the_maps_overlap(tmp_path: Path, filters: int, stride: int) -> None:
    change = f"[convolutional]\nfilters={filters}\nsize=1\nstride={stride}\nactivation=linear\n"
    grow = f"[upsample]\nstride={stride}\n[maxpool]\nsize=1\nstride=1\n"
    body = f"[maxpool]\nsize=1\nstride=1\n{change}[shortcut]\nfrom=0\n{grow}[shortcut]\nfrom=1\nactivation=leaky\n"
    x = _random(1, 4, 8, 8)
    source, changed, smaller, _, before, larger = _outputs(_network(tmp_path, body, 8, 8, 4), x)
    np.testing.assert_allclose(smaller, _shortcut_loop(changed, source), rtol=0, atol=1e-6)
    expected = _shortcut_loop(before, changed)
    np.testing.assert_allclose(larger, np.where(expected > 0, expected, 0.1 * expected), rtol=0, atol=1e-6)


def test_shortcut_adds_all_its_sources(tmp_path: Path) -> None:
    pools = "".join(f"[maxpool]\nsize={size}\nstride=1\n" for size in (1, 2, 3))
    first, second, third, total = _outputs(
        _network(tmp_path, f"{pools}[shortcut]\nfrom=-2,-3\n", 6, 6), _random(1, 3, 6, 6)
    )
    np.testing.assert_allclose(total, third + second + first, rtol=0, atol=1e-6)


def test_upsample_repeats_and_scales(tmp_path: Path) -> None:
    x = _random(1, 3, 3, 4)
    (found,) = _outputs(_network(tmp_path, "[upsample]\nstride=3\nscale=0.5\n", 4, 3), x)
    np.testing.assert_array_equal(found, 0.5 * x.numpy().repeat(3, axis=2).repeat(3, axis=3))


def test_average_pool_and_softmax_give_a_distribution_per_group(tmp_path: Path) -> None:
    x = _random(2, 4, 5, 5)
    mean, found = _outputs(_network(tmp_path, "[avgpool]\n[softmax]\ngroups=2\ntemperature=2\n", 5, 5, 4), x)
    np.testing.assert_allclose(mean[:, :, 0, 0], x.numpy().mean(axis=(2, 3)), rtol=0, atol=1e-6)
    parts = np.exp(mean.reshape(2, 2, 2) / 2)
    np.testing.assert_allclose(found.reshape(2, 2, 2), parts / parts.sum(axis=2, keepdims=True), rtol=0, atol=1e-6)


def test_connected_layer_reads_its_input_channel_after_channel(tmp_path: Path) -> None:
    network = _network(tmp_path, "[connected]\noutput=5\nbatch_normalize=1\n", 3, 2)
    x = _random(2, 3, 2, 3)
    layer = network.weighted(0)
    flat = x.flatten(1) @ layer.weight.t() / (1 + BATCH_NORM_EPS) ** 0.5
    np.testing.assert_allclose(_outputs(network, x)[0][:, :, 0, 0], flat.sigmoid().detach(), rtol=0, atol=1e-6)


def test_dropout_acts_only_in_training(tmp_path: Path) -> None:
    network = _network(tmp_path, "[dropout]\nprobability=.25\n", 32, 32)
    x = torch.ones(1, 3, 32, 32)
    assert torch.equal(network(x)[0], x)
    torch.manual_seed(0)
    (found,) = network.train()(x)
    assert found.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (found == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)


def _batch_norm_loop(
    x: np.ndarray, scale: np.ndarray, bias: np.ndarray, gradient: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Output and gradient of the input. The variance divides by n - 1, its term in normalize_delta_cpu by n."""
    count = x.size // x.shape[1]
    y, dx = np.empty_like(x), np.empty_like(x)
    for c in range(x.shape[1]):
        centred = x[:, c] - x[:, c].mean()
        variance = (centred**2).sum() / (count - 1) + 1e-5
        y[:, c] = scale[c] * centred / np.sqrt(variance) + bias[c]
        delta = gradient[:, c] * scale[c]
        mean_delta = -delta.sum() / np.sqrt(variance)
        variance_delta = -0.5 * (delta * centred).sum() * variance**-1.5
        dx[:, c] = delta / np.sqrt(variance) + variance_delta * 2 * centred / count + mean_delta / count
    return y, dx


def _small_batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Few and close values, so that n - 1 and eps count: input, scale, bias, gradient of the output."""
    x = (0.02 * _random(2, 3, 1, 2)).double()
    return x, _random(3, seed=1).double(), _random(3, seed=2).double(), _random(2, 3, 1, 2, seed=3).double()


def test_batch_norm_in_training_is_darknets_and_not_pytorchs() -> None:
    x, scale, bias, gradient = _small_batch()
    expected, expected_dx = _batch_norm_loop(*(values.numpy() for values in (x, scale, bias, gradient)))
    layer = BatchNorm(3).double()
    layer.scale.data.copy_(scale)
    layer.bias.data.copy_(bias)
    x.requires_grad_()
    y = layer(x)
    y.backward(gradient)
    assert x.grad is not None
    np.testing.assert_allclose(y.detach(), expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(x.grad, expected_dx, rtol=1e-8, atol=1e-8 * np.abs(expected_dx).max())
    plain = functional.batch_norm(x, None, None, scale, bias, True, 0.1, 1e-5).detach().numpy()
    assert np.abs(plain - expected).max() > 0.05


def test_batch_norm_learns_scale_and_bias_from_the_normalised_values() -> None:
    x, scale, _, gradient = _small_batch()
    layer = BatchNorm(3).double()
    layer.scale.data.copy_(scale)
    layer(x).backward(gradient)
    normalised = _batch_norm_loop(x.numpy(), np.ones(3), np.zeros(3), gradient.numpy())[0]
    assert layer.bias.grad is not None
    assert layer.scale.grad is not None
    np.testing.assert_allclose(layer.bias.grad, gradient.sum(dim=(0, 2, 3)), rtol=1e-10)
    np.testing.assert_allclose(layer.scale.grad, (gradient.numpy() * normalised).sum(axis=(0, 2, 3)), rtol=1e-8)


@pytest.mark.parametrize("momentum", [0.1, 0.01])
def test_rolling_statistics_move_by_the_momentum(momentum: float) -> None:
    x = _random(4, 2, 3, 3)
    layer = BatchNorm(2, momentum)
    layer(x)
    torch.testing.assert_close(layer.rolling_mean, momentum * x.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(layer.rolling_variance, 1 - momentum + momentum * x.var(dim=(0, 2, 3)))


def test_batch_norm_in_use_divides_by_the_root_of_variance_plus_eps() -> None:
    layer = BatchNorm(1).eval()
    layer.rolling_mean.fill_(2)
    layer.rolling_variance.fill_(3e-5)
    found = layer(torch.full((1, 1, 1, 1), 2.5)).item()
    assert found == pytest.approx(0.5 / 4e-5**0.5, rel=1e-6)


def test_batch_norm_refuses_to_train_on_one_value() -> None:
    with pytest.raises(UserError, match="one value per channel"):
        BatchNorm(2)(torch.ones(1, 2, 1, 1))


@pytest.mark.parametrize("name", ["yolov3-tiny", "yolov4-tiny"])
def test_only_the_outputs_asked_for_come_back(name: str) -> None:
    network = DarknetNetwork(network_cfg(name)).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        raw = network(x)
        outputs = network.outputs(x, [3, *network.spec.yolo_layers])
    assert sorted(outputs) == [3, *network.spec.yolo_layers]
    for values, index in zip(raw, network.spec.yolo_layers, strict=True):
        assert torch.equal(values, outputs[index])
