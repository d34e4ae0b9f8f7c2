"""The network whose features are asked for: found by its name, filled with its weights, up to one layer.

Refuses weights that do not belong to it. Knows nothing about photos.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from pipeline.darknet import Cfg, network_cfg, read_cfg, shipped_networks
from pipeline.errors import refuse
from pipeline.files import file_sha256
from pipeline.networks.darknet import DarknetDetector
from pipeline.networks.detector import Detector
from pipeline.networks.families import architecture, square
from pipeline.score.classifiers import Classifier, classifier, is_classifier, read_tensors
from pipeline.score.pretrained import NamedBytesProgress, fetch_pretrained
from pipeline.score.trained_classifier import ClassifierFolder
from pipeline.train.named import finished_trial, named_weights, own_resize, require_resize, sized
from pipeline.train.starts import require_same_layers
from pipeline.workspace import Workspace

__all__ = ["Subject", "SubjectWish", "activations", "find_subject"]

_CLASSIFIER_SIZE = 224  # of a .pth of torchvision, which does not say


@dataclass(frozen=True)
class SubjectWish:
    """What was asked for; None for what the network or its weights decide.

    Attributes:
        network: a trial's or classifier's folder, a .cfg or .pt path, or a name.
        weights: a file, the name of published ones, `imagenet` for a classifier's, or `random`.
        layer: its number in the family's count, or its name.
        size: width and height of the input in pixels.
        seed: of random weights.
    """

    network: str
    weights: str | None
    layer: str
    size: tuple[int, int] | None = None
    resize: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Subject:
    """A network in eval mode, with its weights up to `layer`.

    Attributes:
        run: takes (batch, 3, height, width) float RGB, 0 to 1.
        output: the module whose output is the layer's.
        weights_sha256: of the file; empty for random weights.
        resize: how photos come to its size.
    """

    name: str
    module: nn.Module
    run: Callable[[Tensor], object]
    layer: int
    layer_name: str
    output: nn.Module
    weights: str
    weights_sha256: str
    width: int
    height: int
    resize: str


class _Reached(Exception):  # noqa: N818 - not an error
    """The layer has run; what comes after it need not."""

    def __init__(self, output: object) -> None:
        super().__init__()
        self.output = output


@torch.no_grad()
def activations(subject: Subject, images: Tensor) -> object:
    """What the layer makes of (batch, 3, height, width) float RGB, 0 to 1: a tensor, or several in list or dict.

    Raises:
        UserError: the network does not run the layer to detect.
    """

    def stop(_module: nn.Module, _inputs: object, output: object) -> NoReturn:
        raise _Reached(output)

    with subject.output.register_forward_hook(stop):
        try:
            subject.run(images)
        except _Reached as reached:
            return reached.output
    raise refuse(f"layer {subject.layer}", f"{subject.name} does not run it to detect", "choose another --layer")


def find_subject(wish: SubjectWish, workspace: Workspace, progress: NamedBytesProgress | None = None) -> Subject:
    """Find the network and its weights, which are downloaded where they are published ones.

    Raises:
        UserError: something is not there or does not belong together.
    """
    torch.manual_seed(wish.seed)
    root = Path(wish.network)
    if (root / "result.json").is_file():
        return _of_classifier_folder(wish, root, workspace, progress)
    if is_classifier(wish.network):
        return _of_classifier(wish, workspace, progress)
    if (root / "trial.json").is_file():
        return _of_trial(wish, root)
    if wish.network.endswith(".cfg") or wish.network in shipped_networks():
        return _of_cfg(wish, network_cfg(wish.network), workspace, progress)
    architecture(wish.network, 32, 1)  # refuses unknown names
    if wish.size is None:
        raise refuse(wish.network, "has no input size of its own", "give --size, for example --size 416")
    is_pt = (wish.weights or wish.network).endswith(".pt")
    weights = wish.weights or (wish.network if is_pt else None)
    return _of_foreign(wish, wish.network, weights, wish.size, "letterbox" if is_pt else "stretch")


def _of_classifier_folder(
    wish: SubjectWish, root: Path, workspace: Workspace, progress: NamedBytesProgress | None
) -> Subject:
    """One that `skylight classify` trained."""
    folder = ClassifierFolder(root)
    settings, _ = folder.read()
    weights = wish.weights or str(folder.best_weights)
    named = SubjectWish(settings.network, weights, wish.layer, wish.size, wish.resize, wish.seed)
    return _of_classifier(named, workspace, progress)


def _of_classifier(wish: SubjectWish, workspace: Workspace, progress: NamedBytesProgress | None) -> Subject:
    if wish.weights is None:
        raise refuse(wish.network, "a name holds no weights", "give --weights: a file, imagenet, or random")
    size = None if wish.size is None else square(wish.size, wish.network)
    if wish.weights == "random":
        made, sha256 = classifier(wish.network, 2, size or _CLASSIFIER_SIZE), ""
    else:
        is_published = wish.weights == "imagenet"
        path = Path(wish.weights)
        if is_published:
            path = fetch_pretrained(wish.network, workspace.weights, progress, "--weights FILE.pth")
        made, sha256 = _filled_classifier(wish.network, path, size), file_sha256(path)
    return _subject(wish, wish.network, made, made, list(made.layers), wish.weights, sha256, (made.size, made.size))


def _filled_classifier(name: str, path: Path, size: int | None) -> Classifier:
    """With as many classes as the file's head has, at the size that it names."""
    tensors, about = read_tensors(path)
    if about.get("name", name) != name:
        raise refuse(path, f"holds weights of {about['name']}", f"give weights of {name}")
    noted = int(about.get("size", _CLASSIFIER_SIZE))
    head = tensors.get(f"{classifier(name, 2, size or noted).head_name}.weight")
    made = classifier(name, 2 if head is None else len(head), size or noted)
    made.load(path, tensors, with_head=True)
    return made


def _of_trial(wish: SubjectWish, root: Path) -> Subject:
    """A detector that `skylight train` trained, as it was trained."""
    trained = finished_trial(root, wish.weights)
    folder, settings = trained.folder, trained.settings
    require_resize(wish.resize, settings.resize, str(root))
    weights = wish.weights or str(folder.best_weights)
    if folder.cfg.is_file():
        return _of_darknet(wish, str(root), sized(read_cfg(folder.cfg), wish.size), weights, settings.resize)
    return _of_foreign(wish, settings.network, weights, wish.size or (settings.size, settings.size), settings.resize)


def _of_cfg(wish: SubjectWish, cfg: Cfg, workspace: Workspace, progress: NamedBytesProgress | None) -> Subject:
    """A cfg as it is, with a file or published weights; those must be of the same network up to the layer."""
    if wish.weights is None:
        raise refuse(
            wish.network, "a cfg holds no weights", "give --weights: a file, a name of skylight weights, random"
        )
    detector = sized(cfg, wish.size)
    if wish.weights == "random":
        return _of_darknet(wish, wish.network, detector, wish.weights, own_resize(cfg))
    named = named_weights(wish.weights)
    known = named.known
    if known is not None:
        number = _layer_number(wish.layer, wish.network, _names(detector))
        require_same_layers(known, detector.network.cfg, number + 1, wish.network)
        require_resize(wish.resize, known.resize, known.name)
    bar = None if progress is None else lambda done, total: progress(named.name, done, total)
    weights = str(named.fetched(workspace, bar))
    return _of_darknet(wish, wish.network, detector, weights, known.resize if known else own_resize(cfg))


def _of_darknet(wish: SubjectWish, name: str, detector: DarknetDetector, weights: str, resize: str) -> Subject:
    sha256 = _filled(detector, wish, name, weights)
    size = detector.width, detector.height
    return _subject(wish, name, detector, detector.predict, _modules(detector), weights, sha256, size, resize)


def _of_foreign(wish: SubjectWish, network: str, weights: str | None, size: tuple[int, int], resize: str) -> Subject:
    """Ultralytics' and torchvision's detectors, with as many classes as the file has."""
    if weights is None:
        raise refuse(network, "a name holds no weights", "give --weights: a file, or random")
    side = square(size, network)
    detector = architecture(network, side, 1).build()
    classes = 1 if weights == "random" else detector.classes_in(Path(weights)) or 1
    if classes != 1:
        detector = architecture(network, side, classes).build()
    sha256 = _filled(detector, wish, network, weights)
    return _subject(wish, network, detector, detector.predict, _modules(detector), weights, sha256, size, resize)


def _filled(detector: Detector, wish: SubjectWish, name: str, weights: str) -> str:
    """Load every layer up to the one asked for; returns the SHA-256 of the file, empty for random weights."""
    number = _layer_number(wish.layer, name, _names(detector))
    if weights == "random":
        return ""
    loaded = detector.load(Path(weights), number + 1)
    missing = [index for index in detector.weighted_layers if index <= number and index not in loaded]
    if missing:
        raise refuse(
            weights, f"holds no layer from {missing[0]} on", f"give --layer {missing[0] - 1}, or other weights"
        )
    return file_sha256(Path(weights))


def _subject(
    wish: SubjectWish,
    name: str,
    module: nn.Module,
    run: Callable[[Tensor], object],
    layers: Sequence[tuple[str, nn.Module]],
    weights: str,
    sha256: str,
    size: tuple[int, int],
    resize: str = "stretch",
) -> Subject:
    number = _layer_number(wish.layer, name, [layer for layer, _ in layers])
    module.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    layer_name, output = layers[number]
    noted = f"random, seed {wish.seed}" if weights == "random" else weights
    return Subject(name, module, run, number, layer_name, output, noted, sha256, *size, wish.resize or resize)


def _layer_number(layer: str, network: str, names: Sequence[str]) -> int:
    """The number of a layer given by its number or its name."""
    if layer.isdecimal() and int(layer) < len(names):
        return int(layer)
    if names.count(layer) == 1:
        return names.index(layer)
    found = ", ".join(f"{index} {name}" for index, name in enumerate(names))
    raise refuse(f"--layer {layer}", f"no layer of {network}", f"it has {found}")


def _modules(detector: Detector) -> list[tuple[str, nn.Module]]:
    return [(layer.name, detector.output_module(layer.index)) for layer in detector.network_layers]


def _names(detector: Detector) -> list[str]:
    return [layer.name for layer in detector.network_layers]
