"""Darknet's `.weights` files, byte for byte; knows the order of the numbers and nothing about where they come from.

The file: int32 major, minor, revision; `seen` as uint64 if major * 10 + minor >= 2 (and both below 1000), else uint32;
then per layer bias, [scale, mean, variance], kernel as float32 (parser.c save_weights_upto). Connected layers put their
batch norm after the kernel; where major or minor is above 1000, that kernel is stored transposed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.darknet.layers import Convolutional
from pipeline.darknet.network import ConnectedLayer, ConvolutionalLayer, DarknetNetwork
from pipeline.errors import UserError
from pipeline.files import write_bytes

__all__ = ["Header", "load_weights", "save_weights", "weights_bytes"]


@dataclass(frozen=True)
class Header:
    """Version of the writer and the number of images it had seen; the default is AlexeyAB's current version."""

    major: int = 0
    minor: int = 2
    revision: int = 5
    seen: int = 0

    @property
    def is_wide(self) -> bool:
        """Whether `seen` takes eight bytes."""
        return self.major * 10 + self.minor >= 2 and self.major < 1000 and self.minor < 1000

    @property
    def is_transposed(self) -> bool:
        """Whether kernels of connected layers are stored (inputs, outputs)."""
        return self.major > 1000 or self.minor > 1000

    def __bytes__(self) -> bytes:
        version = np.array([self.major, self.minor, self.revision], "<i4").tobytes()
        return version + np.array([self.seen], "<u8" if self.is_wide else "<u4").tobytes()


@torch.no_grad()
def load_weights(network: DarknetNetwork, path: Path, up_to: int | None = None) -> tuple[Header, tuple[int, ...]]:
    """Load the layers before `up_to` (all by default) from `path`; what the file does not hold stays as it is.

    Returns:
        The header, and the indices of the layers that were loaded: a file saved `up_to` a layer holds fewer.

    Raises:
        UserError: unreadable, ends inside a layer, has bytes left over after the last layer, or holds numbers that
            are not finite. Nothing is loaded then.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; give the path of a Darknet .weights file") from None
    header, position = _read_header(path, content)
    loaded: list[int] = []
    new: list[tuple[Tensor, np.ndarray]] = []
    for index in network.spec.weighted_layers:
        if (up_to is not None and index >= up_to) or position == len(content):
            break
        for name, tensor in _tensors(network, index, header):
            end = position + 4 * tensor.numel()
            if end > len(content):
                raise UserError(
                    f"{path}: ends at byte {len(content)} inside layer {index} ({_kind(network, index)}), whose {name} "
                    f"takes bytes {position} to {end}; use the cfg that the file was made with, or fetch it again"
                )
            values = np.frombuffer(content, "<f4", tensor.numel(), position)
            if not np.isfinite(values).all():
                raise UserError(f"{path}: layer {index}: {name} holds NaN or infinity; use an undamaged file")
            new.append((tensor, values))
            position = end
        loaded.append(index)
    if not loaded:
        raise UserError(f"{path}: holds no layer after its {position}-byte header; use a complete file")
    if up_to is None and position != len(content):
        raise UserError(
            f"{path}: layer {loaded[-1]} ends at byte {position}, and {len(content) - position} bytes are left over; "
            f"use the cfg that the file was made with"
        )
    for tensor, values in new:
        tensor.copy_(torch.from_numpy(values.copy()).view_as(tensor))
    return header, tuple(loaded)


def save_weights(network: DarknetNetwork, path: Path, header: Header | None = None, up_to: int | None = None) -> None:
    """Write the layers before `up_to` (all by default), complete or not at all; Darknet's `partial`.

    >>> save_weights(network, Path("yolov3-tiny.conv.15"), up_to=15)  # doctest: +SKIP
    """
    write_bytes(path, weights_bytes(network, header, up_to))


def weights_bytes(network: DarknetNetwork, header: Header | None = None, up_to: int | None = None) -> bytes:
    """The content that `save_weights` writes."""
    header = header or Header()
    parts = [bytes(header)]
    for index in network.spec.weighted_layers:
        if up_to is None or index < up_to:
            tensors = [tensor.detach().cpu().numpy() for _, tensor in _tensors(network, index, header)]
            parts += [tensor.astype("<f4").tobytes() for tensor in tensors]
    return b"".join(parts)


def _read_header(path: Path, content: bytes) -> tuple[Header, int]:
    if len(content) >= 12:
        major, minor, revision = (int(value) for value in np.frombuffer(content, "<i4", 3))
        width = 8 if Header(major, minor).is_wide else 4
        if len(content) >= 12 + width:
            seen = int(np.frombuffer(content, "<u8" if width == 8 else "<u4", 1, 12)[0])
            return Header(major, minor, revision, seen), 12 + width
    raise UserError(f"{path}: {len(content)} bytes, shorter than the header; give a Darknet .weights file")


def _tensors(network: DarknetNetwork, index: int, header: Header) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one layer in the file's order."""
    layer = network.weighted(index)
    yield "bias", layer.bias
    if isinstance(layer, ConnectedLayer):
        yield "kernel", layer.weight.t() if header.is_transposed else layer.weight
    if layer.norm is not None:
        yield "scale", layer.norm.scale
        yield "rolling mean", layer.norm.rolling_mean
        yield "rolling variance", layer.norm.rolling_variance
    if isinstance(layer, ConvolutionalLayer):
        yield "kernel", layer.weight


def _kind(network: DarknetNetwork, index: int) -> str:
    spec = network.spec.layers[index]
    return f"convolutional, {spec.filters} filters" if isinstance(spec, Convolutional) else "connected"
