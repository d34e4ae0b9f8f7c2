"""Where the weights of a trial come from: an earlier trial, a file, published weights, or chance.

Knows nothing of how a trial trains.
"""

from pathlib import Path

import torch

from pipeline.darknet import Cfg, DarknetNetwork, network_cfg
from pipeline.darknet.known import KnownWeights, fetch_known, known_weights, recognised, require_masks
from pipeline.download import BytesProgress
from pipeline.errors import UserError, refuse
from pipeline.experiment import Experiment, Start
from pipeline.networks.families import Architecture
from pipeline.train.trial import TrialFolder

__all__ = ["file_layers", "known_layers", "require_same_layers", "weights_file"]


def file_layers(path: Path, start: Start, network: Architecture, experiment: Experiment, where: str) -> tuple[int, ...]:
    """Numbers of the layers that a weights file fills with trained weights.

    Raises:
        UserError: it does not fit the network, or is a published file that `known_layers` would refuse.
    """
    try:
        loaded = network.build().load(path, start.layers)
    except UserError as error:
        is_whole = start.layers is None and path.is_file()
        hint = "; of another number of classes take the layers before the heads (layers: ...)" if is_whole else ""
        raise UserError(f"{where}: {error}{hint}") from None
    loaded = _trained_among(loaded, path)
    known = recognised(path)
    return loaded if known is None else _fitting_layers(known, start, network, experiment, where)


def _trained_among(layers: tuple[int, ...], path: Path) -> tuple[int, ...]:
    """Those of a file's layers that were ever trained: a trial of ours says so of the files in its folder."""
    trial = TrialFolder.holding(path)
    result = trial.read()[1] if trial else None
    return layers if result is None else tuple(index for index in layers if index in result.trained_layers)


def known_layers(start: Start, network: Architecture, experiment: Experiment, where: str) -> tuple[int, ...]:
    """Numbers of the layers that published weights fill, before they are downloaded.

    Raises:
        UserError: weights of another network or number of classes, other masks or another resize mode than they were
            trained with.
    """
    assert start.known is not None
    return _fitting_layers(known_weights(start.known), start, network, experiment, where)


def _fitting_layers(
    known: KnownWeights, start: Start, network: Architecture, experiment: Experiment, where: str
) -> tuple[int, ...]:
    if network.cfg is None:
        raise refuse(f"{where}: {known.name}", f"network {network.name}", "they are weights for a Darknet cfg")
    layers = min(entry for entry in (known.layers, start.layers, len(network.cfg.layers)) if entry is not None)
    require_same_layers(known, network.cfg, layers, where)
    heads = [index for index, section in enumerate(network.cfg.layers) if section.kind == "yolo"]
    if layers >= heads[0]:
        _require_same_heads(known, network.cfg, experiment, heads, where)
    return tuple(index for index in network.outline().weighted_layers if index < layers)


def weights_file(start: Start, folder: Path, progress: BytesProgress | None = None) -> Path | None:
    """The file of a start that names one, downloaded into `folder` where needed; None for others.

    Raises:
        UserError: no published weights of that name, or what `download` raises.
    """
    if start.known is not None:
        return fetch_known(known_weights(start.known), folder, progress)
    return start.weights


def require_same_layers(known: KnownWeights, cfg: Cfg, layers: int, where: str) -> None:
    """A .weights file holds no shapes: of another network it would fill the layers with numbers that mean nothing."""
    theirs, ours = _shapes_of_weights(network_cfg(known.network)), _shapes_of_weights(cfg)
    heads = {index - 1 for index, section in enumerate(cfg.layers) if section.kind == "yolo"}
    for index in sorted(ours.keys() | theirs.keys()):
        if index >= layers:
            return
        if ours.get(index) == theirs.get(index) or (index in heads and index in theirs):
            continue  # heads of another number of classes have a message of their own
        found = f"layer {index} is another than in {known.network}, which they belong to"
        remedy = f"set layers: {index}" if index else f"use network: {known.network}"
        raise refuse(f"{where}: {known.name}", found, remedy)


def _shapes_of_weights(cfg: Cfg) -> dict[int, list[tuple[int, ...]]]:
    """Shapes of what a .weights file holds of each layer, by its number."""
    with torch.device("meta"):
        network = DarknetNetwork(cfg)
    return {
        index: [tuple(value.shape) for value in network.weighted(index).state_dict().values()]
        for index in network.spec.weighted_layers
    }


def _require_same_heads(known: KnownWeights, cfg: Cfg, experiment: Experiment, heads: list[int], where: str) -> None:
    """Heads are worth nothing with other classes, masks or another resize mode than they were trained with."""
    classes = cfg.layers[heads[0]].integer("classes", 20)
    if known.classes != classes:
        raise refuse(
            f"{where}: {known.name}",
            f"trained on {known.classes} classes, this stage has {classes}",
            f"set layers: {heads[0] - 1}, to start the heads at random",
        )
    require_masks(known, cfg)
    if known.resize != experiment.resize:
        raise refuse(
            f"{where}: {known.name}",
            f"trained with resize: {known.resize}, the experiment has {experiment.resize}",
            f"set resize: {known.resize}",
        )
