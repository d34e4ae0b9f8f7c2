"""What lies on disk about an experiment: its trials, scores, advice, sets and bundles. Trains and measures nothing.

What is not there is not made; the sections of the page say which command makes it.
"""

import json
import statistics
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from deploy.bundle import Bundle, read_bundle
from pipeline.curated import read_dataset_json
from pipeline.errors import UserError, refuse
from pipeline.experiment import Experiment, Stage
from pipeline.report.table import Arm, arms_of_trials, by_arm
from pipeline.score.scores import Scores, read_scores
from pipeline.train.freeze import freeze_label
from pipeline.train.stages import set_folder
from pipeline.train.trial import Evaluation, TrialFolder, TrialResult, TrialSettings, trial_name
from pipeline.training_record import read_record
from pipeline.workspace import Workspace

__all__ = ["Evidence", "FoundStage", "FoundTrial", "read_evidence"]


@dataclass(frozen=True)
class FoundTrial:
    """A finished trial with at least one evaluation."""

    folder: TrialFolder
    settings: TrialSettings
    result: TrialResult
    evaluations: tuple[Evaluation, ...]


@dataclass(frozen=True)
class FoundStage:
    """A stage with its finished trials in the experiment's order, and the names of those that are not finished."""

    stage: Stage
    trials: tuple[FoundTrial, ...]
    unfinished: tuple[str, ...]

    @cached_property
    def arms(self) -> list[Arm]:
        """Of the trials, in their order."""
        return arms_of_trials([(trial.settings, trial.result, trial.evaluations) for trial in self.trials])

    @cached_property
    def groups(self) -> dict[tuple[str, str], list[Arm]]:
        """The seeds of each start and freeze, together."""
        return by_arm(self.arms)

    @property
    def best(self) -> tuple[str, str]:
        """Start and freeze with the best mean AP over its seeds; the first of several that are equal."""
        return max(self.groups, key=lambda key: statistics.mean(arm.best.ap50 for arm in self.groups[key]))

    @property
    def scratch(self) -> tuple[str, str] | None:
        """Start and freeze of the training that began with random weights, or None."""
        for trial in self.trials:
            if trial.settings.start_sha256 is None:
                return trial.settings.start, trial.settings.freeze
        return None

    def best_trial(self, key: tuple[str, str]) -> FoundTrial:
        """The seed of a start and freeze with the best AP."""
        trials = [trial for trial in self.trials if (trial.settings.start, trial.settings.freeze) == key]
        return max(trials, key=lambda trial: trial.result.best_ap50)


@dataclass(frozen=True)
class Evidence:
    """Everything that was found.

    Attributes:
        file: the experiment's, as commands name it.
        stages: those with a finished trial.
        unfinished: trials of the experiment that are not finished, as stage and trial.
        advice: by stage, what `skylight advise` wrote. sets: by key of the experiment's data: folder, dataset.json.
        bundles: made from this experiment. unreadable: what is wrong with others.
    """

    experiment: Experiment
    workspace: Workspace
    file: Path
    stages: tuple[FoundStage, ...]
    unfinished: tuple[str, ...]
    scores: Scores | None
    advice: dict[str, dict[str, Any]]
    sets: dict[str, tuple[Path, dict[str, Any] | None]]
    bundles: tuple[Bundle, ...]
    unreadable: tuple[str, ...]

    @property
    def target(self) -> FoundStage:
        """The stage that the answer is about: the one to be exported, or else the last that has a finished trial."""
        export = self.experiment.export
        wanted = [found for found in self.stages if export is not None and found.stage.name == export.stage]
        return (wanted or list(self.stages))[-1]

    def command(self, verb: str) -> str:
        """A command on this experiment as it can be typed where the report was asked for, marked as code."""
        root = "" if self.workspace.root == Path() else f" --root {self.workspace.root}"
        return f"`skylight {verb} {self.file}{root}`"


def read_evidence(experiment: Experiment, file: Path, workspace: Workspace) -> Evidence:
    """Read what there is.

    Raises:
        UserError: no finished trial, or a file of another version.
    """
    stages = [_read_stage(experiment, stage, workspace) for stage in experiment.stages]
    if not any(found.trials for found in stages):
        folder = workspace.run(experiment.name)
        raise refuse(folder, "holds no finished trial", f"run skylight train {file} first")
    scores = workspace.scores(experiment.name)
    advice = {stage.name: workspace.advice(experiment.name, stage.name) for stage in experiment.stages}
    bundles, unreadable = _read_bundles(experiment.name, workspace.bundles)
    return Evidence(
        experiment=experiment,
        workspace=workspace,
        file=file,
        stages=tuple(found for found in stages if found.trials),
        unfinished=tuple(f"{found.stage.name}/{name}" for found in stages for name in found.unfinished),
        scores=read_scores(scores) if scores.is_file() else None,
        advice={name: _read_json(path) for name, path in advice.items() if path.is_file()},
        sets=_read_sets(experiment, workspace),
        bundles=bundles,
        unreadable=unreadable,
    )


def _read_stage(experiment: Experiment, stage: Stage, workspace: Workspace) -> FoundStage:
    trials, unfinished = [], []
    for start in stage.starts:
        for freeze in stage.freeze if start.freeze is None else start.freeze:
            for seed in stage.seeds or experiment.seeds:
                name = trial_name(start.name, freeze_label(freeze), seed)
                trial = _read_trial(workspace.stage(experiment.name, stage.name) / name)
                if trial is None:
                    unfinished.append(name)
                else:
                    trials.append(trial)
    return FoundStage(stage, tuple(trials), tuple(unfinished))


def _read_trial(root: Path) -> FoundTrial | None:
    """None for one that is not finished. The weights need not lie beside the figures."""
    folder = TrialFolder.existing(root)
    if not folder.record.is_file():
        return None
    settings, result = read_record(folder.record, TrialSettings, TrialResult, "train the trial first")
    evaluations = folder.evaluations()
    return FoundTrial(folder, settings, result, evaluations) if result is not None and evaluations else None


def _read_sets(experiment: Experiment, workspace: Workspace) -> dict[str, tuple[Path, dict[str, Any] | None]]:
    """Where the set of each key lies; its dataset.json is None where there is none."""
    found = {}
    for key, source in experiment.data.items():
        try:
            folder = set_folder(source, workspace)
        except UserError:  # the recipe is not at hand; without it the set has no name
            continue
        found[key] = folder, read_dataset_json(folder)
    return found


def _read_bundles(experiment: str, folder: Path) -> tuple[tuple[Bundle, ...], tuple[str, ...]]:
    bundles, unreadable = [], []
    for root in sorted(path.parent for path in folder.glob("*/bundle.json")):
        try:
            bundle = read_bundle(root)
        except UserError as error:
            unreadable.append(str(error))
            continue
        if bundle.provenance.get("experiment") == experiment:
            bundles.append(bundle)
    return tuple(bundles), tuple(unreadable)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        raise refuse(path, "is no JSON", "run skylight advise again") from None
