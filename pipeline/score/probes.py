"""Short trainings of the arms of a stage, each with a whole schedule of its own, on a seed that no sweep uses.

An arm is a start with a freeze count. Knows nothing about what is concluded from a probe.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import refuse
from pipeline.experiment import DataSource, Experiment, Freeze, Stage, Start
from pipeline.interrupt import StopQuestion
from pipeline.score.cost import Cost, training_cost
from pipeline.train.freeze import freeze_label
from pipeline.train.stages import PlannedTrial, plan_trials, require_current
from pipeline.train.sweep import OnStep, run_trials
from pipeline.workspace import Workspace, probing

__all__ = ["Arm", "Probe", "arms_of", "run_probes"]


@dataclass(frozen=True)
class Arm:
    """A start with a freeze count.

    Attributes:
        start: with its weights as a file, where it was an earlier stage.
        frozen: numbers of the layers that `freeze` means. untrained: those of them that the start never trained.
        unit: what training it costs.
        iterations, batch: of the sweep's trial. photos: that it trains on.
    """

    start: Start
    freeze: Freeze
    frozen: tuple[int, ...]
    untrained: tuple[int, ...]
    unit: Cost
    iterations: int
    batch: int
    photos: int

    @property
    def name(self) -> str:
        """As in the names of trials."""
        return f"{self.start.name}-f{freeze_label(self.freeze)}"

    def cost(self, iterations: int) -> float:
        """Of training it for so long, in iterations that train every layer."""
        return self.unit.of(iterations, self.batch, self.photos)

    @property
    def sweep_cost(self) -> float:
        """Of its trial in the sweep."""
        return self.cost(self.iterations)


@dataclass(frozen=True)
class Probe:
    """What a short training came to. ap50, loss: on val. cost: in iterations that train every layer."""

    arm: Arm
    iterations: int
    ap50: float
    loss: float
    cost: float
    seconds: float


def arms_of(experiment: Experiment, stage_name: str, workspace: Workspace) -> list[Arm]:
    """Every arm of a stage, those too that freeze what was never trained.

    Raises:
        UserError: no such stage, what `plan_trials` refuses, an earlier stage that is not trained yet.
    """
    stages = tuple(stage.model_copy(update={"freeze_untrained": True}) for stage in experiment.stages)
    if stage_name not in [stage.name for stage in stages]:
        allowed = ", ".join(stage.name for stage in stages)
        raise refuse(f"--stage {stage_name}", f"no stage of {experiment.name}", f"allowed: {allowed}")
    plan = plan_trials(experiment.model_copy(update={"stages": stages}), workspace)
    trials = {trial.arm: trial for trial in reversed(plan) if trial.stage.name == stage_name}
    costs: dict[tuple[int, ...], Cost] = {}
    arms = []
    for trial in reversed(trials.values()):
        if trial.frozen not in costs:
            costs[trial.frozen] = training_cost(trial.network, trial.frozen)
        untrained = tuple(index for index in trial.frozen if index not in trial.trained)
        arms.append(
            Arm(
                start=_fixed(experiment, trial, workspace),
                freeze=trial.freeze,
                frozen=trial.frozen,
                untrained=untrained,
                unit=costs[trial.frozen],
                iterations=trial.stage.iterations,
                batch=experiment.batch,
                photos=len(trial.data.splits["train"]),
            )
        )
    return arms


def run_probes(
    experiment: Experiment,
    stage_name: str,
    arms: Sequence[Arm],
    iterations: int,
    workspace: Workspace,
    stop: StopQuestion,
    on_step: OnStep | None = None,
) -> list[Probe]:
    """Train every arm for so many iterations; what is finished is not trained again.

    Raises:
        UserError, Interrupted: see `run_trials`.
    """
    short = _short(experiment, stage_name, arms, iterations)
    by_name = {arm.name: arm for arm in arms}
    probes = []
    for trial, result in run_trials(short, plan_trials(short, workspace), workspace, stop, on_step):
        assert result is not None
        arm, last = by_name[trial.arm], trial.folder.evaluations()[-1]
        loss = float("inf") if last.loss is None else last.loss
        probes.append(Probe(arm, iterations, last.ap50, loss, arm.cost(iterations), result.seconds))
    return probes


def _fixed(experiment: Experiment, trial: PlannedTrial, workspace: Workspace) -> Start:
    """The trial's start, independent of the stages of its experiment; what it starts from must be up to date."""
    start = trial.start
    if trial.after is None:
        return start
    if trial.after.folder.read()[1] is None:
        raise refuse(trial.after.folder.root, "is not finished", "run skylight train up to that stage first")
    require_current(experiment, trial.after, workspace)
    return Start(name=start.name, weights=trial.after.folder.best_weights.resolve(), layers=start.layers)


def _short(experiment: Experiment, stage_name: str, arms: Sequence[Arm], iterations: int) -> Experiment:
    """The experiment with that stage alone, its warm-up and its last, slower part in proportion."""
    stage = next(stage for stage in experiment.stages if stage.name == stage_name)
    by_start: dict[str, list[Arm]] = {}
    for arm in arms:
        by_start.setdefault(arm.start.name, []).append(arm)
    starts = tuple(
        group[0].start.model_copy(update={"freeze": tuple(arm.freeze for arm in group)}) for group in by_start.values()
    )
    short = Stage(
        name=f"{stage.name}-{iterations}",
        data=stage.data,
        starts=starts,
        iterations=iterations,
        learning_rate=stage.learning_rate,
        learning_rate_steps={max(1, iterations * 4 // 5): 0.1},
        seeds=(max(stage.seeds or experiment.seeds) + 1,),
    )
    data: dict[str, DataSource] = {stage.data: experiment.data[stage.data]}
    changes = {
        "name": probing(experiment.name),
        "burn_in": iterations // 5 if experiment.burn_in else 0,
        "data": data,
        "stages": (short,),
        "export": None,
    }
    return experiment.model_copy(update=changes)
