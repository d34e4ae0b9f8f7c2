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
from pipeline.score.advise import Rated, probe_rounds, rate
from pipeline.score.prediction import Calibration, Line, features, fit_line, write_calibration
from pipeline.score.probes import Arm, Probe, arms_of
from pipeline.train.loop import Step
from pipeline.train.stages import PlannedTrial, plan_trials
from pipeline.train.sweep import run_trials
from pipeline.train.trial import TrialResult
from pipeline.training import step_note
from pipeline.workspace import Workspace

HERE = Path(__file__).resolve().parent
SHARE = 0.1


@dataclass(frozen=True)
class Swept:
    """A case with the truth, its first probes and what the rules go by. ap50: by arm, mean over seeds."""

    case: Case
    experiment: Experiment
    ap50: dict[str, float]
    arms: list[Arm]
    first: list[Probe]
    signals: Signals

    @property
    def sweep_cost(self) -> float:
        """Of one seed."""
        return sum(arm.sweep_cost for arm in self.arms)

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
        advised = _advised(cases, workspace, stop)
        untold = {c.case.name: probe_rounds(*_question(c), None, workspace, stop)[-1][0] for c in cases}
    regrets = {"advice": {name: one.regret for name, one in advised.items()}}
    regrets["its first round alone"] = {name: one.regret_of_first for name, one in advised.items()}
    regrets["probes without prediction"] = {c.case.name: c.regret(untold[c.case.name].probe.arm.name) for c in cases}
    for name, rule in RULES.items():
        regrets[name] = {}
        for c in cases:
            others = [(o.signals, o.ap50) for o in cases if o.case.target != c.case.target]
            regrets[name][c.case.name] = _regret_of(c, rule(c.signals, others))
    _show(regrets)
    rows = [_row(c, advised[c.case.name]) for c in cases]
    if options.calibrate:
        firsts = _line([(c, c.first) for c in cases])
        write_calibration(Calibration(firsts, _line([(c, advised[c.case.name].longer) for c in cases])))
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
        first = [one.probe for one in probe_rounds(experiment, "target", arms, SHARE, None, workspace, stop)[0]]
        null = null_experiment(sets, starts, options.size, first[0].iterations)
        _train(null, workspace, stop, bars)
        signals = read_signals(case, experiment, first, null, workspace)
        means = {arm: statistics.mean(values) for arm, values in ends[case.name].items()}
        found.append(Swept(case, experiment, means, arms, first, signals))
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


@dataclass(frozen=True)
class Advised:
    """What was advised for a case, every line being fitted on the other targets. longer: probes of the second round."""

    first: Rated
    last: Rated
    longer: list[Probe]
    cost: float
    seconds: float
    regret: float
    regret_of_first: float


def _question(c: Swept) -> tuple[Experiment, str, list[Arm], float]:
    return c.experiment, "target", c.arms, SHARE


def _advised(cases: list[Swept], workspace: Workspace, stop: StopRequest) -> dict[str, Advised]:
    """By the name of the case. The second round's line is fitted on the arms that reached it on the other targets."""
    firsts = {target: _line([(c, c.first) for c in cases if c.case.target != target]) for target in _targets(cases)}
    rounds = {}
    for c in cases:
        line = firsts[c.case.target]
        rounds[c.case.name] = probe_rounds(*_question(c), Calibration(line, line), workspace, stop)
    longer = {name: [rated.probe for rated in both[-1]] for name, both in rounds.items()}
    found = {}
    for c in cases:
        second = _line([(o, longer[o.case.name]) for o in cases if o.case.target != c.case.target])
        first, last = rounds[c.case.name][0], rate(longer[c.case.name], second)
        probes = [*c.first, *longer[c.case.name]]
        found[c.case.name] = Advised(
            first=first[0],
            last=last[0],
            longer=longer[c.case.name],
            cost=sum(probe.cost for probe in probes),
            seconds=sum(probe.seconds for probe in probes),
            regret=c.regret(last[0].probe.arm.name),
            regret_of_first=c.regret(first[0].probe.arm.name),
        )
    return found


def _line(pairs: list[tuple[Swept, list[Probe]]]) -> Line:
    """Through the probes of one round on these cases."""
    return fit_line(
        [row for _, probes in pairs for row in features(probes)],
        [c.ap50[probe.arm.name] for c, probes in pairs for probe in probes],
        [c.case.target for c, probes in pairs for _ in probes],
    )


def _regret_of(c: Swept, choice: dict[str, float]) -> float:
    """choice: the arm, or the arms with the chance of each."""
    return sum(chance * c.regret(arm) for arm, chance in choice.items())


def _row(c: Swept, advised: Advised) -> dict[str, Any]:
    prediction = advised.last.prediction
    assert prediction is not None
    arm = advised.last.probe.arm.name
    return {
        "case": c.case.name,
        "target": c.case.target,
        "photos": c.case.photos,
        "ap50": c.ap50,
        "advised": arm,
        "regret": advised.regret,
        "predicted": asdict(prediction),
        "is_covered": prediction.low <= c.ap50[arm] <= prediction.high,
        "cost": advised.cost,
        "sweep_cost": c.sweep_cost,
        "seconds": advised.seconds,
        "probes": [
            {"arm": probe.arm.name, "iterations": probe.iterations, "ap50": probe.ap50, "loss": probe.loss}
            for probe in (*c.first, *advised.longer)
        ],
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
