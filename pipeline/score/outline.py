"""A network's convolutions in the order of the data, each with the batch norm that follows it, by names of tensors.

Darknet's come from the cfg. Of PyTorch's modules the order is found by running the network once and noting which
convolution runs when and which batch norm reads its output: module order is another in some (a ResNet's downsample,
Inception's branches, a U-Net). Knows nothing about weights.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.darknet import Cfg, DarknetNetwork
from pipeline.darknet.batch_norm import BATCH_NORM_EPS
from pipeline.darknet.network import ConvolutionalLayer
from pipeline.errors import refuse

__all__ = ["PARTS", "Convolution", "Norm", "Outline", "Part", "darknet_outline", "in_part", "traced_outline"]

Part = Literal["bottleneck", "trunk", "head"]
# What can be chosen of a network, and the parts that belong to it.
PARTS: Mapping[str, tuple[Part, ...]] = {
    "all": ("bottleneck", "trunk", "head"),
    "trunk": ("bottleneck", "trunk"),
    "bottlenecks": ("bottleneck",),
}

# conv1, conv2 and conv3 of a bottleneck of torchvision's ResNet; the 1 x 1 beside them is named downsample.0.
_IN_BLOCK = re.compile(r"layer[1-4]\.\d+\.conv[123]$")


@dataclass(frozen=True)
class Norm:
    """Names of a batch norm's tensors, and what it adds to the variance inside the root."""

    scale: str
    mean: str
    variance: str
    eps: float


@dataclass(frozen=True)
class Convolution:
    """One convolution of a network.

    Attributes:
        index: its place in the order of the data, from 0.
        layer: the number that freezing counts it by; of a network without such a count, `index`.
        part: of a network: in a ResNet-50 `bottleneck` for the three of each block and `trunk` for stem and
            downsampling; elsewhere `trunk`, or `head` for what reads the trunk's features.
        kernel: name of its tensor, (filters, channels per group, height, width).
        norm: of the batch norm that reads its output, if one does.
    """

    index: int
    layer: int
    name: str
    part: Part
    kernel: str
    norm: Norm | None


@dataclass(frozen=True)
class Outline:
    """What of an architecture is compared. layers: every number with weights that freezing can name, in order."""

    network: str
    convolutions: tuple[Convolution, ...]
    layers: tuple[int, ...]

    def only(self, part: str) -> "Outline":
        """The convolutions of `part`, one of PARTS, counted anew from 0.

        Raises:
            UserError: the network has no such part.
        """
        chosen = [convolution for convolution in self.convolutions if convolution.part in PARTS[part]]
        if not chosen:
            raise refuse(f"--part {part}", f"{self.network} has none", "leave it out, or give all")
        return replace(self, convolutions=tuple(replace(c, index=i) for i, c in enumerate(chosen)))


def darknet_outline(name: str, cfg: Cfg) -> Outline:
    """The convolutions of a cfg; `head` are those whose output a [yolo] layer reads."""
    with torch.device("meta"):
        network = DarknetNetwork(cfg)
    layers = [i for i in network.spec.weighted_layers if isinstance(network.layers[i], ConvolutionalLayer)]
    heads = {source for yolo in network.spec.yolo_layers for source in network.reads[yolo]}
    found = []
    for index, layer in enumerate(layers):
        key = f"layers.{layer}"
        norm = None
        if network.weighted(layer).norm is not None:
            tensors = (f"{key}.norm.scale", f"{key}.norm.rolling_mean", f"{key}.norm.rolling_variance")
            norm = Norm(*tensors, BATCH_NORM_EPS)
        part: Part = "head" if layer in heads else "trunk"
        found.append(Convolution(index, layer, f"conv {layer}", part, f"{key}.weight", norm))
    return Outline(name, tuple(found), network.spec.weighted_layers)


def traced_outline(
    name: str,
    network: nn.Module,
    run: Callable[[], object],
    part: Callable[[str], Part],
    layers: Iterable[tuple[int, nn.Module]] | None = None,
) -> Outline:
    """The convolutions of a PyTorch network.

    Args:
        name: of the architecture.
        network: whose `state_dict` names the tensors; may be on the meta device.
        run: sends a batch through it. What runs only in training, such as auxiliary heads, comes last.
        part: of a convolution, by the name of its module; see `Convolution.part`.
        layers: number and module of each layer that freezing counts; None counts the convolutions, and after them
            everything else as one.
    """
    order, norms = _traced(network, run)
    names = {id(module): key for key, module in network.named_modules(remove_duplicate=False)}
    number = None
    if layers is not None:
        layers = list(layers)
        number = {id(module): index for index, layer in layers for module in layer.modules()}
    has_bottlenecks = any(module for key, module in network.named_modules() if re.search(r"layer1\.0\.conv3$", key))
    found = []
    for index, module in enumerate(order):
        key = names[id(module)]
        its_part = "bottleneck" if has_bottlenecks and _IN_BLOCK.search(key) else part(key)
        norm = _norm(names[id(norms[module])], norms[module]) if module in norms else None
        layer = index if number is None else number[id(module)]
        found.append(Convolution(index, layer, key, its_part, f"{key}.weight", norm))
    if layers is None:
        kernels = {convolution.name for convolution in found}
        has_more = any(isinstance(m, nn.Linear) and key not in kernels for key, m in network.named_modules())
        counted = tuple(range(len(found) + has_more))
    else:
        counted = tuple(index for index, layer in layers if any(True for _ in layer.parameters()))
    return Outline(name, tuple(found), counted)


def in_part(pattern: str) -> Callable[[str], Part]:
    """Names of modules that begin with `pattern`, a regular expression, are the trunk."""
    return lambda name: "trunk" if re.match(pattern, name) else "head"


def _norm(name: str, module: nn.BatchNorm2d) -> Norm:
    return Norm(f"{name}.weight", f"{name}.running_mean", f"{name}.running_var", float(module.eps))


def _traced(network: nn.Module, run: Callable[[], object]) -> tuple[list[nn.Conv2d], dict[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions as they run, first in eval mode, then those that only training runs; and the batch norm of each."""
    order: list[nn.Conv2d] = []
    norms: dict[nn.Conv2d, nn.BatchNorm2d] = {}
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # holds the tensors, so that no number is given twice

    def convolved(module: nn.Conv2d, _: Any, output: Tensor) -> None:
        if module not in order:
            order.append(module)
        outputs[id(output)] = (module, output)

    def about_to_normalise(module: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in outputs:
            norms[outputs[id(inputs[0])][0]] = module

    handles: list[Any] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and isinstance(module.weight, nn.Parameter):
            handles.append(module.register_forward_hook(convolved))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(about_to_normalise))
    was_training = network.training
    try:
        with torch.no_grad():
            for mode in (False, True):
                network.train(mode)
                run()
                outputs.clear()
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    missed = [m for m in network.modules() if isinstance(m, nn.Conv2d) and isinstance(m.weight, nn.Parameter)]
    return order + [module for module in missed if module not in order], norms
