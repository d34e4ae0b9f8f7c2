"""From an experiment to its trials, in order: which start, which data, which freeze count.

What an experiment and its sets can have wrong is found before the first iteration. Knows nothing of how a trial trains.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.curate import read_recipe
from pipeline.curated import CuratedSet, hash_curated_set, read_curated_set
from pipeline.errors import refuse
from pipeline.experiment import DataSource, Experiment, Freeze, Stage, Start
from pipeline.files import file_sha256
from pipeline.networks.families import Architecture, architecture
from pipeline.train.freeze import check_freeze, freeze_label, frozen_layers
from pipeline.train.schedule import rounds, view_count
from pipeline.train.starts import file_layers, known_layers, weights_file
from pipeline.train.trial import TrialFolder, TrialSettings, trial_name
from pipeline.workspace import Workspace

__all__ = ["PlannedTrial", "data_hash", "plan_trials", "require_current", "set_folder", "start_file", "trial_settings"]


@dataclass(frozen=True)
class PlannedTrial:
    """A trial that is known to be possible, given that the trials before it in the plan are done.

    Attributes:
        frozen: numbers of the layers that `freeze` means.
        after: the trial whose best weights it starts from, or None.
        trained: layers that hold trained weights at the start.
    """

    stage: Stage
    start: Start
    freeze: Freeze
    frozen: tuple[int, ...]
    seed: int
    folder: TrialFolder
    network: Architecture
    data: CuratedSet
    after: "PlannedTrial | None"
    trained: tuple[int, ...]

    @property
    def name(self) -> str:
        """Stage and trial, as shown."""
        return f"{self.stage.name}/{self.folder.root.name}"

    @property
    def arm(self) -> str:
        """Start and freeze, which trials of several seeds share."""
        return f"{self.start.name}-f{freeze_label(self.freeze)}"


def plan_trials(experiment: Experiment, workspace: Workspace) -> list[PlannedTrial]:
    """List every trial in the order of training.

    Raises:
        UserError: a set that is not there, an unknown network, a start that does not fit, a freeze count that is
            refused; the message names the stage and the start.
    """
    architecture(experiment.network, experiment.size, 1)
    sets = {key: _read_set(key, source, workspace) for key, source in experiment.data.items()}
    plan: list[PlannedTrial] = []
    for stage in experiment.stages:
        data = sets[stage.data]
        network = architecture(experiment.network, experiment.size, len(data.classes))
        detector = network.outline()
        detector.require_trainable()
        if not any(len(image.boxes) for image in data.splits["train"]):
            raise refuse(data.root, "no box in the train split", "label at least one object")
        for start in stage.starts:
            where = f"stage {stage.name}, start {start.name}"
            of_file = None if start.stage else _trained_layers(start, None, network, experiment, where)
            for freeze in stage.freeze if start.freeze is None else start.freeze:
                for seed in stage.seeds or experiment.seeds:
                    after = _earlier(plan, start, seed, where)
                    trained = of_file or _trained_layers(start, after, network, experiment, where)
                    check_freeze(detector, freeze, trained, where, stage.freeze_untrained)
                    frozen = frozen_layers(detector, freeze)
                    name = trial_name(start.name, freeze_label(freeze), seed)
                    folder = TrialFolder(workspace.stage(experiment.name, stage.name) / name, network.suffix)
                    plan.append(PlannedTrial(stage, start, freeze, frozen, seed, folder, network, data, after, trained))
    return plan


def require_current(experiment: Experiment, trial: PlannedTrial, workspace: Workspace) -> None:
    """Refuse a trial that was trained with other settings or on other data than the experiment has now."""
    trial.folder.read()  # one that was never begun is refused
    settings = trial_settings(experiment, trial, data_hash(trial.data), start_file(trial, workspace))
    trial.folder.require_same(settings)


def data_hash(data: CuratedSet) -> str:
    """The hash of the files as they are; a curated set that was changed by hand is refused."""
    found = hash_curated_set(data.root)
    if found != data.content_hash:
        raise refuse(
            data.root,
            f"was changed after it was curated: content hash {found[:12]}, dataset.json says {data.content_hash[:12]}",
            "curate it again, or remove dataset.json to take it as it is",
        )
    return found


def start_file(trial: PlannedTrial, workspace: Workspace) -> Path | None:
    """The weights that a trial starts from; published ones are downloaded."""
    return trial.after.folder.best_weights if trial.after else weights_file(trial.start, workspace.weights)


def trial_settings(
    experiment: Experiment, trial: PlannedTrial, data: str, start: Path | None, subdivisions: int = 1
) -> TrialSettings:
    """Everything that decides the trial's numbers.

    data: hash of its set. start: its weights, or None. subdivisions: where the experiment leaves them open, of a trial
    that was not begun; one that was keeps its own.
    """
    stage = trial.stage
    begun = trial.folder.read()[0] if trial.folder.is_begun else None
    if experiment.subdivisions != "auto":
        subdivisions = experiment.subdivisions
    elif begun is not None:
        subdivisions = begun.subdivisions
    return TrialSettings(
        experiment=experiment.name,
        stage=stage.name,
        start=trial.start.name,
        start_sha256=None if start is None else file_sha256(start),
        start_layers=trial.start.layers,
        freeze=freeze_label(trial.freeze),
        frozen=trial.frozen,
        seed=trial.seed,
        network=trial.network.name if trial.network.cfg is None else trial.network.cfg.path.name,
        network_sha256=trial.network.sha256,
        size=trial.network.size,
        classes=trial.data.classes,
        data=trial.data.name,
        data_hash=data,
        resize=experiment.resize,
        iterations=stage.iterations,
        evaluate_at=stage.evaluation_points,
        batch=experiment.batch,
        subdivisions=subdivisions,
        learning_rate=stage.learning_rate or experiment.learning_rate,
        learning_rate_steps=stage.learning_rate_steps,
        momentum=experiment.momentum,
        decay=experiment.decay,
        burn_in=experiment.burn_in,
        batch_norm_momentum=experiment.batch_norm_momentum,
        loss=experiment.loss,
        precision=_precision(experiment.precision, trial.network, begun),
        augment=experiment.augment,
        views=_views(experiment, trial),
        ema=experiment.ema,
        best_by=experiment.best_by,
        stop_early=stage.stop_early,
        checkpoint_every=stage.checkpoint_every,
    )


def _views(experiment: Experiment, trial: PlannedTrial) -> int:
    """Stored views of each picture; none are stored where nothing frozen comes before what learns."""
    outline = trial.network.outline()
    outline.freeze(trial.frozen)
    if not outline.has_trunk:
        return 0
    count = len(trial.data.splits["train"])
    if experiment.views is None:
        return view_count(trial.stage.iterations, experiment.batch, count)
    return min(experiment.views, rounds(trial.stage.iterations, experiment.batch, count))


def _precision(choice: str, network: Architecture, begun: TrialSettings | None) -> Literal["float32", "bfloat16"]:
    """bfloat16 where the GPU multiplies in it, or the processor does and the network is Darknet's.

    The losses of other families are not known to be sound in it on a processor. A trial that was begun keeps what was
    chosen on the machine where it began.
    """
    import torch

    if choice == "auto":
        if begun is not None:
            return begun.precision
        is_cuda = torch.cuda.is_available()
        is_fast = torch.cuda.is_bf16_supported(including_emulation=False) if is_cuda else _processor_has_bfloat16()
        return "bfloat16" if is_fast and (is_cuda or network.cfg is not None) else "float32"
    return "bfloat16" if choice == "bfloat16" else "float32"


def _processor_has_bfloat16() -> bool:
    try:
        about = Path("/proc/cpuinfo").read_text()
    except FileNotFoundError:
        return False
    return any(f" {flag}" in about for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def set_folder(source: DataSource, workspace: Workspace) -> Path:
    """Where the curated set of `source` lies, or will."""
    if source.path is not None:
        return source.path
    assert source.recipe is not None
    return workspace.data / read_recipe(source.recipe).name


def _read_set(key: str, source: DataSource, workspace: Workspace) -> CuratedSet:
    folder = set_folder(source, workspace)
    if not folder.exists():
        remedy = "correct its path" if source.path else "run skylight curate with this experiment first"
        raise refuse(folder, f"the set of data {key} is not there", remedy)
    return read_curated_set(folder)


def _earlier(plan: list[PlannedTrial], start: Start, seed: int, where: str) -> PlannedTrial | None:
    """The trial of an earlier stage that `start` names; of several seeds the same, else the first."""
    if start.stage is None:
        return None
    trials = [t for t in plan if t.stage.name == start.stage]
    if start.trial is not None:
        trials = [t for t in trials if start.trial in (t.folder.root.name, t.arm)]
    if len({t.arm for t in trials}) != 1:
        everything = sorted({t.arm for t in plan if t.stage.name == start.stage})
        found = f"stage {start.stage} has {len(everything)} trials" if start.trial is None else f"trial {start.trial}"
        raise refuse(where, found, f"set trial to one of {', '.join(everything)}")
    return next((t for t in trials if t.seed == seed), trials[0])


def _trained_layers(
    start: Start, after: PlannedTrial | None, network: Architecture, experiment: Experiment, where: str
) -> tuple[int, ...]:
    if after is not None:
        if start.layers is None and after.network.classes != network.classes:
            raise refuse(
                where,
                f"was trained on {after.network.classes} classes, this stage has {network.classes}",
                "set layers, for example layers: 15 for the backbone of yolov3-tiny, to start the heads at random",
            )
        weighted = after.network.outline().weighted_layers
        trained = set(after.trained) | (set(weighted) - set(after.frozen))
        end = math.inf if start.layers is None else start.layers
        return tuple(sorted(index for index in trained if index < end))
    if start.known is not None:
        return known_layers(start, network, experiment, where)
    if start.weights is not None:
        return file_layers(start.weights, start, network, experiment, where)
    return ()
