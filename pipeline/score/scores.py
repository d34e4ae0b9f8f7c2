"""`runs/<experiment>/scores.json`: what training moved in every finished trial, and how good each trial got."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import refuse
from pipeline.experiment import Experiment
from pipeline.files import file_sha256, write_json
from pipeline.score.checkpoints import Checkpoint
from pipeline.score.compare import compared_layers, row_of
from pipeline.score.networks import Comparable, comparable, comparable_cfg
from pipeline.train.freeze import freeze_label
from pipeline.train.stages import PlannedTrial, data_hash, start_file, trial_settings
from pipeline.train.trial import TrialResult
from pipeline.workspace import Workspace

__all__ = [
    "Accuracy",
    "NullTask",
    "Progress",
    "ScoredTrial",
    "Scores",
    "finished_trials",
    "network_of",
    "read_scores",
    "score_trials",
]

Progress = Callable[[int, int], None]  # trials scored, trials in all


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NullTask(_Model):
    """Where the start's weights went when they were trained on. trial: its folder under runs/<experiment>/."""

    trial: str
    iterations: int
    weights_sha256: str


class Accuracy(_Model):
    """How good a finished trial got. count: the freeze where it is a number N, layers 0 to N-1; else None."""

    stage: str
    start: str
    freeze: str
    count: int | None
    frozen_layers: tuple[int, ...]
    seed: int
    best_iteration: int
    best_ap50: float


class ScoredTrial(_Model):
    """What training moved in a finished trial that started from weights.

    Attributes:
        trial: its folder under runs/<experiment>/.
        before: the weights it started from, relative to the workspace where they lie in it.
        after_sha256: of its best weights.
        convolutions: of each the figures of `pipeline.score.compare.row_of`.
    """

    trial: str
    stage: str
    start: str
    freeze: str
    seed: int
    before: str
    before_sha256: str
    after_sha256: str
    null: NullTask | None
    convolutions: tuple[dict[str, Any], ...]


class Scores(_Model):
    """The whole file. unfinished: trials of the experiment that were left out."""

    schema_version: Literal[1] = 1
    experiment: str
    network: str
    trials: tuple[ScoredTrial, ...]
    accuracy: tuple[Accuracy, ...]
    unfinished: tuple[str, ...]

    @property
    def stages(self) -> list[str]:
        """Names of the stages with a finished trial, in their order."""
        return list(dict.fromkeys(row.stage for row in self.accuracy))

    def write(self, path: Path) -> None:
        """Write it, complete or not at all."""
        write_json(path, self.model_dump(mode="json"))


def read_scores(path: Path) -> Scores:
    """Read a scores.json.

    Raises:
        UserError: no such file, or one of another version.
    """
    try:
        return Scores.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise refuse(path, "no such file", "run skylight score with the experiment first") from None
    except (ValueError, ValidationError):
        raise refuse(path, "is not what this version of Skylight writes", "run skylight score again") from None


def finished_trials(
    experiment: Experiment, plan: Sequence[PlannedTrial], workspace: Workspace
) -> list[tuple[PlannedTrial, TrialResult]]:
    """The trials of a plan that are finished, with their results.

    Raises:
        UserError: none is; one was trained with other settings or on other data than the experiment has now.
    """
    hashes: dict[Path, str] = {}
    found = []
    for trial in plan:
        if not trial.folder.is_begun or trial.folder.read()[1] is None:
            continue
        root = trial.data.root
        if root not in hashes:
            hashes[root] = data_hash(trial.data)
        settings = trial_settings(experiment, trial, hashes[root], start_file(trial, workspace))
        result = trial.folder.require_same(settings)
        assert result is not None
        found.append((trial, result))
    if not found:
        raise refuse(f"experiment {experiment.name}", "has no finished trial", "run skylight train with it first")
    return found


def score_trials(
    experiment: Experiment,
    finished: Sequence[tuple[PlannedTrial, TrialResult]],
    nulls: Mapping[str, PlannedTrial],
    unfinished: Sequence[str],
    workspace: Workspace,
    progress: Progress | None = None,
) -> Scores:
    """Score every finished trial that started from weights, and list how good all of them got.

    nulls: the null trial of each, by the trial's name; it must be finished.
    """
    networks: dict[str, Comparable] = {}
    started = [(trial, result) for trial, result in finished if start_file(trial, workspace) is not None]
    scored = []
    for trial, result in started:
        scored.append(_scored(trial, result, nulls.get(trial.name), networks, workspace))
        if progress:
            progress(len(scored), len(started))
    accuracy = [
        Accuracy(
            stage=trial.stage.name,
            start=trial.start.name,
            freeze=freeze_label(trial.freeze),
            count=trial.freeze if isinstance(trial.freeze, int) else None,
            frozen_layers=trial.frozen,
            seed=trial.seed,
            best_iteration=result.best_iteration,
            best_ap50=result.best_ap50,
        )
        for trial, result in finished
    ]
    return Scores(
        experiment=experiment.name,
        network=Path(experiment.network).name,
        trials=tuple(scored),
        accuracy=tuple(accuracy),
        unfinished=tuple(unfinished),
    )


def _scored(
    trial: PlannedTrial,
    result: TrialResult,
    null: PlannedTrial | None,
    networks: dict[str, Comparable],
    workspace: Workspace,
) -> ScoredTrial:
    """Compare the best weights of a trial with its start, and the last ones of the null task with the same."""
    start = start_file(trial, workspace)
    assert start is not None
    network = networks.setdefault(trial.network.name, network_of(trial))
    before, after = (Checkpoint(path, network, network.read(path)) for path in (start, trial.folder.best_weights))
    third, task = None, None
    if null is not None:
        path = null.folder.last_weights
        third = Checkpoint(path, network, network.read(path))
        task = NullTask(trial=null.name, iterations=null.stage.iterations, weights_sha256=file_sha256(path))
    random = frozenset(network.outline.layers) - frozenset(trial.trained)
    layers, nulls = compared_layers(network.outline, before, after, third, random)
    rows = [row_of(found, other) for found, other in zip(layers, nulls or (None,) * len(layers), strict=True)]
    return ScoredTrial(
        trial=trial.name,
        stage=trial.stage.name,
        start=trial.start.name,
        freeze=freeze_label(trial.freeze),
        seed=trial.seed,
        before=_under(start, workspace.root),
        before_sha256=file_sha256(start),
        after_sha256=result.best_weights_sha256,
        null=task,
        convolutions=tuple(rows),
    )


def network_of(trial: PlannedTrial) -> Comparable:
    """The network of a trial; its files may be of stages with other numbers of classes."""
    cfg, name = trial.network.cfg, trial.network.name
    return comparable(name) if cfg is None else comparable_cfg(name, cfg)


def _under(path: Path, root: Path) -> str:
    path, root = path.resolve(), root.resolve()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
