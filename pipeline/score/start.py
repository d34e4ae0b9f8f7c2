"""A network to start from, with its weights: a trial of ours, a published file or another one.

Knows nothing about the target but its classes.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.curated import CuratedSet, read_curated_set
from pipeline.download import BytesProgress
from pipeline.errors import UserError, refuse
from pipeline.files import file_sha256
from pipeline.networks.detector import Detector
from pipeline.networks.families import architecture
from pipeline.train.named import finished_trial, named_weights, require_resize
from pipeline.train.trial import TrialFolder
from pipeline.workspace import Workspace

__all__ = ["StartNetwork", "read_start"]

_NETWORK = "yolov3-tiny"


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
    progress: BytesProgress | None = None,
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
    named = named_weights(origin)
    made = architecture(network or _NETWORK, size or 416, len(classes))
    if named.known is not None:
        require_resize(resize, named.known.resize, named.known.name)
    weights, known = named.fetched(workspace, progress), named.known
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
    start = finished_trial(folder.root)
    assert start.result is not None
    settings, result = start.settings, start.result
    require_resize(resize, settings.resize, str(folder.root))
    made = start.architecture(size, len(classes))
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
        source=next((read_curated_set(data) for data, is_same in start.sets(workspace) if is_same), None),
    )


def _load(detector: Detector, path: Path, first_head: int, layers: int | None) -> tuple[int, ...]:
    """Load all layers that the file holds (before `layers`, if it is known), or those before heads that do not fit."""
    try:
        return detector.load(path, layers)
    except UserError:
        if layers is not None and layers <= first_head:
            raise
        return detector.load(path, first_head)
