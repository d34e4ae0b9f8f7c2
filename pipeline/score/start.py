"""A network to start from, with its weights: a trial of ours, a published file or another one.

Knows nothing about the target but its classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.curated import CuratedSet, hash_curated_set, read_curated_set
from pipeline.darknet.known import fetch_known, known_weights, recognised
from pipeline.errors import UserError, refuse
from pipeline.files import file_sha256
from pipeline.networks.detector import Detector
from pipeline.networks.families import architecture
from pipeline.train.trial import TrialFolder, TrialSettings
from pipeline.workspace import Workspace

__all__ = ["StartNetwork", "read_start"]

_NETWORK = "yolov3-tiny"

Progress = Callable[[int, int | None], None]  # bytes done, bytes in all if known


@dataclass(frozen=True)
class StartNetwork:
    """A detector with the start's weights.

    Attributes:
        origin: the trial's folder, the file, or the name of published weights.
        detector: for as many classes as the target has.
        first_head: number of the first layer whose shape depends on the classes.
        trained: numbers of the layers that hold the start's weights; the others are random.
        resize: how pictures come to the network's size; belongs to the weights.
        classes: that the start was trained on, where it says.
        source: the set that it was trained on, where it is at hand.
    """

    origin: str
    weights: Path
    weights_sha256: str
    detector: Detector
    first_head: int
    trained: tuple[int, ...]
    resize: str
    classes: tuple[str, ...] | None
    source: CuratedSet | None


def read_start(
    origin: str,
    network: str | None,
    size: int | None,
    resize: str | None,
    classes: tuple[str, ...],
    workspace: Workspace,
    progress: Progress | None = None,
) -> StartNetwork:
    """Read a start for a target with these classes. Heads of as many classes are kept, others are left random.

    Args:
        origin: folder of a finished trial, a weights file, or a name of `skylight weights`.
        network, size, resize: what the file is of, by default yolov3-tiny at 416; a trial says it, and only the size
            may be another.

    Raises:
        UserError: nothing is there, or it does not fit the network.
    """
    path = Path(origin)
    trial = TrialFolder.holding(path) if path.exists() else None
    if trial is not None:
        if network is not None:
            raise refuse(f"--network {network}", f"{origin} is a trial's, which says it itself", "leave it out")
        return _of_trial(trial, path, size, resize, classes, workspace)
    known = None if len(path.parts) > 1 or path.is_file() else known_weights(origin)
    made = architecture(network or _NETWORK, size or 416, len(classes))
    weights = path if known is None else fetch_known(known, workspace.weights, progress)
    if not weights.is_file():
        raise refuse(
            weights, "no such file", "give the folder of a trial, a weights file or a name of skylight weights"
        )
    known = known or recognised(weights)
    if known is not None and resize not in (None, known.resize):
        raise refuse(f"--resize {resize}", f"{known.name} was trained with {known.resize}", "leave it out")
    detector = made.build()
    trained = _load(detector, weights, made.first_head, None if known is None else known.layers)
    mode = resize or (known.resize if known else "stretch")
    return StartNetwork(origin, weights, file_sha256(weights), detector, made.first_head, trained, mode, None, None)


def _of_trial(
    folder: TrialFolder,
    path: Path,
    size: int | None,
    resize: str | None,
    classes: tuple[str, ...],
    workspace: Workspace,
) -> StartNetwork:
    """The best weights of a finished trial, or the file in its folder that was named."""
    settings, result = folder.read()
    if result is None:
        raise refuse(folder.root, "is not finished", "run skylight train on its experiment")
    if resize not in (None, settings.resize):
        raise refuse(f"--resize {resize}", f"{folder.root} was trained with {settings.resize}", "leave it out")
    network = str(folder.cfg) if folder.cfg.is_file() else settings.network
    made = architecture(network, size or settings.size, len(classes))
    detector = made.build()
    weights = path if path.is_file() else folder.best_weights
    loaded = _load(detector, weights, made.first_head, None)
    return StartNetwork(
        origin=str(path),
        weights=weights,
        weights_sha256=file_sha256(weights),
        detector=detector,
        first_head=made.first_head,
        trained=tuple(index for index in loaded if index in result.trained_layers),
        resize=settings.resize,
        classes=settings.classes,
        source=_source(settings, workspace),
    )


def _source(settings: TrialSettings, workspace: Workspace) -> CuratedSet | None:
    """The set of a trial, if it lies where sets do and is what it was."""
    for folder in (workspace.data / settings.data, workspace.root / settings.data):
        if folder.is_dir() and hash_curated_set(folder) == settings.data_hash:
            return read_curated_set(folder)
    return None


def _load(detector: Detector, path: Path, first_head: int, layers: int | None) -> tuple[int, ...]:
    """Load all layers that the file holds (before `layers`, if it is known), or those before heads that do not fit."""
    try:
        return detector.load(path, layers)
    except UserError:
        if layers is not None and layers <= first_head:
            raise
        return detector.load(path, first_head)
