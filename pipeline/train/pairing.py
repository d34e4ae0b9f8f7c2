"""One network with its weights, and the set that it is measured on: what goes with what.

Finds the network, its weights, its input size and resize mode, and refuses what does not belong together. Knows nothing
of training but the folder that a trial leaves, and nothing of what is done with the pair.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.curated import CuratedSet, LabelledImage, hash_curated_set, read_curated_set
from pipeline.darknet import Cfg, network_cfg, read_cfg, shipped_networks
from pipeline.darknet.known import KnownWeights, require_masks, with_known_masks
from pipeline.download import BytesProgress
from pipeline.errors import UserError, refuse
from pipeline.networks.detector import Detector
from pipeline.networks.families import architecture, square
from pipeline.train.named import (
    NamedWeights,
    Trained,
    finished_trial,
    named_weights,
    own_resize,
    require_resize,
    sized,
)
from pipeline.workspace import Workspace

__all__ = ["Pair", "Resize", "Wish", "read_pair"]

Resize = Literal["stretch", "letterbox"]


@dataclass(frozen=True)
class Wish:
    """What was asked for; None for what the network, the weights or the trial decide.

    Attributes:
        network: a .cfg path, a name, a .pt path, or the folder of a trial.
        weights: a file, or the name of published ones.
        size: width and height of the input in pixels.
        with_known_masks: give the cfg the masks that the published weights were trained with.
    """

    network: str
    weights: str | None = None
    data: Path | None = None
    split: str = "val"
    size: tuple[int, int] | None = None
    resize: Resize | None = None
    with_known_masks: bool = False


@dataclass(frozen=True)
class Pair:
    """A detector with all its weights loaded, and the set; `classes` of both are as many.

    Attributes:
        network: as it was named.
        weights: the file. trial: whose best weights or file they are, where they are a trial's.
    """

    network: str
    detector: Detector
    weights: Path
    resize: str
    data: CuratedSet
    split: str
    trial: Trained | None

    @property
    def images(self) -> tuple[LabelledImage, ...]:
        """The pictures to measure on."""
        return self.data.splits[self.split]

    @property
    def data_hash(self) -> str:
        """Of the photos and labels of the split."""
        return hash_curated_set(self.data.root, self.split)


@dataclass(frozen=True)
class _Found:
    """A detector before its weights are loaded, and what belongs to it."""

    name: str
    detector: Detector
    weights: NamedWeights
    resize: str
    trial: Trained | None = None


def read_pair(wish: Wish, workspace: Workspace, progress: BytesProgress | None = None) -> Pair:
    """Find both. Published weights are downloaded once everything else fits.

    Raises:
        UserError: something is not there, or does not belong together: numbers of classes, masks, resize mode, weights.
    """
    if (Path(wish.network) / "trial.json").is_file():
        found, data = _trial_and_data(wish, workspace)
    else:
        is_cfg = wish.network.endswith(".cfg") or wish.network in shipped_networks()
        if not is_cfg and len(Path(wish.network).parts) > 1 and not wish.network.endswith(".pt"):
            raise refuse(
                wish.network, "no trial.json in it", "give a trial's folder, a .cfg, a .pt or a network's name"
            )
        data = _read_data(wish.data, wish.split)
        found = _darknet(wish) if is_cfg else _foreign(wish, len(data.classes))
    _require_classes(found, data)
    weights = found.weights.fetched(workspace, progress)
    _load(found.detector, weights)
    return Pair(found.name, found.detector, weights, found.resize, data, wish.split, found.trial)


def _darknet(wish: Wish) -> _Found:
    """A cfg as it is: its number of classes is that of the weights."""
    cfg = network_cfg(wish.network)
    if not any(section.kind == "yolo" for section in cfg.layers):
        raise refuse(cfg.path, "has no [yolo] layer", "give the cfg of a detector, for example yolov3-tiny")
    if wish.weights is None:
        raise refuse(wish.network, "a cfg holds no weights", "give --weights with a file or a name of skylight weights")
    weights = named_weights(wish.weights)
    resize: str = wish.resize or own_resize(cfg)
    if weights.known is not None:
        cfg, resize = _fitting_known(weights.known, cfg, wish), weights.known.resize
    elif wish.with_known_masks:
        found = f"{weights.name} is none of the published files"
        raise refuse("--known-masks", found, "leave it out: the cfg's masks count")
    _cfg_classes(cfg)
    return _Found(wish.network, sized(cfg, wish.size), weights, resize)


def _foreign(wish: Wish, classes: int) -> _Found:
    """A network of another family, for as many classes as the set has; its checkpoint must have as many."""
    if wish.with_known_masks:
        raise refuse("--known-masks", f"{wish.network} has no masks", "leave it out; it is for a Darknet cfg")
    weights = wish.weights or (wish.network if wish.network.endswith(".pt") else None)
    architecture(wish.network, 32, classes)  # refuses unknown names
    if weights is None:
        raise refuse(wish.network, "a name holds no weights", "give --weights with a .safetensors or .pt file")
    if wish.size is None:
        raise refuse(wish.network, "has no input size of its own", "give --size, for example --size 416")
    network = architecture(wish.network, square(wish.size, wish.network), classes)
    resize = wish.resize or ("letterbox" if weights.endswith(".pt") else "stretch")  # as Ultralytics trains
    return _Found(wish.network, network.build(), NamedWeights(weights, Path(weights), None), resize)


def _trial_and_data(wish: Wish, workspace: Workspace) -> tuple[_Found, CuratedSet]:
    """A trial of ours, on the set that it was trained on unless another one is given."""
    root = Path(wish.network)
    trained = finished_trial(root, wish.weights)
    settings = trained.settings
    require_resize(wish.resize, settings.resize, str(root))
    if wish.with_known_masks:
        raise refuse("--known-masks", f"{root} has the masks it was trained with", "leave it out")
    has_data = wish.data is not None
    data = _read_data(wish.data, wish.split) if has_data else _training_set(trained, workspace, wish.split)
    cfg = trained.folder.cfg
    detector = sized(read_cfg(cfg), wish.size) if cfg.is_file() else _trained_network(trained, wish.size)
    weights = trained.folder.best_weights if wish.weights is None else Path(wish.weights)
    named = NamedWeights(str(weights), weights, None)
    return _Found(str(root), detector, named, settings.resize, trained), data


def _trained_network(trained: Trained, size: tuple[int, int] | None) -> Detector:
    """The network of another family that a trial trained."""
    return trained.architecture(None if size is None else square(size, trained.settings.network)).build()


def _training_set(trained: Trained, workspace: Workspace, split: str) -> CuratedSet:
    """The set of a trial, as it was: it is looked for by its name under the workspace's data/ and root."""
    settings = trained.settings
    for folder, is_same in trained.sets(workspace)[:1]:
        if not is_same:
            remedy = f"give --data {folder} to measure on it all the same"
            raise refuse(folder, f"is not the set that {settings.trial} was trained on", remedy)
        return _read_data(folder, split)
    found = f"the set {settings.data} that it was trained on is not under {workspace.root}"
    raise refuse(settings.trial, found, "give --data or --root")


def _read_data(folder: Path | None, split: str) -> CuratedSet:
    if folder is None:
        raise refuse("--data", "not given", "name a curated set or a YOLO folder with data.yaml")
    data = read_curated_set(folder, only=split)
    if not any(len(image.boxes) for image in data.splits[split]):
        raise refuse(folder, f"no box in {split}", "choose another --split, or label its photos")
    return data


def _fitting_known(known: KnownWeights, cfg: Cfg, wish: Wish) -> Cfg:
    """The cfg for published weights; what they were not trained with is refused."""
    if known.masks is None:
        raise refuse(known.name, "holds no [yolo] heads", "give weights of a whole detector, as yolov3-tiny")
    classes = _cfg_classes(cfg)
    if classes != known.classes:
        remedy = f"use the cfg {known.network}"
        raise refuse(cfg.path, f"has {classes} classes where {known.name} was trained on {known.classes}", remedy)
    require_resize(wish.resize, known.resize, known.name)
    if wish.with_known_masks:
        return with_known_masks(known, cfg)
    try:
        require_masks(known, cfg)
    except UserError as error:
        raise UserError(f"{error}, or add --known-masks") from None
    return cfg


def _cfg_classes(cfg: Cfg) -> int:
    counts = {section.integer("classes", 20) for section in cfg.layers if section.kind == "yolo"}
    if len(counts) > 1:
        raise refuse(cfg.path, f"its [yolo] sections have {sorted(counts)} classes", "give all the same number")
    return counts.pop()


def _require_classes(found: _Found, data: CuratedSet) -> None:
    """Refuse a head for other classes than the labels are of."""
    path = found.weights.file
    has = found.detector.classes
    if path is not None and path.is_file():
        has = found.detector.classes_in(path) or has
    if has != len(data.classes):
        remedy = (
            f"give a set whose data.yaml names the same {has} classes in the same order, or train on this one first"
        )
        raise refuse(found.name, f"its head has {has} classes, and {data.root} has {len(data.classes)}", remedy)
    names = None if found.trial is None else found.trial.settings.classes
    if names is not None and names != data.classes and sorted(names) == sorted(data.classes):
        order = f"was trained with the classes {', '.join(names)}, and {data.root} has them in another order"
        raise refuse(found.name, order, "put the names in data.yaml and the labels in that order")


def _load(detector: Detector, path: Path) -> None:
    """Load the weights of every layer."""
    missing = sorted(set(detector.weighted_layers) - set(detector.load(path)))
    if missing:
        raise refuse(path, f"holds no layer from {missing[0]} on", "give the weights of the whole network")
