"""How good advice is: regret and cost on real and drawn targets with 5, 20 and 100 photos, beside simple rules.

    python tests/benchmarks/bench_advise.py SHARED [--root bench/advise] [--size 128] [--seeds 2]

First every case is swept (see advice_cases.py); what is finished is not trained again, so that it may be broken off.
"""

import argparse
from pathlib import Path

from advice_cases import Case, experiment_of, make_cases, start_experiment

from pipeline.experiment import Experiment
from pipeline.interrupt import StopRequest, stop_on_signals
from pipeline.progress import Bars
from pipeline.steps import step_note
from pipeline.train.loop import Step
from pipeline.train.stages import PlannedTrial, plan_trials
from pipeline.train.sweep import run_trials
from pipeline.train.trial import TrialResult
from pipeline.workspace import Workspace

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Sweep, ask for advice, compare, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, help="folder with facades/ and wpi_window/")
    parser.add_argument("--root", type=Path, default=Path("bench") / "advise")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "advise.json")
    options = parser.parse_args()
    workspace = Workspace(options.root.resolve())
    with Bars() as bars, stop_on_signals() as stop:
        sets, cases = make_cases(options.shared / "facades", options.shared / "wpi_window", workspace, bars)
        starts = {
            trial.stage.name: trial.folder.best_weights
            for trial in plan_trials(start_experiment(sets, options.size), workspace)
        }
        _train(start_experiment(sets, options.size), workspace, stop, bars)
        for seed in range(options.seeds):
            for case in cases:
                _sweep(case, starts, options.size, seed, workspace, stop, bars)


def _sweep(
    case: Case, starts: dict[str, Path], size: int, seed: int, workspace: Workspace, stop: StopRequest, bars: Bars
) -> dict[str, float]:
    """AP at the end of every arm of a case, by start and freeze count."""
    experiment = experiment_of(case, starts, size, (seed,))
    return {arm: result.best_ap50 for arm, result in _train(experiment, workspace, stop, bars).items()}


def _train(experiment: Experiment, workspace: Workspace, stop: StopRequest, bars: Bars) -> dict[str, TrialResult]:
    plan = plan_trials(experiment, workspace)

    def report(trial: PlannedTrial, step: Step) -> None:
        name = f"{experiment.name} {trial.name}"
        bars.show(name, step.iteration, trial.stage.iterations, step_note(step), is_minor=True)

    return {trial.arm: result for trial, result in run_trials(experiment, plan, workspace, stop, report) if result}


if __name__ == "__main__":
    main()
