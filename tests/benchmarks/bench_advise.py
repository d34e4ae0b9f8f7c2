"""How good advice is: regret and cost on real and drawn targets with 5, 20 and 100 photos, beside simple rules.

    python tests/benchmarks/bench_advise.py SHARED [--root bench/advise] [--size 128] [--seeds 2]

First every case is swept (see advice_cases.py); what is finished is not trained again, so that it may be broken off.
Regret is the AP of the best arm less that of the arm that was chosen, both means over the sweep's seeds; of a case, the
arms that freeze untrained layers being left out. Whatever is fitted, for advice or for a rule, is fitted on the other
targets. Cost is in iterations that train every layer, of one seed of the sweep.
"""

import argparse
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from advice_cases import Case, experiment_of, make_cases, null_experiment, start_experiment
from advice_rules import RULES, Signals, read_signals
from measure import write_result

from pipeline.experiment import Experiment
from pipeline.interrupt import StopRequest, stop_on_signals
from pipeline.progress import Bars
from pipeline.score.advise import Rated, probe_rounds
from pipeline.score.prediction import Calibration, calibrate, features, predict, write_calibration
from pipeline.score.probes import Probe, arms_of
from pipeline.steps import step_note
from pipeline.train.loop import Step
from pipeline.train.stages import PlannedTrial, plan_trials
from pipeline.train.sweep import run_trials
from pipeline.train.trial import TrialResult
from pipeline.workspace import Workspace

HERE = Path(__file__).resolve().parent
SHARE = 0.1


@dataclass(frozen=True)
class Swept:
    """A case with the truth, its probes and what the rules go by. ap50: by arm, mean over seeds."""

    case: Case
    ap50: dict[str, float]
    rounds: list[list[Probe]]
    signals: Signals
    sweep_cost: float

    @property
    def best(self) -> float:
        """What hindsight would choose."""
        return max(self.ap50.values())

    def regret(self, arm: str) -> float:
        """AP that is lost by choosing this arm."""
        return self.best - self.ap50[arm]


def main() -> None:
    """Sweep, ask for advice, compare, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, help="folder with facades/ and wpi_window/")
    parser.add_argument("--root", type=Path, default=Path("bench") / "advise")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "advise.json")
    parser.add_argument("--calibrate", action="store_true", help="make the fit the one that comes with the project")
    options = parser.parse_args()
    workspace = Workspace(options.root.resolve())
    with Bars() as bars, stop_on_signals() as stop:
        cases = _swept(options, workspace, stop, bars)
    calibrations = {target: _fitted([c for c in cases if c.case.target != target]) for target in _targets(cases)}
    chosen = {c.case.name: _advised(c, calibrations[c.case.target]) for c in cases}
    regrets = {"advice": {c.case.name: c.regret(chosen[c.case.name].probe.arm.name) for c in cases}}
    regrets["probes without prediction"] = {c.case.name: c.regret(_advised(c, None).probe.arm.name) for c in cases}
    for name, rule in RULES.items():
        regrets[name] = {}
        for c in cases:
            others = [(o.signals, o.ap50) for o in cases if o.case.target != c.case.target]
            regrets[name][c.case.name] = _regret_of(c, rule(c.signals, others))
    _show(regrets)
    rows = [_row(c, chosen[c.case.name]) for c in cases]
    if options.calibrate:
        write_calibration(_fitted(cases))
    summary = {name: _summary(list(row.values())) for name, row in regrets.items()}
    covered = statistics.mean(row["is_covered"] for row in rows)
    part = statistics.mean(row["cost"] / row["sweep_cost"] for row in rows)
    print(f"cost of advice: {100 * part:.1f} % of the sweep's; inside the interval: {100 * covered:.0f} %")
    settings = {"size": options.size, "seeds": options.seeds, "share": SHARE}
    write_result(options.out, sys.argv, settings | {"summary": summary, "regrets": regrets, "cases": rows})


def _swept(options: argparse.Namespace, workspace: Workspace, stop: StopRequest, bars: Bars) -> list[Swept]:
    sets, cases = make_cases(options.shared / "facades", options.shared / "wpi_window", workspace, bars)
    begin = start_experiment(sets, options.size)
    _train(begin, workspace, stop, bars)
    starts = {trial.stage.name: trial.folder.best_weights for trial in plan_trials(begin, workspace)}
    ends: dict[str, dict[str, list[float]]] = {case.name: {} for case in cases}
    for seed in range(options.seeds):
        for case in cases:
            experiment = experiment_of(case, starts, options.size, (seed,))
            for trial, result in _train(experiment, workspace, stop, bars).items():
                ends[case.name].setdefault(trial, []).append(result.best_ap50)
    found = []
    for case in cases:
        experiment = experiment_of(case, starts, options.size, (0,))
        arms = arms_of(experiment, "target", workspace)
        rounds = probe_rounds(experiment, "target", arms, SHARE, workspace, stop)
        null = null_experiment(sets, starts, options.size, rounds[0][0].iterations)
        _train(null, workspace, stop, bars)
        signals = read_signals(case, experiment, rounds[0], null, workspace)
        means = {arm: statistics.mean(values) for arm, values in ends[case.name].items()}
        found.append(Swept(case, means, rounds, signals, sum(arm.sweep_cost for arm in arms)))
        bars.show("advice", len(found), len(cases), case.name)
    return found


def _train(experiment: Experiment, workspace: Workspace, stop: StopRequest, bars: Bars) -> dict[str, TrialResult]:
    plan = plan_trials(experiment, workspace)

    def report(trial: PlannedTrial, step: Step) -> None:
        name = f"{experiment.name} {trial.name}"
        bars.show(name, step.iteration, trial.stage.iterations, step_note(step), is_minor=True)

    return {trial.arm: result for trial, result in run_trials(experiment, plan, workspace, stop, report) if result}


def _targets(cases: list[Swept]) -> list[str]:
    return list(dict.fromkeys(c.case.target for c in cases))


def _fitted(cases: list[Swept]) -> Calibration:
    """What probes of the last round came to, on these cases."""
    pairs = [(c, probe) for c in cases for probe in c.rounds[-1]]
    return calibrate(
        [features(probe) for _, probe in pairs],
        [c.ap50[probe.arm.name] for c, probe in pairs],
        [c.case.target for c, _ in pairs],
    )


def _advised(c: Swept, calibration: Calibration | None) -> Rated:
    return max((Rated(probe, predict(calibration, probe)) for probe in c.rounds[-1]), key=lambda rated: rated.rank)


def _regret_of(c: Swept, choice: dict[str, float]) -> float:
    """choice: the arm, or the arms with the chance of each."""
    return sum(chance * c.regret(arm) for arm, chance in choice.items())


def _row(c: Swept, rated: Rated) -> dict[str, Any]:
    assert rated.prediction is not None
    end = c.ap50[rated.probe.arm.name]
    return {
        "case": c.case.name,
        "target": c.case.target,
        "photos": c.case.photos,
        "ap50": c.ap50,
        "advised": rated.probe.arm.name,
        "regret": c.regret(rated.probe.arm.name),
        **asdict(rated.prediction),
        "is_covered": rated.prediction.low <= end <= rated.prediction.high,
        "cost": sum(probe.cost for probes in c.rounds for probe in probes),
        "sweep_cost": c.sweep_cost,
        "seconds": sum(probe.seconds for probes in c.rounds for probe in probes),
    }


def _summary(regrets: list[float]) -> dict[str, float]:
    return {"mean": statistics.mean(regrets), "p90": float(np.quantile(regrets, 0.9)), "worst": max(regrets)}


def _show(regrets: dict[str, dict[str, float]]) -> None:
    print(f"{'regret in points of AP':32} {'mean':>6} {'P90':>6} {'worst':>6}")
    for name, row in regrets.items():
        points = _summary(list(row.values()))
        print(f"{name:32} {100 * points['mean']:6.1f} {100 * points['p90']:6.1f} {100 * points['worst']:6.1f}")


if __name__ == "__main__":
    main()
