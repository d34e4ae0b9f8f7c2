"""From an experiment to its trials, in order: which start, which data, which freeze count; then each one trained.

What an experiment and its sets can have wrong is found before the first iteration; pictures are decoded, and earlier
trials compared, when a trial's turn comes. Knows nothing of how a trial trains.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.curate import read_recipe
from pipeline.curated import CuratedSet, file_sha256, hash_curated_set, read_curated_set
from pipeline.darknet import Cfg, DarknetNetwork, adapted, load_weights, network_cfg
from pipeline.errors import UserError, refuse
from pipeline.experiment import DataSource, Experiment, Stage, Start
from pipeline.interrupt import StopRequest
from pipeline.train.dataset import ImageTensors, load_images
from pipeline.train.freeze import check_freeze
from pipeline.train.loop import Step, train_trial
from pipeline.train.trial import TrialFolder, TrialResult, TrialSettings

__all__ = ["PlannedTrial", "Workspace", "plan_trials", "require_current", "run_trials"]


@dataclass(frozen=True)
class Workspace:
    """The folder under which everything that is made lies."""

    root: Path

    @property
    def data(self) -> Path:
        """Curated sets."""
        return self.root / "data"

    @property
    def cache(self) -> Path:
        """What was downloaded and measured; may be deleted, and is made again."""
        return self.root / "cache"

    def cross_check(self, recipe: str) -> Path:
        """What networks that never saw a photo say about its labels."""
        return self.cache / "cross-check" / recipe

    def flights(self, recipe: str) -> Path:
        """Frames of flights that wait for a person, a folder per flight; what was corrected there lies nowhere else."""
        return self.root / "flights" / recipe

    def stage(self, experiment: str, stage: str) -> Path:
        """Trials of one stage."""
        return self.root / "runs" / experiment / stage

    @property
    def bundles(self) -> Path:
        """What flies."""
        return self.root / "bundles"


@dataclass(frozen=True)
class PlannedTrial:
    """A trial that is known to be possible, given that the trials before it in the plan are done.

    Attributes:
        after: the trial whose best weights it starts from, or None.
        trained: layers that hold trained weights at the start.
    """

    stage: Stage
    start: Start
    freeze: int
    seed: int
    folder: TrialFolder
    cfg: Cfg
    data: CuratedSet
    after: "PlannedTrial | None"
    trained: tuple[int, ...]

    @property
    def name(self) -> str:
        """Stage and trial, as shown."""
        return f"{self.stage.name}/{self.folder.root.name}"


def _set_folder(source: DataSource, workspace: Workspace) -> Path:
    """Where the curated set of `source` lies, or will."""
    if source.path is not None:
        return source.path
    assert source.recipe is not None
    return workspace.data / read_recipe(source.recipe).name


def plan_trials(experiment: Experiment, workspace: Workspace) -> list[PlannedTrial]:
    """List every trial in the order of training.

    Raises:
        UserError: a set that is not there, an unknown network, a start that does not fit, a freeze count that is
            refused; the message names the stage and the start.
    """
    cfg = network_cfg(experiment.network)
    if not any(section.kind == "yolo" for section in cfg.layers):
        raise refuse(cfg.path, "has no [yolo] layer", "train a detector, for example yolov3-tiny")
    sets = {key: _read_set(key, source, workspace) for key, source in experiment.data.items()}
    plan: list[PlannedTrial] = []
    for stage in experiment.stages:
        data = sets[stage.data]
        own = adapted(cfg, experiment.size, experiment.size, len(data.classes))
        network = DarknetNetwork(own)
        for start in stage.starts:
            for freeze in stage.freeze if start.freeze is None else start.freeze:
                for seed in experiment.seeds:
                    where = f"stage {stage.name}, start {start.name}"
                    after = _earlier(plan, start, seed, where)
                    trained = _trained_layers(start, after, own, where)
                    check_freeze(network, freeze, trained, where, stage.freeze_untrained)
                    root = workspace.stage(experiment.name, stage.name) / f"{start.name}-f{freeze}-s{seed}"
                    plan.append(PlannedTrial(stage, start, freeze, seed, TrialFolder(root), own, data, after, trained))
    return plan


def run_trials(
    experiment: Experiment,
    plan: list[PlannedTrial],
    stop: StopRequest,
    on_step: Callable[[PlannedTrial, Step], None] | None = None,
) -> Iterator[tuple[PlannedTrial, TrialResult]]:
    """Train what is not finished yet, one trial after the other, and yield each with its result."""
    loaded: dict[Path, tuple[ImageTensors, ImageTensors]] = {}
    hashes: dict[Path, str] = {}
    for trial in plan:
        root = trial.data.root
        if root not in hashes:
            hashes[root] = _data_hash(trial.data)
        settings = _settings(experiment, trial, hashes[root])
        result = trial.folder.require_same(settings)
        if result is None:
            if root not in loaded:
                loaded.clear()
                size = experiment.size
                loaded[root] = tuple(  # type: ignore[assignment]
                    load_images(trial.data.splits[split], size, size, experiment.resize) for split in ("train", "val")
                )
            train, val = loaded[root]
            network = _starting_network(trial)
            report = (lambda step, trial=trial: on_step(trial, step)) if on_step else None
            result = train_trial(trial.folder, settings, network, trial.trained, train, val, stop, report)
        yield trial, result


def require_current(experiment: Experiment, trial: PlannedTrial) -> None:
    """Refuse a trial that was trained with other settings or on other data than the experiment has now."""
    trial.folder.require_same(_settings(experiment, trial, _data_hash(trial.data)))


def _data_hash(data: CuratedSet) -> str:
    """The hash of the files as they are; a curated set that was changed by hand is refused."""
    found = hash_curated_set(data.root)
    if found != data.content_hash:
        raise refuse(
            data.root,
            f"was changed after it was curated: content hash {found[:12]}, dataset.json says {data.content_hash[:12]}",
            "curate it again, or remove dataset.json to take it as it is",
        )
    return found


def _read_set(key: str, source: DataSource, workspace: Workspace) -> CuratedSet:
    folder = _set_folder(source, workspace)
    if not folder.exists():
        raise refuse(folder, f"the set of data {key} is not there", "run skylight curate with this experiment first")
    return read_curated_set(folder)


def _earlier(plan: list[PlannedTrial], start: Start, seed: int, where: str) -> PlannedTrial | None:
    """The trial of an earlier stage that `start` names; of several seeds the same, else the first."""
    if start.stage is None:
        return None
    trials = [t for t in plan if t.stage.name == start.stage]
    if start.trial is not None:
        trials = [t for t in trials if start.trial in (t.folder.root.name, f"{t.start.name}-f{t.freeze}")]
    arms = sorted({f"{t.start.name}-f{t.freeze}" for t in trials})
    if len(arms) != 1:
        everything = sorted({f"{t.start.name}-f{t.freeze}" for t in plan if t.stage.name == start.stage})
        found = f"stage {start.stage} has {len(everything)} trials" if start.trial is None else f"trial {start.trial}"
        raise refuse(where, found, f"set trial to one of {', '.join(everything)}")
    return next((t for t in trials if t.seed == seed), trials[0])


def _trained_layers(start: Start, after: PlannedTrial | None, cfg: Cfg, where: str) -> tuple[int, ...]:
    if after is not None:
        network = DarknetNetwork(after.cfg)
        weighted = set(network.spec.weighted_layers)
        trained = set(after.trained) | {index for index in weighted if index >= after.freeze}
        if start.layers is None and _classes(after.cfg) != _classes(cfg):
            raise refuse(
                where,
                f"was trained on {_classes(after.cfg)} classes, this stage has {_classes(cfg)}",
                "set layers, for example layers: 15 for the backbone of yolov3-tiny, to start the heads at random",
            )
        return tuple(sorted(index for index in trained if start.layers is None or index < start.layers))
    if start.weights is None:
        return ()
    try:
        return load_weights(DarknetNetwork(cfg), start.weights, start.layers)[1]
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _classes(cfg: Cfg) -> int:
    return next(section.integer("classes", 20) for section in cfg.layers if section.kind == "yolo")


def _starting_network(trial: PlannedTrial) -> DarknetNetwork:
    """The network with the start's weights; what the start does not hold is random by the trial's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        network = DarknetNetwork(trial.cfg)
    path = _start_weights(trial)
    if path is not None:
        load_weights(network, path, trial.start.layers)
    return network.to("cuda" if torch.cuda.is_available() else "cpu")


def _start_weights(trial: PlannedTrial) -> Path | None:
    return trial.after.folder.best_weights if trial.after else trial.start.weights


def _settings(experiment: Experiment, trial: PlannedTrial, data_hash: str) -> TrialSettings:
    path = _start_weights(trial)
    return TrialSettings(
        experiment=experiment.name,
        stage=trial.stage.name,
        start=trial.start.name,
        start_sha256=None if path is None else file_sha256(path),
        start_layers=trial.start.layers,
        freeze=trial.freeze,
        seed=trial.seed,
        cfg_sha256=hashlib.sha256(trial.cfg.text.encode()).hexdigest(),
        classes=trial.data.classes,
        data=trial.data.name,
        data_hash=data_hash,
        resize=experiment.resize,
        iterations=trial.stage.iterations,
        evaluate_at=tuple(sorted(set(trial.stage.evaluate_at) | {trial.stage.iterations})),
        batch=experiment.batch,
        learning_rate=trial.stage.learning_rate or experiment.learning_rate,
        momentum=experiment.momentum,
        decay=experiment.decay,
        burn_in=experiment.burn_in,
        batch_norm_momentum=experiment.batch_norm_momentum,
        loss=experiment.loss,
        precision=experiment.precision,
        augment=experiment.augment,
    )
