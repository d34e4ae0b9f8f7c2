"""What the adapters of other people's networks share: checkpoints by layer, weight decay, modes.

A checkpoint is a .safetensors file with the tensors under the names that the family itself gives them and three
strings: `name` of the network, number of `classes`, number of images `seen`. Knows nothing about what a layer computes.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import UserError, refuse
from pipeline.files import write_bytes
from pipeline.networks.detector import Detector

__all__ = ["ForeignCheckpoint", "ForeignDetector", "as_training", "read_safetensors", "read_safetensors_about"]

_COUNTER = "num_batches_tracked"  # of batch norm; read by nothing as long as momentum is a number


@dataclass(frozen=True)
class ForeignCheckpoint:
    """Tensors by the name the network gives them, and the number of classes of its head where that is known."""

    tensors: dict[str, Tensor]
    classes: int | None


class ForeignDetector(Detector):
    """A detector around a network of somebody else's making, whose last layer depends on the number of classes.

    Attributes:
        name: of the architecture, written into checkpoints.
        network: the family's own module, the only child, so that `state_dict` names every tensor once.
    """

    suffix = ".safetensors"
    network: Any

    def __init__(self, name: str, network: nn.Module, classes: int, size: int) -> None:
        super().__init__()
        self.name = name
        self.network = network
        self.classes = classes
        self.width = self.height = size

    @property
    def first_learned(self) -> int:
        """Number of the first layer with weights that is not frozen."""
        return next(index for index in self.weighted_layers if index not in self.frozen)

    def decayed(self) -> list[nn.Parameter]:
        """Kernels of convolutions and linear layers; neither biases nor batch norm."""
        kernels = (module.weight for module in self.network.modules() if isinstance(module, _Kernels))
        return [kernel for kernel in kernels if isinstance(kernel, nn.Parameter)]

    def synchronise(self) -> None:
        """Batch norm over all processes on GPUs, as PyTorch has it; on a CPU each keeps to its own part of a batch."""
        if next(self.parameters()).device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(self.network)

    def describe(self, folder: Path) -> None:
        """Nothing: a checkpoint says itself what it is of."""

    def save(self, path: Path, seen: int) -> None:
        """Write every tensor of the network and what it was made for, complete or not at all."""
        from safetensors.torch import save

        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in self.network.state_dict().items()}
        metadata = {"name": self.name, "classes": str(self.classes), "seen": str(seen)}
        write_bytes(path, _with_sorted_notes(save(tensors, metadata)))

    def classes_in(self, path: Path) -> int | None:
        """Number of classes of the head in a checkpoint; None where the file does not say."""
        return self.read(path).classes

    def load(self, path: Path, layers: int | None = None) -> tuple[int, ...]:
        """Load the layers before `layers`, all by default; see `Detector.load`."""
        count = len(self.network_layers)
        if layers is not None and not 1 <= layers <= count:
            raise refuse("layers to load", layers, f"give a number from 1 to {count}")
        checkpoint = self.read(path)
        wanted = tuple(index for index in self.weighted_layers if layers is None or index < layers)
        if count - 1 in wanted and checkpoint.classes not in (None, self.classes):
            found = f"its head is for {checkpoint.classes} classes, this network's for {self.classes}"
            raise refuse(path, found, f"load the layers before {count - 1} only")
        names = {id(tensor): key for key, tensor in self.network.state_dict(keep_vars=True).items()}
        pairs: list[tuple[Tensor, Tensor]] = []
        for index in wanted:
            for own in self.network_layers[index].module.state_dict(keep_vars=True).values():
                key = names[id(own)]
                if key in checkpoint.tensors or not key.endswith(_COUNTER):
                    pairs.append((own, self._fitting(path, checkpoint, index, key, own)))
        foreign = sorted(checkpoint.tensors.keys() - set(names.values()))
        if layers is None and foreign:
            raise refuse(path, f"{foreign[0]} is in no layer of {self.name}", "give a checkpoint of that network")
        with torch.no_grad():
            for own, found_tensor in pairs:
                own.copy_(found_tensor)
        return wanted

    def read(self, path: Path) -> ForeignCheckpoint:
        """Read a checkpoint of any format that the family has.

        Raises:
            UserError: no such file, or none of a format of the family.
        """
        if not path.is_file():
            raise refuse(path, "no such file", f"give a {self.suffix} checkpoint of {self.name}")
        return read_safetensors(path)

    def _fitting(self, path: Path, checkpoint: ForeignCheckpoint, index: int, key: str, own: Tensor) -> Tensor:
        """The tensor of that name, which must be whole and of the network's shape."""
        remedy = f"give a checkpoint of {self.name}" + (f", or load fewer than {index + 1} layers" if index else "")
        tensor = checkpoint.tensors.get(key)
        if tensor is None:
            raise refuse(path, f"layer {index}: holds no {key}", remedy)
        if tensor.shape != own.shape:
            raise refuse(path, f"layer {index}: {key} is {_shape(tensor)}, the network's is {_shape(own)}", remedy)
        if not torch.isfinite(tensor).all():
            raise refuse(path, f"layer {index}: {key} holds NaN or infinity", "use an undamaged file")
        return tensor

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Eval mode for a while."""
        was_training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(was_training)


_Kernels = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


@contextlib.contextmanager
def as_training(*modules: nn.Module) -> Iterator[None]:
    """Let these modules, but not what is inside them, give what they give in training: frozen batch norm stays so."""
    before = [module.training for module in modules]
    for module in modules:
        module.training = True
    try:
        yield
    finally:
        for module, mode in zip(modules, before, strict=True):
            module.training = mode


def read_safetensors(path: Path) -> ForeignCheckpoint:
    """Read a .safetensors file.

    Raises:
        UserError: a damaged file.
    """
    with _opened(path) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        classes = (file.metadata() or {}).get("classes", "")
    return ForeignCheckpoint(tensors, int(classes) if classes.isdecimal() else None)


def read_safetensors_about(path: Path) -> dict[str, str]:
    """The strings that a .safetensors file says about itself: of ours `name`, `classes` and `seen`."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def _with_sorted_notes(content: bytes) -> bytes:
    """A .safetensors file whose metadata are in order, which the library writes in any: equal weights, equal bytes."""
    end = 8 + int.from_bytes(content[:8], "little")  # of the header, JSON padded with spaces
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return content[:8] + text.ljust(end - 8) + content[end:]


def _unreadable(path: Path, error: Exception) -> UserError:
    return refuse(path, f"no readable .safetensors file ({' '.join(str(error).split())})", "use an undamaged file")


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"
