"""From what a person names, a trial's folder or a weights file, to tensors and what is known of how they came about.

Knows nothing about what is computed from them.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.darknet import read_cfg
from pipeline.errors import refuse
from pipeline.networks.foreign import read_safetensors_about
from pipeline.score.networks import Comparable, Weights, comparable, comparable_cfg
from pipeline.score.outline import Outline
from pipeline.train.trial import TrialFolder

__all__ = ["Checkpoint", "read_checkpoint", "require_same_network"]


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one file.

    Attributes:
        weights: tensors by the names that the network's outline uses.
        trial: the folder it lies in, where that is a trial's.
    """

    path: Path
    network: Comparable
    weights: Weights
    trial: TrialFolder | None = None

    @property
    def outline(self) -> Outline:
        """The network's convolutions."""
        return self.network.outline

    def random_before(self) -> frozenset[int]:
        """Layers that were random when its trial began; none where no trial says so."""
        if self.trial is None:
            return frozenset()
        settings, _ = self.trial.read()
        if settings.start_sha256 is None:
            return frozenset(self.outline.layers)
        first = settings.start_layers
        return frozenset() if first is None else frozenset(i for i in self.outline.layers if i >= first)

    def random_after(self) -> frozenset[int]:
        """Layers that were random when its trial began and stayed so, being frozen."""
        result = self.trial.read()[1] if self.trial else None
        return frozenset() if result is None else frozenset(self.outline.layers) - frozenset(result.trained_layers)


def read_checkpoint(name: str, network: str | None) -> Checkpoint:
    """Read the weights that `name` means: the best ones of a trial's folder, or a file.

    network: name or cfg, for a file that neither lies in a trial's folder nor says itself what it is of.

    Raises:
        UserError: no such file or network, no weights in the folder, a file that does not fit.
    """
    path = Path(name)
    trial = TrialFolder.holding(path)
    if path.is_dir():
        if trial is None:
            raise refuse(path, "no trial.json in it", "give a trial's folder, or a weights file")
        path = trial.best_weights
    if not path.is_file():
        raise refuse(path, "no such file", "give a trial's folder, or a weights file")
    found = _network_of_trial(trial) if trial else comparable(network or _named_inside(path))
    weights = found.read(path)
    for convolution in found.outline.convolutions:
        kernel = weights.get(convolution.kernel)
        if kernel is not None and not torch.isfinite(kernel).all():
            raise refuse(path, f"{convolution.kernel} holds NaN or infinity", "use an undamaged file")
    return Checkpoint(path, found, weights, trial)


def require_same_network(before: Checkpoint, other: Checkpoint) -> None:
    """Refuse two checkpoints of different networks; another number of classes is none."""
    if _names(before.outline) != _names(other.outline):
        found = f"of {other.network.name}, but {before.path} is of {before.network.name}"
        raise refuse(other.path, found, "compare checkpoints of one network")


def _names(outline: Outline) -> list[tuple[int, str, bool]]:
    return [(c.layer, c.name, c.norm is not None) for c in outline.convolutions]


def _network_of_trial(trial: TrialFolder) -> Comparable:
    settings, _ = trial.read()
    return (
        comparable_cfg(settings.network, read_cfg(trial.cfg)) if trial.cfg.is_file() else comparable(settings.network)
    )


def _named_inside(path: Path) -> str:
    """What network a file says it is of: Ultralytics' .pt all of it, our .safetensors its name."""
    if path.suffix == ".pt":
        return str(path)
    name = read_safetensors_about(path).get("name") if path.suffix == ".safetensors" else None
    if name is None:
        raise refuse(path, "does not say what network it is of", "give --network with a name or a .cfg")
    return name
