"""The networks whose weights can be compared: what their convolutions are, and how their files are read.

Detectors come through the door that training uses; classifiers of torchvision, LeNet-5 and U-Net are known here by
name. Knows nothing about trials.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.darknet import Cfg, DarknetNetwork, adapted, load_weights, network_cfg, shipped_networks
from pipeline.errors import UserError, refuse
from pipeline.networks.families import architecture
from pipeline.networks.foreign import ForeignDetector
from pipeline.score.outline import Outline, darknet_outline, in_part, traced_outline

__all__ = ["CLASSIFIERS", "Comparable", "Weights", "comparable", "comparable_cfg"]

Weights = Mapping[str, Tensor]

_SIZE = 128  # of the picture that a detector is traced with; a multiple of every stride
_FASTER_RCNN = "fasterrcnn_resnet50_fpn"


@dataclass(frozen=True)
class _Classifier:
    """A network that PyTorch code makes, and the picture, (channels, height, width), that it is traced with."""

    make: Callable[[], nn.Module]
    picture: tuple[int, int, int] = (3, 224, 224)
    trunk: str = ""  # regular expression that the names of its modules begin with


def _torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from torchvision.models import get_model

        network: nn.Module = get_model(name, weights=None, **options)
        return network

    return make


def _lenet5() -> nn.Module:
    from pipeline.networks.lenet import LeNet5

    return LeNet5()


CLASSIFIERS: Mapping[str, _Classifier] = {
    "lenet5": _Classifier(_lenet5, (1, 32, 32)),
    "alexnet": _Classifier(_torchvision("alexnet")),
    "vgg16": _Classifier(_torchvision("vgg16")),
    "vgg19": _Classifier(_torchvision("vgg19")),
    "googlenet": _Classifier(_torchvision("googlenet", init_weights=False), trunk="(?!aux)"),
    "inception_v3": _Classifier(_torchvision("inception_v3", init_weights=False), (3, 299, 299), "(?!AuxLogits)"),
    "resnet18": _Classifier(_torchvision("resnet18")),
    "resnet50": _Classifier(_torchvision("resnet50")),
    "mobilenet_v2": _Classifier(_torchvision("mobilenet_v2")),
}


class Comparable:
    """A network of which two checkpoints can be compared.

    Attributes:
        name: shown, and compared with the other's.
    """

    name: str

    @property
    @abstractmethod
    def outline(self) -> Outline:
        """Its convolutions."""

    @abstractmethod
    def read(self, path: Path) -> Weights:
        """The tensors of a file by the names that `outline` uses; what the file does not hold is not there.

        Raises:
            UserError: no such file, a damaged one, or one of another network.
        """


def comparable(name: str) -> Comparable:
    """The network of that name: a cfg's name or file, a detector's name or .pt, a classifier's, or unet[-ENCODER].

    Raises:
        UserError: no network has that name.
    """
    if name.endswith(".cfg") or name in shipped_networks():
        return comparable_cfg(name, network_cfg(name))
    if name in CLASSIFIERS:
        return _PlainNetwork(name, CLASSIFIERS[name])
    if name == "unet" or name.startswith("unet-"):
        return _PlainNetwork(name, _unet(name.removeprefix("unet").removeprefix("-") or "resnet34"))
    try:
        architecture(name, _SIZE, 1)
    except UserError:
        allowed = [*shipped_networks(), "a .cfg file", "a model of Ultralytics as in yolo11n or its .pt", _FASTER_RCNN]
        remedy = f"allowed: {', '.join([*allowed, *CLASSIFIERS, 'unet', 'unet-ENCODER'])}"
        raise refuse(f"network {name}", "no such network", remedy) from None
    return _DetectorNetwork(name)


def comparable_cfg(name: str, cfg: Cfg) -> Comparable:
    """The network of a cfg that was read already."""
    return _CfgNetwork(name, cfg)


class _CfgNetwork(Comparable):
    def __init__(self, name: str, cfg: Cfg) -> None:
        self.name, self._cfg = name, cfg

    @cached_property
    def outline(self) -> Outline:
        return darknet_outline(self.name, self._cfg)

    def read(self, path: Path) -> Weights:
        """What a .weights file holds; its heads may be of another number of classes than the cfg's."""
        try:
            return _read_weights(self._cfg, path)
        except UserError:
            cfg = _with_classes_of(path, self._cfg)
            if cfg is None:
                raise
            return _read_weights(cfg, path)


def _read_weights(cfg: Cfg, path: Path) -> Weights:
    network = DarknetNetwork(cfg)
    _, loaded = load_weights(network, path)
    return {key: value for key, value in network.state_dict().items() if int(key.split(".")[1]) in loaded}


def _with_classes_of(path: Path, cfg: Cfg) -> Cfg | None:
    """The cfg with as many classes as the file's length says, which grows by as much with each; None if none fits."""
    if not path.is_file() or not any(section.kind == "yolo" for section in cfg.layers):
        return None

    def numbers(classes: int) -> int:
        with torch.device("meta"):
            network = DarknetNetwork(adapted(cfg, width, height, classes))
        return sum(tensor.numel() for tensor in network.state_dict().values())

    width, height = cfg.net.integer("width", 416), cfg.net.integer("height", 416)
    base, step = numbers(1), numbers(2) - numbers(1)
    for header in (20, 16):
        rest = path.stat().st_size - header - 4 * base
        if rest >= 0 and rest % (4 * step) == 0:
            return adapted(cfg, width, height, 1 + rest // (4 * step))
    return None


class _DetectorNetwork(Comparable):
    """A detector of Ultralytics' or torchvision's."""

    def __init__(self, name: str) -> None:
        self.name = name
        # Ultralytics computes strides with numbers while it builds.
        self._device = torch.device("meta" if name == _FASTER_RCNN else "cpu")

    @cached_property
    def _detector(self) -> ForeignDetector:
        with self._device, torch.random.fork_rng(devices=[]):
            detector = architecture(self.name, _SIZE, 1).build()
        assert isinstance(detector, ForeignDetector)
        return detector

    @cached_property
    def outline(self) -> Outline:
        """Traced. Faster R-CNN's is run up to its proposals: what follows has no convolution."""
        detector = self._detector
        network, batch = detector.network, torch.zeros(2, 3, _SIZE, _SIZE, device=self._device)
        numbered = [(layer.index, layer.module) for layer in detector.network_layers]
        if self.name == _FASTER_RCNN:

            def run() -> None:
                network.rpn.head(list(network.backbone(batch).values()))

            return traced_outline(self.name, network, run, in_part(r"backbone\.body\."), numbered)
        blocks = len(network.yaml["backbone"])
        trunk = "|".join(rf"model\.{index}\." for index in range(blocks))
        return traced_outline(self.name, network, lambda: network(batch), in_part(trunk), numbered)

    def read(self, path: Path) -> Weights:
        tensors = self._detector.read(path).tensors
        foreign = sorted(tensors.keys() - self._detector.network.state_dict().keys())
        if foreign:
            raise refuse(path, f"{foreign[0]} is in no layer of {self.name}", "name its network by --network")
        return tensors


class _PlainNetwork(Comparable):
    """A network by its state dict alone."""

    def __init__(self, name: str, made_of: _Classifier) -> None:
        self.name, self._made_of = name, made_of

    @cached_property
    def outline(self) -> Outline:
        with torch.device("meta"):
            network = self._made_of.make()
            batch = torch.zeros(2, *self._made_of.picture)
        return traced_outline(self.name, network, lambda: network(batch), in_part(self._made_of.trunk))

    def read(self, path: Path) -> Weights:
        """A state dict as .pth, .pt or .safetensors; its kernels must be those of the network."""
        from pipeline.networks.foreign import read_safetensors
        from pipeline.networks.torchvision import read_pth

        if not path.is_file():
            raise refuse(path, "no such file", f"give a state dict of {self.name} (.pth or .safetensors)")
        tensors = read_safetensors(path).tensors if path.suffix == ".safetensors" else read_pth(path)
        known = {convolution.kernel for convolution in self.outline.convolutions}
        foreign = [key for key, tensor in tensors.items() if tensor.dim() == 4 and key not in known]
        if foreign or not known & tensors.keys():
            found = f"{foreign[0]} is no convolution of {self.name}" if foreign else "holds none of its convolutions"
            raise refuse(path, found, "name its network by --network")
        return tensors


def _unet(encoder: str) -> _Classifier:
    """A U-Net of segmentation-models-pytorch, which is imported only here."""
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        remedy = "install it: pip install 'skylight[unet]'"
        raise refuse("network unet", "segmentation-models-pytorch is not installed", remedy) from None

    def make() -> nn.Module:
        try:
            network: nn.Module = smp.Unet(encoder, encoder_weights=None)
        except KeyError:
            remedy = "give one of segmentation-models-pytorch, such as unet-resnet34"
            raise refuse(f"network unet-{encoder}", "no such encoder", remedy) from None
        return network

    return _Classifier(make, trunk=r"encoder\.")
