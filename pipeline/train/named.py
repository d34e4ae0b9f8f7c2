"""What a person names, the folder of a trial or weights, and what belongs to it: network, resize mode, the set.

For every command that takes a network with its weights. Knows nothing of what is done with them.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.curated import hash_curated_set
from pipeline.darknet import Cfg, DarknetNetwork, with_options
from pipeline.darknet.known import KnownWeights, fetch_known, known_weights, recognised
from pipeline.download import BytesProgress
from pipeline.errors import refuse
from pipeline.networks.darknet import DarknetDetector
from pipeline.networks.families import Architecture, architecture
from pipeline.train.trial import TrialFolder, TrialResult, TrialSettings
from pipeline.workspace import Workspace

__all__ = ["NamedWeights", "Trained", "finished_trial", "named_weights", "own_resize", "require_resize", "sized"]


@dataclass(frozen=True)
class NamedWeights:
    """Weights by the path of a file, or by the name of published ones.

    Attributes:
        file: None for published ones that are not at hand as the file that was named.
        known: which published ones they are, by name or by what is in the file.
    """

    name: str
    file: Path | None
    known: KnownWeights | None

    def fetched(self, workspace: Workspace, progress: BytesProgress | None = None) -> Path:
        """The file, downloaded where it must be.

        Raises:
            UserError: what `download` raises.
        """
        if self.file is not None:
            return self.file
        assert self.known is not None
        return fetch_known(self.known, workspace.weights, progress)


@dataclass(frozen=True)
class Trained:
    """A trial's folder with what it says of itself; result is None while it is not finished."""

    folder: TrialFolder
    settings: TrialSettings
    result: TrialResult | None

    def architecture(self, size: int | None = None, classes: int | None = None) -> Architecture:
        """What was trained; for another size or number of classes where given."""
        network = str(self.folder.cfg) if self.folder.cfg.is_file() else self.settings.network
        return architecture(network, size or self.settings.size, classes or len(self.settings.classes))

    def sets(self, workspace: Workspace) -> list[tuple[Path, bool]]:
        """Folders that have the name of the set it was trained on, and whether they still hold what they did."""
        folders = (workspace.data / self.settings.data, workspace.root / self.settings.data)
        return [(folder, hash_curated_set(folder) == self.settings.data_hash) for folder in folders if folder.is_dir()]


def named_weights(name: str) -> NamedWeights:
    """Find a file, or published weights of that name.

    Raises:
        UserError: neither is there.
    """
    path = Path(name)
    if path.is_file():
        return NamedWeights(name, path, recognised(path))
    if len(path.parts) > 1:
        raise refuse(path, "no such file", "give the path of a weights file or a name of skylight weights")
    return NamedWeights(name, None, known_weights(name))


def finished_trial(root: Path, weights: str | None = None) -> Trained:
    """Read a trial's folder. weights: what is taken instead of its best ones; then it need not be finished.

    Raises:
        UserError: no trial, or not finished.
    """
    folder = TrialFolder.existing(root)
    settings, result = folder.read()
    if result is None and weights is None:
        raise refuse(root, "is not finished", "run skylight train on its experiment, or name a weights file in it")
    return Trained(folder, settings, result)


def require_resize(given: str | None, own: str, owner: str) -> None:
    """Refuse another resize mode than the weights were trained with; None is any."""
    if given not in (None, own):
        remedy = f"write --resize {own}, or leave it out: the mode belongs to the weights"
        raise refuse(f"--resize {given}", f"{owner} was trained with {own}", remedy)


def own_resize(cfg: Cfg) -> str:
    """The resize mode that a cfg asks for, as AlexeyAB's Darknet reads it."""
    return "letterbox" if cfg.net.integer("letter_box", 0) else "stretch"


def sized(cfg: Cfg, size: tuple[int, int] | None) -> DarknetDetector:
    """The network of a cfg as it is, at its own size or at (width, height) pixels."""
    net = {} if size is None else {"width": str(size[0]), "height": str(size[1])}
    return DarknetDetector(DarknetNetwork(with_options(cfg, {}, net)))
