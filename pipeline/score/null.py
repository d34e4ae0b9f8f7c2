"""The null task: what a start's weights do when training simply goes on, on the data they came from.

For every trial that starts from an earlier stage it is a trial of its own: that stage's best weights, that stage's
data, and the freezing, learning rates and seed of the trial that it is for, up to the iteration of that trial's best
weights.
These are planned and trained as all trials are, in `runs/<experiment>/null/<stage>-<iterations>/`. Heads that the trial
began at random go on in the null task: only what is compared must be alike.
"""

from collections.abc import Mapping, Sequence

from pipeline.experiment import Experiment, Stage, Start
from pipeline.train.freeze import freeze_label
from pipeline.train.stages import PlannedTrial, plan_trials
from pipeline.train.trial import TrialResult
from pipeline.workspace import Workspace

__all__ = ["Finished", "plan_null"]

Finished = Sequence[tuple[PlannedTrial, TrialResult]]


def plan_null(
    experiment: Experiment, finished: Finished, workspace: Workspace
) -> tuple[Experiment, Mapping[str, PlannedTrial]]:
    """The experiment with its null stages, and the null trial of each finished trial by the latter's name.

    Starts that take the same weights share a null trial. Trials that start from chance, from a file or from published
    weights have none: their data is not here.

    Raises:
        UserError: see `plan_trials`.
    """
    derived = _null_experiment(experiment, finished)
    planned = {trial.name: trial for trial in plan_trials(derived, workspace)}
    of_trial = {}
    for trial, result in finished:
        if trial.after is not None:
            stage, start = _null_stage(trial.stage, result), _null_start(trial, trial.after)
            of_trial[trial.name] = planned[f"{stage}/{start.name}-f{freeze_label(trial.freeze)}-s{trial.seed}"]
    return derived, of_trial


def _null_experiment(experiment: Experiment, finished: Finished) -> Experiment:
    """The experiment with a null stage more for each stage, start, freeze and number of iterations."""
    stages: dict[tuple[str, str, str], Stage] = {}
    for trial, result in finished:
        if trial.after is None:
            continue
        name, start = _null_stage(trial.stage, result), _null_start(trial, trial.after)
        key = (name, start.name, freeze_label(trial.freeze))
        before = stages.get(key)
        seeds = {trial.seed} if before is None or before.seeds is None else {*before.seeds, trial.seed}
        changes = {
            "name": name,
            "data": trial.after.stage.data,
            "starts": (start,),
            "iterations": result.best_iteration,
            "seeds": tuple(sorted(seeds)),
            "evaluate_at": (),  # its last weights count, and the last iteration is measured always
            "evaluate_every": None,
            "stop_early": None,
            "checkpoint_every": None,
        }
        stages[key] = trial.stage.model_copy(update=changes)
    return experiment.model_copy(update={"stages": (*experiment.stages, *stages.values())})


def _null_stage(stage: Stage, result: TrialResult) -> str:
    return f"null/{stage.name}-{result.best_iteration}"


def _null_start(trial: PlannedTrial, after: PlannedTrial) -> Start:
    """All the weights of the trial that it started from."""
    name = f"{after.stage.name}-{after.arm}"  # may be longer than a name in an experiment file
    return Start(name="start", stage=after.stage.name, trial=after.arm, freeze=(trial.freeze,)).model_copy(
        update={"name": name}
    )
