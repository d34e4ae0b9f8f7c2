"""The trials of an experiment, each trained once: one after the other in this process."""

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pipeline.errors import UserError, refuse
from pipeline.experiment import Experiment
from pipeline.interrupt import Interrupted, StopQuestion
from pipeline.networks.detector import Detector
from pipeline.train.dataset import ImageTensors, load_images
from pipeline.train.loop import Runtime, Step, train_trial
from pipeline.train.memory import LackOfMemory, return_freed_memory
from pipeline.train.processes import Processes, this_process
from pipeline.train.stages import PlannedTrial, data_hash, start_file, trial_settings
from pipeline.train.trial import TrialResult, TrialSettings
from pipeline.workspace import Workspace

__all__ = ["OnDecoded", "OnStep", "Trials", "first_of", "run_trials"]

OnStep = Callable[[PlannedTrial, Step], None]
OnDecoded = Callable[[str, int, int], None]  # name of the set, pictures decoded, pictures in all


@dataclass
class Trials:
    """What trials of one experiment in one process share: the sets that are loaded, and what they were found to be.

    on_decoded: called while pictures are decoded.
    """

    experiment: Experiment
    workspace: Workspace
    processes: Processes
    on_decoded: OnDecoded | None = None
    _loaded: dict[Path, tuple[ImageTensors, ImageTensors]] = field(default_factory=dict)
    _hashes: dict[Path, str] = field(default_factory=dict)

    def run(self, trial: PlannedTrial, stop: StopQuestion, on_step: OnStep | None = None) -> TrialResult | None:
        """Train a trial, or return the result of one that is finished; None in all processes but the first.

        Raises:
            UserError, Interrupted: see `train_trial`; also data that was changed.
        """
        root = trial.data.root
        if root not in self._hashes:
            self._hashes[root] = data_hash(trial.data)
        start = self.processes.in_turn(lambda: start_file(trial, self.workspace))
        subdivisions = 1
        while True:
            settings = trial_settings(self.experiment, trial, self._hashes[root], start, subdivisions)
            _require_equal_parts(settings, self.processes.count)
            result = trial.folder.require_same(settings)
            if result is not None:
                return result
            try:
                return self._train(trial, settings, start, stop, on_step)
            except LackOfMemory as error:
                subdivisions = self._smaller_parts(trial, error)
            return_freed_memory()  # what failed holds none any longer
            print(f"{trial.name}: too little memory, next with {subdivisions} subdivisions", file=sys.stderr)

    def _smaller_parts(self, trial: PlannedTrial, error: LackOfMemory) -> int:
        """The number of subdivisions to try next; the error again where another number is not ours to choose."""
        is_open = self.experiment.subdivisions == "auto" and not trial.folder.is_begun
        if error.subdivisions is None or not is_open or self.processes.count > 1:  # the others have not met it
            raise error
        return error.subdivisions

    def _train(
        self,
        trial: PlannedTrial,
        settings: TrialSettings,
        start: Path | None,
        stop: StopQuestion,
        on_step: OnStep | None,
    ) -> TrialResult | None:
        train, val = self.processes.in_turn(lambda: self._pictures(trial, stop))
        limit = self.experiment.feature_cache_gib
        runtime = Runtime(self.processes, self.workspace.features, None if limit is None else round(limit * 2**30))
        report = (lambda step: on_step(trial, step)) if on_step else None
        detector = self._starting_detector(trial, start)
        return train_trial(trial.folder, settings, detector, trial.trained, train, val, stop, runtime, report)

    def _pictures(self, trial: PlannedTrial, stop: StopQuestion) -> tuple[ImageTensors, ImageTensors]:
        """Train and val at the network's size; one set is kept, since trials of a stage follow each other."""

        def decoded(_: int) -> None:
            if stop.is_set:
                raise Interrupted("the pictures are not read yet; the same command begins again")
            if self.on_decoded:
                self.on_decoded(trial.data.name, next(done), total)

        done = itertools.count(1)
        total = sum(len(trial.data.splits[split]) for split in ("train", "val"))
        if trial.data.root not in self._loaded:
            self._loaded.clear()
            size, resize = self.experiment.size, self.experiment.resize
            train, val = (
                load_images(trial.data.splits[split], size, size, resize, self.workspace.images, decoded)
                for split in ("train", "val")
            )
            self._loaded[trial.data.root] = (train, val)
        return self._loaded[trial.data.root]

    def _starting_detector(self, trial: PlannedTrial, start: Path | None) -> Detector:
        """The network with the start's weights; what the start does not hold is random by the trial's seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(trial.seed)
            detector = trial.network.build(self.experiment.loss, self.experiment.batch_norm_momentum)
        if start is not None:
            detector.load(start, trial.start.layers)
        return detector.to(self.processes.device)


def run_trials(
    experiment: Experiment,
    plan: list[PlannedTrial],
    workspace: Workspace,
    stop: StopQuestion,
    on_step: OnStep | None = None,
    processes: Processes | None = None,
    on_decoded: OnDecoded | None = None,
) -> Iterator[tuple[PlannedTrial, TrialResult | None]]:
    """Train what is not finished yet, one trial after the other, and yield each with its result.

    Raises:
        UserError: what one trial raised (see `Trials.run`), after the trials that do not depend on it are finished;
            also a batch that cannot be dealt to the processes.
    """
    processes = processes or this_process()
    trials = Trials(experiment, workspace, processes, on_decoded)
    refusals: dict[str, UserError] = {}
    for trial in plan:
        if trial.after is not None and trial.after.name in refusals:
            refusals[trial.name] = refusals[trial.after.name]
            continue
        try:
            result = trials.run(trial, stop, on_step)
        except UserError as error:
            if processes.count > 1:  # the others may not have met it
                raise
            refusals[trial.name] = error
            continue
        yield trial, result
    if refusals:
        raise first_of(list(refusals.values()), len(refusals))


def _require_equal_parts(settings: TrialSettings, processes: int) -> None:
    parts = processes * settings.subdivisions
    if settings.batch % parts:
        found = f"cannot be dealt to {processes} processes with {settings.subdivisions} subdivisions each"
        raise refuse(f"batch: {settings.batch}", found, f"set a multiple of {parts}, or start fewer processes")


def first_of(refusals: Sequence[UserError], untrained: int) -> UserError:
    """The first refusal, and how many trials are not trained because of it and others."""
    more = f" ({untrained} trials are not trained)" if untrained > 1 else ""
    return UserError(f"{refusals[0]}{more}")
