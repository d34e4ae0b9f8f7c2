"""The trials of an experiment on Ray: several at once, on this machine or on every node of a cluster.

A trial is a task of Ray that trains as it would alone, in a process of its own; a task whose process dies is started
again, on any node, and goes on from the trial's state. The workspace must lie on a path that all nodes see, where files
can be locked (NFS can). Knows nothing about how a trial trains.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import UserError, refuse
from pipeline.experiment import Experiment
from pipeline.interrupt import Interrupted, StopQuestion
from pipeline.train.loop import Step
from pipeline.train.places import Places, Share, connected, share_with_room, trials_here
from pipeline.train.stages import PlannedTrial, start_file
from pipeline.train.sweep import OnStep, Trials, first_of
from pipeline.train.trial import TrialResult
from pipeline.workspace import Workspace

__all__ = ["run_trials_on_ray"]

_RESTARTS = 20  # of a trial whose process dies, until it is given up
_ASK_EVERY = 0.5  # seconds between a trial's reports, and between looks at them


@dataclass(frozen=True)
class _Outcome:
    """How a trial ended: one of the three is given. The texts are for the user."""

    result: TrialResult | None = None
    refusal: str | None = None
    interruption: str | None = None


def run_trials_on_ray(
    experiment: Experiment,
    plan: list[PlannedTrial],
    workspace: Workspace,
    stop: StopQuestion,
    on_step: OnStep | None,
    places: Places,
) -> Iterator[tuple[PlannedTrial, TrialResult]]:
    """Train what is not finished and yield each trial with its result, as they finish.

    Args:
        plan: made for this workspace, whose root is absolute.
        stop: asked now and then; if set, every running trial saves its state.

    Raises:
        UserError: what one trial raised; the trials that do not depend on it are finished first. No cluster at the
            address, no node with room for a trial, a node that does not see the workspace.
        Interrupted: after a stop; the same call goes on.
    """
    with connected(places), _token(workspace) as token:
        share = share_with_room(places)
        yield from _Sweep(experiment, plan, workspace, token, share, places.workers).run(stop, on_step)


class _Sweep:
    """The driver's side: which trials wait, run, and are done."""

    def __init__(
        self,
        experiment: Experiment,
        plan: list[PlannedTrial],
        workspace: Workspace,
        token: Path,
        share: Share,
        workers: int | None,
    ) -> None:
        import ray

        self._workspace, self._plan, self._workers = workspace, plan, workers or len(plan)
        self._waiting = list(range(len(plan)))
        self._running: dict[Any, int] = {}
        self._done: set[str] = set()
        self._refusals: list[str] = []
        self._interruptions: list[str] = []
        # If its node dies it starts again elsewhere, empty: steps come again, and `stop` is said again every time.
        self._board: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Board).remote()
        self._common = (ray.put(experiment), workspace, token, share, self._board)
        # A process per trial: it gives back all memory of the GPU, and nothing is left of the trial before.
        options: dict[str, Any] = {
            "max_calls": 1,
            "max_retries": _RESTARTS,
            "num_cpus": share.cpus,
            "num_gpus": share.gpus,
        }
        self._task = ray.remote(**options)(_train)

    def run(self, stop: StopQuestion, on_step: OnStep | None) -> Iterator[tuple[PlannedTrial, TrialResult]]:
        import ray

        while self._start_ready() or self._running:
            ended, _ = ray.wait(list(self._running), timeout=_ASK_EVERY)
            self._show(on_step)
            for task in ended:
                trial = self._plan[self._running.pop(task)]
                result = self._take(trial, task)
                if result is not None:
                    yield trial, result
            if stop.is_set:
                self._waiting.clear()
                ray.get(self._board.stop.remote())
        if self._refusals:
            raise first_of([UserError(text) for text in self._refusals], len(self._plan) - len(self._done))
        if self._interruptions or len(self._done) < len(self._plan):
            raise Interrupted(_summary(self._interruptions, len(self._plan) - len(self._done)))

    def _start_ready(self) -> bool:
        """Hand Ray the waiting trials whose start is there; whether any was."""
        ready = [number for number in self._waiting if self._is_ready(self._plan[number])]
        ready = ready[: self._workers - len(self._running)]
        for number in ready:
            trial = self._plan[number]
            start_file(trial, self._workspace)  # published weights are downloaded once, here
            self._waiting.remove(number)
            self._running[self._task.remote(*self._common, trial, number)] = number
        return bool(ready)

    def _is_ready(self, trial: PlannedTrial) -> bool:
        return trial.after is None or trial.after.name in self._done

    def _take(self, trial: PlannedTrial, task: Any) -> TrialResult | None:
        import ray

        try:
            outcome: _Outcome = ray.get(task)
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError):
            found = f"its process died {_RESTARTS + 1} times, which lack of memory does"
            remedy = "give it more with --cpus-per-trial or --gpus-per-trial; the same command goes on"
            outcome = _Outcome(refusal=str(refuse(trial.folder.root, found, remedy)))
        if outcome.refusal is not None:
            self._refusals.append(outcome.refusal)
        if outcome.interruption is not None:
            self._interruptions.append(outcome.interruption)
        if outcome.result is not None:
            self._done.add(trial.name)
        return outcome.result

    def _show(self, on_step: OnStep | None) -> None:
        import ray

        steps: dict[int, Step] = ray.get(self._board.take.remote())
        for number, step in steps.items():
            if on_step:
                on_step(self._plan[number], step)


def _summary(interruptions: list[str], unfinished: int) -> str:
    kept = [text for text in interruptions if text]
    if len(kept) == 1:
        return kept[0]
    return f"{unfinished} trials are not finished, {len(kept)} of them kept where they are; the same command goes on"


class _Board:
    """Where trials leave what there is to show and read whether to stop; an actor of Ray."""

    def __init__(self) -> None:
        self._steps: dict[int, Step] = {}
        self._is_stopping = False

    def report(self, number: int, step: Step | None) -> bool:
        """Leave the newest step of a trial; whether it must stop."""
        if step is not None:
            self._steps[number] = step
        return self._is_stopping

    def take(self) -> dict[int, Step]:
        """The steps that came since the last time, by the trial's number."""
        steps, self._steps = self._steps, {}
        return steps

    def stop(self) -> None:
        """Tell every trial that asks."""
        self._is_stopping = True


class _Line:
    """A trial's end of the line to the board: passes steps on and asks whether to stop, without waiting for either."""

    def __init__(self, board: Any, number: int) -> None:
        import ray

        self._board, self._number = board, number
        self._step: Step | None = None
        self._is_stopping: bool = ray.get(board.report.remote(number, None))
        self._asked: Any = None
        self._asked_at = time.monotonic()

    def show(self, _trial: PlannedTrial, step: Step) -> None:
        """Keep a step for the next report."""
        self._step = step

    @property
    def is_set(self) -> bool:
        """Whether the trial must stop, as far as is known now."""
        import ray

        if self._asked is not None:
            answered, _ = ray.wait([self._asked], timeout=0)
            if answered:
                self._is_stopping, self._asked = ray.get(self._asked), None
        elif time.monotonic() - self._asked_at > _ASK_EVERY:
            self._asked = self._board.report.remote(self._number, self._step)
            self._asked_at = time.monotonic()
        return self._is_stopping


def _train(
    experiment: Experiment,
    workspace: Workspace,
    token: Path,
    share: Share,
    board: Any,
    trial: PlannedTrial,
    number: int,
) -> _Outcome:
    """Train a trial in this process of Ray, on what Ray gave it."""
    import ray

    from pipeline.train.processes import this_process

    if not token.exists():
        here = ray.util.get_node_ip_address()
        return _Outcome(refusal=str(_unshared(workspace, here)))
    line = _Line(board, number)
    if line.is_set:
        return _Outcome(interruption="")
    if not share.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # CUDA was not touched yet in this process
    torch.set_num_threads(share.cpus)
    processes = replace(this_process(), host_share=1 / trials_here(share), device_share=share.gpus or 1.0)
    trials = Trials(experiment, workspace, processes)
    try:
        return _Outcome(result=trials.run(trial, line, line.show))
    except UserError as error:
        return _Outcome(refusal=str(error))
    except Interrupted as stopped:
        return _Outcome(interruption=str(stopped))


def _unshared(workspace: Workspace, node: str) -> UserError:
    return refuse(
        workspace.root, f"node {node} does not see it", "give --root a folder that all nodes share at the same path"
    )


@contextmanager
def _token(workspace: Workspace) -> Iterator[Path]:
    """A file that shows a node that it sees the same workspace."""
    workspace.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=".seen-by-all-nodes-", dir=workspace.cache) as file:
        yield Path(file.name)
