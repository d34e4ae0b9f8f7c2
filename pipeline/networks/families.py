"""From a network's name to a detector of its family. Knows the names, and nothing else of the families."""

import hashlib
import json
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch

from pipeline.darknet import Cfg, DarknetNetwork, adapted, network_cfg, shipped_networks
from pipeline.darknet.yolo import Flavour
from pipeline.errors import refuse
from pipeline.files import file_sha256
from pipeline.networks.detector import Detector

__all__ = ["Architecture", "architecture", "square"]

_FASTER_RCNN = "fasterrcnn_resnet50_fpn"


@dataclass(frozen=True)
class Architecture:
    """A network at an input size, in pixels, and a number of classes, without weights. cfg: Darknet's, or None."""

    name: str
    size: int
    classes: int
    cfg: Cfg | None

    @property
    def suffix(self) -> str:
        """Of weights files, with the dot."""
        return ".weights" if self.cfg else ".safetensors"

    @property
    def sha256(self) -> str:
        """Of all that decides what the network computes, given its weights."""
        if self.cfg:
            return hashlib.sha256(self.cfg.text.encode()).hexdigest()
        library = "torchvision" if self.name == _FASTER_RCNN else "ultralytics"
        name = file_sha256(Path(self.name)) if self.name.endswith(".pt") else self.name
        about = [name, self.size, self.classes, library, version(library)]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def build(self, flavour: Flavour = "alexeyab", batch_norm_momentum: float | None = None) -> Detector:
        """A detector with random weights, on the CPU. The arguments are Darknet's alone.

        Raises:
            UserError: a library that is not installed, or a name or file that is no detector of it.
        """
        if self.cfg:
            from pipeline.networks.darknet import DarknetDetector

            return DarknetDetector(DarknetNetwork(self.cfg), flavour, batch_norm_momentum)
        if self.name == _FASTER_RCNN:
            from pipeline.networks.torchvision import faster_rcnn

            return faster_rcnn(self.classes, self.size)
        from pipeline.networks.ultralytics import ultralytics_detector

        return ultralytics_detector(self.name, self.classes, self.size, with_weights=False)

    @property
    def first_head(self) -> int:
        """Number of the first layer whose shape depends on the number of classes; new classes start there at random."""
        cfg = adapted(self.cfg, self.size, self.size, self.classes + 1) if self.cfg else None
        outlines = self.outline(), replace(self, classes=self.classes + 1, cfg=cfg).outline()
        for ours, other in zip(*(outline.network_layers for outline in outlines), strict=True):
            if [p.shape for p in ours.module.parameters()] != [p.shape for p in other.module.parameters()]:
                return ours.index
        raise AssertionError("a detector whose shape does not depend on its classes")

    def outline(self) -> Detector:
        """A detector whose layers can be asked for; its weights mean nothing."""
        with torch.device("meta") if self.cfg else nullcontext():
            return self.build()


def architecture(name: str, size: int, classes: int) -> Architecture:
    """The network of that name: a shipped cfg, a .cfg file, a model of Ultralytics or its .pt file, or Faster R-CNN.

    Raises:
        UserError: no network has that name; a cfg without yolo heads.
    """
    if name.endswith(".cfg") or name in shipped_networks():
        cfg = network_cfg(name)
        if not any(section.kind == "yolo" for section in cfg.layers):
            raise refuse(cfg.path, "has no [yolo] layer", "train a detector, for example yolov3-tiny")
        return Architecture(name, size, classes, adapted(cfg, size, size, classes))
    if name == _FASTER_RCNN or Path(name).suffix == ".pt" or (name.startswith("yolo") and "/" not in name):
        return Architecture(name, size, classes, None)
    allowed = ", ".join([*shipped_networks(), "a .cfg file", "a model of Ultralytics as in yolo11n", _FASTER_RCNN])
    raise refuse(f"network {name}", "no such network", f"allowed: {allowed}")


def square(size: tuple[int, int], network: str) -> int:
    """The side of an input for networks that take square pictures only; others are refused."""
    if size[0] != size[1]:
        raise refuse(f"--size {size[0]}x{size[1]}", f"{network} takes square pictures", f"give --size {max(size)}")
    return size[0]
