"""What a bundle is made of: a trained detector with its classes, its val split and its history.

From the best trial of an experiment, a trial's folder, or any network with its weights. Knows nothing of how it is
exported.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.curated import read_curated_set
from pipeline.errors import refuse
from pipeline.experiment import Experiment, ExportChoice
from pipeline.export.provenance import provenance_of, provenance_of_files, provenance_of_folder
from pipeline.files import file_sha256
from pipeline.networks.darknet import DarknetDetector
from pipeline.networks.detector import Detector
from pipeline.train.pairing import Pair
from pipeline.train.stages import PlannedTrial

if TYPE_CHECKING:
    from pipeline.curated import LabelledImage

__all__ = ["ExportSource", "best_trial", "source_of_pair", "source_of_trial"]


@dataclass(frozen=True)
class ExportSource:
    """A detector on the CPU with its weights, and what goes with them into a bundle.

    Attributes:
        origin: what was named, for messages.
        resize: how photos come to its size.
        images: the val split: it is compared on them, and golden frames are chosen among them.
        train: the train split, for calibration.
        provenance: see `provenance.py`.
    """

    origin: str
    detector: Detector
    classes: tuple[str, ...]
    resize: str
    images: tuple["LabelledImage", ...]
    train: tuple["LabelledImage", ...]
    provenance: dict[str, Any]

    @property
    def anchors(self) -> list[list[float]]:
        """(width, height) in pixels of the input; none where the network has no anchors."""
        if not isinstance(self.detector, DarknetDetector):
            return []
        return [list(pair) for pair in self.detector.network.spec.heads[0].anchors]

    @property
    def masks(self) -> list[list[int]]:
        """Numbers of the anchors of each head."""
        if not isinstance(self.detector, DarknetDetector):
            return []
        return [list(head.mask) for head in self.detector.network.spec.heads]


def best_trial(choice: ExportChoice, plan: Sequence[PlannedTrial]) -> PlannedTrial:
    """The trial that `choice` names, or the one of its stage with the best AP on val.

    Raises:
        UserError: no such trial, or it is not finished.
    """
    trials = [trial for trial in plan if trial.stage.name == choice.stage]
    if choice.trial is not None:
        names = [trial.folder.root.name for trial in trials]
        trials = [trial for trial in trials if trial.folder.root.name == choice.trial]
        if not trials:
            raise refuse(f"export: trial {choice.trial}", "no such trial", f"allowed: {', '.join(names)}")
    results = [trial.folder.read()[1] for trial in trials]
    for trial, result in zip(trials, results, strict=True):
        if result is None:
            raise refuse(trial.folder.root, "is not finished", "run skylight train with this experiment first")
    scored = [(result.best_ap50, -i) for i, result in enumerate(results) if result]
    return trials[-max(scored)[1]]


def source_of_trial(experiment: Experiment, trial: PlannedTrial) -> ExportSource:
    """The best weights of a finished trial of an experiment."""
    settings, _ = trial.folder.read()
    detector = trial.network.build()
    detector.load(trial.folder.best_weights)
    return ExportSource(
        str(trial.folder.root),
        detector.eval(),
        settings.classes,
        settings.resize,
        trial.data.splits["val"],
        trial.data.splits["train"],
        provenance_of(experiment, trial),
    )


def source_of_pair(pair: Pair) -> ExportSource:
    """A network with its weights, and the set that it is checked on; a trial's folder tells its history.

    Raises:
        UserError: its set cannot be read.
    """
    trained = pair.trial
    is_best = trained is not None and trained.result is not None
    is_best = is_best and file_sha256(pair.weights) == trained.result.best_weights_sha256  # type: ignore[union-attr]
    provenance = (
        provenance_of_folder(trained, pair.data)
        if trained is not None and is_best
        else provenance_of_files(pair.network, Path(pair.weights))
    )
    checked = {"name": pair.data.root.name, "split": pair.split, "hash": pair.data_hash}
    train = read_curated_set(pair.data.root).splits.get("train", ())
    history = provenance | {"checked_on": checked}
    classes = pair.data.classes if trained is None else trained.settings.classes  # the set may name them otherwise
    return ExportSource(pair.network, pair.detector.eval(), classes, pair.resize, pair.images, train, history)
