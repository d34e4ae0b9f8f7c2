"""Darknet's weights files: byte for byte, partial, truncated, damaged."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.darknet import (
    DarknetNetwork,
    Header,
    adapted,
    load_weights,
    network_cfg,
    read_cfg,
    save_weights,
)
from pipeline.darknet.weights import weights_bytes
from pipeline.errors import UserError

SMALL = """[net]
width=8
height=8
[convolutional]
filters=4
size=3
pad=1
batch_normalize=1
[maxpool]
size=2
stride=2
[convolutional]
filters=2
groups=2
[connected]
output=3
batch_normalize=1
"""
# Layer 0 has 4 filters of 3 x 3 x 3 and batch norm, layer 2 has 2 of 1 x 1 x 2, layer 3 is 32 to 3 with batch norm.
LAYER_ENDS = tuple(20 + 4 * count for count in (0, 16 + 108, 124 + 2 + 4, 130 + 3 + 96 + 9))
HEADERS = [
    Header(),
    Header(0, 1, 0, seen=2**32 - 1),
    Header(0, 2, 0, seen=2**40),
    Header(1, 0, 0, seen=7),
    Header(1000, 0, 0, seen=7),
    Header(0, 1001, 0, seen=7),
]


@pytest.fixture(scope="module")
def small_cfg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.cfg"
    path.write_text(SMALL)
    return path


@pytest.fixture
def small(small_cfg: Path) -> DarknetNetwork:
    return DarknetNetwork(read_cfg(small_cfg))


def _values(network: DarknetNetwork) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "file.weights"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("yolov3", 248_007_048),
        ("yolov3-tiny", 35_434_956),
        ("yolov4-tiny", 24_251_276),
    ],
)
def test_shipped_network_takes_as_many_bytes_as_its_published_weights(name: str, size: int) -> None:
    """All three were written with a header of 20 bytes."""
    assert len(weights_bytes(DarknetNetwork(network_cfg(name)))) == size


def test_first_74_layers_of_darknet53_take_as_many_bytes_as_the_published_file() -> None:
    published = 162_482_580
    assert len(weights_bytes(DarknetNetwork(network_cfg("darknet53")), up_to=74)) == published
    assert len(weights_bytes(DarknetNetwork(network_cfg("yolov3")), up_to=74)) == published


def test_real_file_is_written_again_byte_for_byte(darknet_data: Path, tmp_path: Path) -> None:
    source = darknet_data / "yolo-fastest-1.1.weights"
    network = DarknetNetwork(read_cfg(darknet_data / "yolo-fastest-1.1.cfg"))
    header, loaded = load_weights(network, source)
    assert loaded == network.spec.weighted_layers
    save_weights(network, tmp_path / "again.weights", header)
    assert (tmp_path / "again.weights").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("header", HEADERS, ids=str)
def test_every_header_is_read_and_written_byte_for_byte(
    small: DarknetNetwork, small_cfg: Path, tmp_path: Path, header: Header
) -> None:
    body = np.random.default_rng(0).random((LAYER_ENDS[-1] - 20) // 4, np.float32).tobytes()
    content = bytes(header) + body
    found, _ = load_weights(small, _file(tmp_path, content))
    assert found == header
    assert weights_bytes(small, found) == content


def test_seen_takes_eight_bytes_from_version_0_2_and_four_before() -> None:
    assert [len(bytes(Header(0, minor))) for minor in (1, 2, 5)] == [16, 20, 20]
    assert [len(bytes(Header(major))) for major in (1, 999, 1000)] == [20, 20, 16]


def test_order_in_the_file_is_darknets(small: DarknetNetwork, tmp_path: Path) -> None:
    count = (LAYER_ENDS[-1] - 20) // 4
    load_weights(small, _file(tmp_path, bytes(Header()) + np.arange(count, dtype="<f4").tobytes()))
    first, last = small.weighted(0), small.weighted(3)
    assert first.norm is not None
    assert last.norm is not None
    names = ("bias", "scale", "rolling_mean", "rolling_variance")
    assert [getattr(first.norm, name)[0].item() for name in names] == [0, 4, 8, 12]
    assert first.weight.flatten().tolist() == list(range(16, 124))
    assert small.weighted(2).bias.tolist() == [124, 125]
    # A connected layer has its batch norm after the kernel, which is (outputs, inputs).
    assert last.norm.bias.tolist() == [130, 131, 132]
    assert last.weight[:, 0].tolist() == [133, 165, 197]
    assert [getattr(last.norm, name)[0].item() for name in names[1:]] == [229, 232, 235]


def test_kernels_of_connected_layers_are_turned_in_files_of_versions_above_1000(
    small: DarknetNetwork, tmp_path: Path
) -> None:
    body = weights_bytes(small)[20:]
    straight = small.weighted(3).weight.detach().clone()
    load_weights(small, _file(tmp_path, bytes(Header(1001)) + body))
    torch.testing.assert_close(small.weighted(3).weight.detach(), straight.reshape(32, 3).t(), rtol=0, atol=0)


def test_partial_file_fills_its_layers_and_leaves_the_rest(tmp_path: Path) -> None:
    cfg = adapted(network_cfg("yolov3-tiny"), 64, 64, 1)
    source, target = DarknetNetwork(cfg), DarknetNetwork(cfg)
    before = _values(target)
    save_weights(source, tmp_path / "tiny.conv.15", up_to=15)
    _, loaded = load_weights(target, tmp_path / "tiny.conv.15")
    assert loaded == (0, 2, 4, 6, 8, 10, 12, 13, 14)
    expected = _values(source)
    for name, values in _values(target).items():
        layer = int(name.split(".")[1])
        assert torch.equal(values, (expected if layer < 15 else before)[name]), name


def test_loading_up_to_a_layer_leaves_the_layers_from_there(small_cfg: Path, tmp_path: Path) -> None:
    source, target = DarknetNetwork(read_cfg(small_cfg)), DarknetNetwork(read_cfg(small_cfg))
    before = _values(target)
    save_weights(source, tmp_path / "whole.weights")
    _, loaded = load_weights(target, tmp_path / "whole.weights", up_to=2)
    assert loaded == (0,)
    assert torch.equal(target.weighted(0).weight, source.weighted(0).weight)
    assert torch.equal(target.weighted(2).weight, before["layers.2.weight"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(0, LAYER_ENDS[-1] - 1))
def test_file_cut_anywhere_loads_whole_layers_or_is_refused(small_cfg: Path, tmp_path: Path, length: int) -> None:
    network = DarknetNetwork(read_cfg(small_cfg))
    path = _file(tmp_path, weights_bytes(DarknetNetwork(read_cfg(small_cfg)))[:length])
    before = _values(network)
    if length in LAYER_ENDS[1:]:
        _, loaded = load_weights(network, path)
        assert loaded == (0, 2, 3)[: LAYER_ENDS.index(length)]
        return
    with pytest.raises(UserError) as caught:
        load_weights(network, path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    if length > LAYER_ENDS[0]:
        layer = (0, 2, 3)[sum(length > end for end in LAYER_ENDS) - 1]
        assert f"ends at byte {length} inside layer {layer} " in message
    assert all(torch.equal(values, before[name]) for name, values in _values(network).items())


def test_message_names_the_numbers_that_are_missing(small: DarknetNetwork, tmp_path: Path) -> None:
    path = _file(tmp_path, weights_bytes(small)[:100])
    with pytest.raises(
        UserError, match=r"inside layer 0 \(convolutional, 4 filters\), whose kernel takes bytes 84 to 516"
    ):
        load_weights(small, path)


def test_bytes_after_the_last_layer_are_refused(small: DarknetNetwork, tmp_path: Path) -> None:
    path = _file(tmp_path, weights_bytes(small) + b"\0" * 12)
    with pytest.raises(UserError, match=rf"layer 3 ends at byte {LAYER_ENDS[-1]}, and 12 bytes are left over"):
        load_weights(small, path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(small: DarknetNetwork, tmp_path: Path, value: float) -> None:
    content = bytearray(weights_bytes(small))
    content[LAYER_ENDS[1] : LAYER_ENDS[1] + 4] = np.float32(value).tobytes()
    before = _values(small)
    with pytest.raises(UserError, match=r"layer 2: bias holds NaN or infinity"):
        load_weights(small, _file(tmp_path, bytes(content)))
    assert all(torch.equal(values, before[name]) for name, values in _values(small).items())


def test_missing_file_and_folder_are_refused(small: DarknetNetwork, tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "absent.weights", "No such file"), (tmp_path, "directory")):
        with pytest.raises(UserError, match=reason):
            load_weights(small, path)


def test_failed_write_leaves_the_old_file(
    small: DarknetNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _file(tmp_path, b"old")
    monkeypatch.setattr(Path, "replace", _fail)
    with pytest.raises(OSError, match="disk full"):
        save_weights(small, path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.weights"]


def _fail(*_: object) -> None:
    raise OSError("disk full")
