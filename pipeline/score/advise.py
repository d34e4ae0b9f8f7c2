"""Which start and freeze count to use for a target, by short probes instead of the whole sweep.

Every arm that freezes nothing untrained is probed for a few iterations, and what it will come to is predicted; the
better third is probed once more, for longer, with the rest of the budget (successive halving: Jamieson and Talwalkar
2016, in two rounds), and predicted again. How far such predictions were off elsewhere is the interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import refuse
from pipeline.experiment import Experiment
from pipeline.interrupt import StopQuestion
from pipeline.score.prediction import Calibration, Line, Prediction, predict
from pipeline.score.probes import Arm, OnStep, Probe, arms_of, run_probes
from pipeline.workspace import Workspace

__all__ = ["Advice", "Rated", "advise", "probe_rounds", "rate"]

_LEAST_ITERATIONS = 5  # of a probe; fewer tell nothing
_FINALISTS = 2  # at least, and a third of the arms


@dataclass(frozen=True)
class Rated:
    """An arm with its newest probe and what is predicted of it; None where nothing can be said."""

    probe: Probe
    prediction: Prediction | None

    @property
    def rank(self) -> tuple[float, float, float]:
        """Larger is better: what is predicted, what was measured, and the loss where nothing was found yet."""
        expected = self.prediction.ap50 if self.prediction else self.probe.ap50
        return expected, self.probe.ap50, -self.probe.loss


@dataclass(frozen=True)
class Advice:
    """What to do, and what it rests on.

    Attributes:
        rated: the arms of the last round, best first.
        probes: every probe, in order.
        vetoed: arms that freeze what their start never trained.
        sweep_cost: of one seed of the sweep without the vetoed arms, in iterations that train every layer.
    """

    stage: str
    rated: tuple[Rated, ...]
    probes: tuple[Probe, ...]
    vetoed: tuple[Arm, ...]
    sweep_cost: float

    @property
    def cost(self) -> float:
        """Of all probes, in iterations that train every layer."""
        return sum(probe.cost for probe in self.probes)

    @property
    def seconds(self) -> float:
        """Of training in all probes."""
        return sum(probe.seconds for probe in self.probes)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the first arm is the advice, the second the runner-up."""
        return {
            "stage": self.stage,
            "arms": [_row(rated) for rated in self.rated],
            "probes": [_probe_row(probe) for probe in self.probes],
            "vetoed": [{"arm": arm.name, "untrained": list(arm.untrained)} for arm in self.vetoed],
            "cost": self.cost,
            "sweep_cost": self.sweep_cost,
            "seconds": self.seconds,
        }


def advise(
    experiment: Experiment,
    stage: str,
    share: float,
    calibration: Calibration | None,
    workspace: Workspace,
    stop: StopQuestion,
    on_step: OnStep | None = None,
) -> Advice:
    """Probe the arms of a stage and rate them. share: of the sweep's cost that may be spent.

    Raises:
        UserError: no arm without veto; see `arms_of` and `run_probes`.
        Interrupted: after a stop; the same call goes on.
    """
    arms = arms_of(experiment, stage, workspace)
    vetoed = tuple(arm for arm in arms if arm.untrained)
    open_arms = [arm for arm in arms if not arm.untrained]
    if not open_arms:
        names = ", ".join(arm.name for arm in vetoed)
        raise refuse(f"stage {stage}", f"every arm freezes untrained layers ({names})", "add freeze count 0")
    rounds = probe_rounds(experiment, stage, open_arms, share, calibration, workspace, stop, on_step)
    return Advice(
        stage,
        tuple(rounds[-1]),
        tuple(rated.probe for rated_arms in rounds for rated in rated_arms),
        vetoed,
        sum(arm.sweep_cost for arm in open_arms),
    )


def probe_rounds(
    experiment: Experiment,
    stage: str,
    arms: list[Arm],
    share: float,
    calibration: Calibration | None,
    workspace: Workspace,
    stop: StopQuestion,
    on_step: OnStep | None = None,
) -> list[list[Rated]]:
    """All arms briefly, then the best for longer, each round for half of `share` of the sweep's cost.

    Returns:
        The arms of each round, best first.
    """
    budget = share * sum(arm.sweep_cost for arm in arms) / 2
    shorter = _iterations(arms, budget)
    probes = run_probes(experiment, stage, arms, shorter, workspace, stop, on_step)
    first = rate(probes, calibration.first if calibration else None)
    finalists = [rated.probe.arm for rated in first[: max(_FINALISTS, -(-len(arms) // 3))]]
    longer = _iterations(finalists, budget)
    if longer <= shorter:  # it would tell nothing new
        return [first]
    probes = run_probes(experiment, stage, finalists, longer, workspace, stop, on_step)
    return [first, rate(probes, calibration.second if calibration else None)]


def rate(probes: Sequence[Probe], line: Line | None) -> list[Rated]:
    """The arms of one round, best first."""
    rated = [Rated(probe, prediction) for probe, prediction in zip(probes, predict(line, probes), strict=True)]
    return sorted(rated, key=lambda one: one.rank, reverse=True)


def _iterations(arms: list[Arm], budget: float) -> int:
    """As many as the budget pays for every arm, at least a few, and no more than the sweep's."""
    most = min(arm.iterations for arm in arms)
    paid = (count for count in range(most, _LEAST_ITERATIONS, -1) if sum(arm.cost(count) for arm in arms) <= budget)
    return next(paid, min(_LEAST_ITERATIONS, most))


def _row(rated: Rated) -> dict[str, Any]:
    prediction = rated.prediction
    return _probe_row(rated.probe) | {
        "predicted_ap50": prediction.ap50 if prediction else None,
        "low": prediction.low if prediction else None,
        "high": prediction.high if prediction else None,
    }


def _probe_row(probe: Probe) -> dict[str, Any]:
    return {
        "arm": probe.arm.name,
        "iterations": probe.iterations,
        "ap50": probe.ap50,
        "loss": probe.loss,
        "cost": probe.cost,
        "seconds": probe.seconds,
    }
