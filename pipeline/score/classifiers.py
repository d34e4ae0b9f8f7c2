"""torchvision's classifiers by name, with a head for our classes: built, filled from a file, frozen up to the head.

Knows nothing about how they are trained, nor where files come from.
"""

import json
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import refuse
from pipeline.files import new_file
from pipeline.networks.torchvision import read_pth
from pipeline.tensors import constant

__all__ = ["Classifier", "classifier", "is_classifier", "read_tensors"]

# Of torchvision's ImageNet presets (transforms/_presets.py, ImageClassification).
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Published weights of these two hold auxiliary heads, which only training on ImageNet needs, and expect another
# normalisation, which transform_input brings about.
_INCEPTION: dict[str, Any] = {"aux_logits": False, "transform_input": True, "init_weights": True}
_OPTIONS = {"googlenet": _INCEPTION, "inception_v3": _INCEPTION}
_AUXILIARY = re.compile(r"(aux1|aux2|AuxLogits)\.")
# densenet.py _load_state_dict: the published files were written by an older version.
_OLD_DENSENET = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))")
_COUNTER = "num_batches_tracked"  # old files have none; read by nothing as long as momentum is a number


def is_classifier(name: str) -> bool:
    """Whether torchvision has a classifier of that name."""
    from torchvision import models

    return name in models.list_models(module=models)


def classifier(name: str, classes: int, size: int) -> "Classifier":
    """Make a classifier with random weights for square pictures of `size` pixels.

    Raises:
        UserError: torchvision has none of that name, or it does not take that size.
    """
    from torchvision import models

    if not is_classifier(name):
        near = get_close_matches(name, models.list_models(module=models)) or ["resnet18", "mobilenet_v2"]
        remedy = f"allowed: any by its name there, as {' or '.join(near)}"
        raise refuse(f"network {name}", "no classifier of torchvision", remedy)
    made = Classifier(name, models.get_model(name, weights=None, num_classes=classes, **_OPTIONS.get(name, {})), size)
    made.eval()
    try:
        with torch.no_grad():
            made(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise refuse(f"{name}: size {size}", reason, "give another --size, for example 224") from None
    return made


class Classifier(nn.Module):
    """A classifier of torchvision's.

    Attributes:
        name: torchvision's.
        size: of its pictures, in pixels.
        network: torchvision's own module.
        head_name: of the module whose outputs are the classes.
        is_frozen: whether everything but the head stays as it is.
    """

    def __init__(self, name: str, network: nn.Module, size: int) -> None:
        super().__init__()
        self.name, self.network, self.size = name, network, size
        weighted = [key for key, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        self.head_name = weighted[-1]
        self.is_frozen = False

    @property
    def head(self) -> nn.Module:
        """The last layer with weights, the only one whose shape depends on the number of classes."""
        return self.network.get_submodule(self.head_name)

    @property
    def layers(self) -> tuple[tuple[str, nn.Module], ...]:
        """Name and module of every layer: the children, those inside a plain nn.Sequential one by one."""
        return tuple(_layers("", self.network))

    def forward(self, images: Tensor) -> Tensor:
        """(batch, 3, height, width) float RGB, 0 to 1, to (batch, classes) logits."""
        mean, deviation = (constant(values, images)[:, None, None] for values in (_MEAN, _DEVIATION))
        logits: Tensor = self.network((images - mean) / deviation)
        return logits

    def freeze(self) -> None:
        """Let only the head learn; all else, batch norm and dropout too, stays in eval."""
        self.is_frozen = True
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        for parameter in self.head.parameters():
            parameter.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Classifier":
        """Set training mode; what is frozen stays in eval."""
        super().train(mode and not self.is_frozen)
        if self.is_frozen:
            self.head.train(mode)
        return self

    @torch.no_grad()
    def before_head(self, images: Tensor) -> Tensor | None:
        """What the head reads, (batch, features); None where something comes after the head, as in SqueezeNet."""
        read: list[Tensor] = []
        given: list[Tensor] = []

        def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            read.append(inputs[0])
            given.append(output)

        with self.head.register_forward_hook(note):
            logits = self(images)
        return read[0] if isinstance(self.head, nn.Linear) and logits is given[0] else None

    def load(self, path: Path, tensors: dict[str, Tensor], with_head: bool) -> None:
        """Take the tensors of a file, without the head where it is for other classes.

        Raises:
            UserError: the file is not of this network; nothing is loaded then.
        """
        remedy = f"give a state dict of torchvision's {self.name}, undamaged"
        own = self.network.state_dict()
        foreign = sorted(tensors.keys() - own.keys())
        if foreign:
            raise refuse(path, f"holds {foreign[0]}, which is in no layer of {self.name}", remedy)
        chosen = {key: value for key, value in own.items() if with_head or not key.startswith(f"{self.head_name}.")}
        for key, value in chosen.items():
            found = tensors.get(key)
            if found is None:
                if key.endswith(_COUNTER):
                    continue
                raise refuse(path, f"holds no {key} of {self.name}", remedy)
            if found.shape != value.shape:
                raise refuse(path, f"{key} is {tuple(found.shape)}, {self.name} has {tuple(value.shape)}", remedy)
            if not torch.isfinite(found).all():
                raise refuse(path, f"{key} holds NaN or infinity", remedy)
        with torch.no_grad():
            for key in chosen.keys() & tensors.keys():
                own[key].copy_(tensors[key])

    def save(self, path: Path, about: dict[str, Any]) -> None:
        """Write a .safetensors file with every tensor of the network, and its name, the size and `about` as JSON.

        All notes are one string: safetensors writes several in no fixed order; so the same weights give the same bytes.
        """
        from safetensors.torch import save_file

        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in self.network.state_dict().items()}
        metadata = {"about": json.dumps({"name": self.name, "size": self.size, "settings": about})}
        with new_file(path) as part:
            save_file(tensors, part, metadata)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a state dict and what `Classifier.save` noted: of a .safetensors, or a .pth of torchvision.

    No code in the file is run. Auxiliary heads are left out.

    Raises:
        UserError: no such file, or none that can be read.
    """
    if not path.is_file():
        raise refuse(path, "no such file", "give a state dict: .pth of torchvision, or .safetensors")
    tensors, about = _read_safetensors(path) if path.suffix == ".safetensors" else (read_pth(path), {})
    found = {key: value for key, value in tensors.items() if not _AUXILIARY.match(key)}
    return {_modern(key): value for key, value in found.items()}, about


def _modern(key: str) -> str:
    old = _OLD_DENSENET.fullmatch(key)
    return old[1] + old[2] if old else key


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            return tensors, about if isinstance(about, dict) else {}
    except (SafetensorError, OSError, ValueError) as error:
        raise refuse(path, f"not readable ({' '.join(str(error).split())[:120]})", "use an undamaged file") from None


def _layers(prefix: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    found: list[tuple[str, nn.Module]] = []
    for name, child in module.named_children():
        is_list = type(child) is nn.Sequential
        found += _layers(f"{prefix}{name}.", child) if is_list else [(prefix + name, child)]
    return found
