"""Ultralytics' detectors, from YOLOv3 to YOLO26, behind our door.

A layer is an index in `model.model`, as their yaml files and their `freeze=` count. The network, its head and its loss
are theirs; which block reads which is read off the blocks. Ultralytics is imported when a detector is made, not before.
Knows nothing about their trainer: its schedule that moves YOLO26's loss from one head to the other is not used.
"""

import copy
import os
import re
import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import torch
from torch import Tensor, nn

from pipeline.errors import refuse
from pipeline.networks.detector import Layer
from pipeline.networks.foreign import ForeignCheckpoint, ForeignDetector, as_training

__all__ = ["UltralyticsDetector", "ultralytics_detector"]

_IMAGES = -1  # what the first block reads, in the count of the blocks' outputs


def ultralytics_detector(name: str, classes: int, size: int, with_weights: bool = True) -> "UltralyticsDetector":
    """Make a detector for `classes` classes and images of size x size pixels.

    A .pt file is read with PyTorch's `weights_only` and Ultralytics' list of known classes, so that it runs no code of
    its own. Its head is left out where its number of classes is another.

    Args:
        name: a model, such as yolov3-tinyu, yolo11n or yolo26n, for random weights; or the path of a .pt file.
        classes: number of classes.
        size: of the input, a multiple of the largest stride.
        with_weights: take those of a .pt, or only what network it holds.

    Raises:
        UserError: no such model or file, one that does not detect boxes, or a size that does not fit.
    """
    if not name.endswith(".pt"):
        return UltralyticsDetector(_description(name), classes, size)
    path = Path(name)
    model = _read_model(path)
    detector = UltralyticsDetector(model.yaml, classes, size)
    if with_weights:
        detector.load(path, None if _classes(model) == classes else len(detector.network_layers) - 1)
    return detector


class UltralyticsDetector(ForeignDetector):
    """A detector made of Ultralytics' blocks, with random weights and a head of its own.

    Args:
        description: the content of one of their yaml files.
        classes: number of classes of the head.
        size: of the input in pixels, both ways.
    """

    def __init__(self, description: dict[str, Any], classes: int, size: int) -> None:
        tasks = _tasks()
        name = Path(str(description.get("yaml_file", "a model"))).stem
        last = str(description["head"][-1][2])
        if last not in ("Detect", "v10Detect"):
            raise refuse(name, f"its last block is {last}", "give a model that detects boxes, such as yolo11n")
        network = tasks.DetectionModel(description | {"nc": classes}, nc=classes, verbose=False)
        network.args = SimpleNamespace(**tasks.DEFAULT_CFG_DICT)  # the loss reads its gains there
        super().__init__(name, network, classes, size)
        self._require_size(size)
        self._blocks: list[Any] = list(network.model)
        self._backbone = len(description["backbone"])
        head = self._blocks[-1]
        head.xyxy = True
        head.end2end = False  # see `predict`
        _make_constant(head.dfl)
        self._layers = tuple(Layer(index, type(block).__name__, block) for index, block in enumerate(self._blocks))
        self._sources = tuple(_sources(block.f, index) for index, block in enumerate(self._blocks))
        self._last_use = {source: index for index, sources in enumerate(self._sources) for source in sources}
        self._criterion: Any = None
        self._criterion_device: torch.device | None = None

    @property
    def network_layers(self) -> tuple[Layer, ...]:
        """Their blocks, head last."""
        return self._layers

    @property
    def backbone(self) -> int:
        """What their description calls so."""
        return self._backbone

    @property
    def heads(self) -> tuple[tuple[str, nn.Module], ...]:
        """The branches of the last block, for boxes (cv2) and for classes (cv3), of every stride."""
        last = self._blocks[-1]
        branches = [(f"{name}.{i}", branch) for name in ("cv2", "cv3") for i, branch in enumerate(getattr(last, name))]
        return tuple((f"{len(self._blocks) - 1} {name}", branch) for name, branch in branches)

    def at_size(self, size: int) -> "UltralyticsDetector":
        """A copy, whose grids are made for that size; see `Detector.at_size`."""
        self._require_size(size)
        other = copy.deepcopy(self)
        other.width = other.height = size
        return other

    def _require_size(self, size: int) -> None:
        stride = int(self.network.stride.max())
        if size < stride or size % stride:
            raise refuse(f"{self.name}: size", size, f"give a multiple of {stride}")

    @property
    def has_trunk(self) -> bool:
        """Whether the first blocks are frozen."""
        return any(index < self.first_learned for index in self.frozen)

    @torch.no_grad()
    def trunk(self, images: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the blocks before the first learned one, as far as later blocks read them; see `Detector`."""
        outputs = {_IMAGES: images}
        self._run(outputs, 0, self.first_learned)
        return tuple(outputs[index] for index in self._boundary())

    def losses(self, features: tuple[Tensor, ...], truth: Tensor) -> dict[str, Tensor]:
        """Their own loss with their default gains, divided by the batch, by which they multiply; see `Detector`.

        Parts are `box`, `cls` and `dfl`; `l1` in place of `dfl` where the head has no distribution, as in YOLO26. An
        end-to-end head sums both of its branches, 0.8 of one-to-many and 0.2 of one-to-one, as their training begins.
        """
        outputs = dict(zip(self._boundary(), features, strict=True))
        with as_training(self._blocks[-1]):
            raw = self._run(outputs, self.first_learned, len(self._blocks))
        device = features[0].device
        if self._criterion_device != device:
            self._criterion, self._criterion_device = self.network.init_criterion(), device
        total, parts = self._criterion(raw, _targets(truth))
        return {
            name.removesuffix("_loss"): part for name, part in zip(parts, total / features[0].shape[0], strict=True)
        }

    @torch.no_grad()
    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """One box per cell of every stride, with a sigmoid score per class; see `Detector`.

        Of an end-to-end head it is the one-to-many branch: NMS follows here in any case, and this branch learns from
        ten cells per object and with the greater weight, where the one-to-one branch learns from one.
        """
        with self._evaluating():
            decoded, _ = self.network(images)
        boxes, scores = decoded.float().transpose(1, 2).split((4, self.classes), dim=2)
        return boxes.contiguous(), scores.contiguous()

    def load(self, path: Path, layers: int | None = None) -> tuple[int, ...]:
        """Load a .safetensors file of ours or a .pt file of Ultralytics, the averaged weights where it has them."""
        return super().load(path, layers)

    def read(self, path: Path) -> ForeignCheckpoint:
        """A checkpoint of ours, or the tensors of a .pt file.

        Raises:
            UserError: no such file, one that is damaged, or one that holds no detector.
        """
        if path.suffix != ".pt":
            return super().read(path)
        model = _read_model(path)
        return ForeignCheckpoint(model.float().state_dict(), _classes(model))

    def _boundary(self) -> tuple[int, ...]:
        """Numbers of the outputs before the first learned block that it and later ones read; -1 for the images."""
        first = self.first_learned
        return tuple(sorted({source for sources in self._sources[first:] for source in sources if source < first}))

    def _run(self, outputs: dict[int, Tensor], start: int, stop: int) -> Any:
        """Run the blocks from `start` to before `stop`, adding to `outputs` what is read later, dropping the rest."""
        x: Any = None
        for index in range(start, stop):
            inputs = [outputs[source] for source in self._sources[index]]
            x = self._blocks[index](inputs if isinstance(self._blocks[index].f, list) else inputs[0])
            outputs[index] = x
            for old in [old for old in outputs if self._last_use.get(old, -1) <= index]:
                del outputs[old]
        return x


def _sources(f: int | list[int], index: int) -> tuple[int, ...]:
    """Whose outputs block `index` reads; negative numbers count back from it."""
    return tuple(index + source if source < 0 else source for source in ([f] if isinstance(f, int) else f))


def _targets(truth: Tensor) -> dict[str, Tensor]:
    """Our padded boxes as Ultralytics' batch: one row per box, in the order of the images."""
    is_box = (truth[..., 2:4] > 0).all(dim=2)
    rows = truth[is_box]
    return {"batch_idx": is_box.nonzero()[:, 0].float(), "cls": rows[:, 4:], "bboxes": rows[:, :4]}


def _make_constant(dfl: nn.Module) -> None:
    """Keep the weights 0, 1, 2, ... that turn a distribution into a distance out of training, and of weight decay."""
    if isinstance(convolution := getattr(dfl, "conv", None), nn.Conv2d):
        weight = convolution.weight.detach()
        del convolution.weight
        convolution.register_buffer("weight", weight)


def _description(name: str) -> dict[str, Any]:
    """Content of the yaml file of that name that comes with Ultralytics."""
    remedy = "give a model of Ultralytics such as yolov3-tinyu, yolo11n or yolo26n, or the path of a .pt file"
    if not re.fullmatch(r"[A-Za-z0-9-]+", name):
        raise refuse(name, "no name of a model", remedy)
    try:
        description: dict[str, Any] = _tasks().yaml_model_load(f"{name}.yaml")
    except FileNotFoundError:
        raise refuse(name, "no such model", remedy) from None
    return description


def _read_model(path: Path) -> Any:
    """The network in a .pt file; PyTorch builds none but known classes."""
    if not path.is_file():
        raise refuse(path, "no such file", "give a .pt file of Ultralytics")  # theirs would look for it online
    try:
        content, _ = _tasks().torch_safe_load(path.resolve(), safe_only=True)
        model = content.get("ema") or content.get("model")
    except Exception as error:  # whatever a damaged pickle raises
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise refuse(path, f"not readable ({reason})", "give an undamaged .pt file of Ultralytics") from None
    if not isinstance(model, _tasks().DetectionModel):
        raise refuse(path, "holds no detector", "give a .pt file of an Ultralytics detector")
    return model


def _classes(model: Any) -> int:
    return int(model.model[-1].nc)


@cache
def _tasks() -> Any:
    """`ultralytics.nn.tasks`, imported without what the import does elsewhere.

    It writes settings into the home folder, asks a name server whether there is a network, sets environment variables
    (OpenMP to one thread, for every child), switches OpenCV to one thread, replaces `torch.save` and prints.
    """
    before, threads, save = dict(os.environ), cv2.getNumThreads(), torch.save
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
        os.environ.setdefault("YOLO_CONFIG_DIR", folder)
        try:
            from ultralytics.nn import tasks
        except ImportError:
            raise refuse("ultralytics", "not installed", "pip install ultralytics") from None
        finally:
            for key in os.environ.keys() - before.keys():
                del os.environ[key]
            os.environ.update(before)
            cv2.setNumThreads(threads)
            torch.save = save
    return tasks
