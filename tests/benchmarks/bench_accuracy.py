"""Whether speed is paid for with accuracy: the same trials in the fast way and in the plain one, over several seeds.

    python tests/benchmarks/bench_accuracy.py FACADES [--root bench] [--seeds 3]

Fast is the default: bfloat16 where the machine has it, features of frozen layers kept for a fixed number of views.
Plain is float32, with a new view for every use and the frozen layers run each time. The weights after the last
iteration are tested on val and test together, so that nothing is chosen by what it is tested on.

Windows are trained from scratch both ways. The arch is trained from the plain windows of every seed in both ways, and
from the fast windows as well: so what is lost on the way can be told from what was lost in the start.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import write_result

from pipeline.curating import curate_recipe
from pipeline.experiment import DataSource, Experiment, Stage, Start
from pipeline.interrupt import StopRequest, stop_on_signals
from pipeline.progress import Bars
from pipeline.train.dataset import load_images
from pipeline.train.metrics import evaluate
from pipeline.train.stages import PlannedTrial, plan_trials
from pipeline.train.sweep import run_trials
from pipeline.training import step_note
from pipeline.workspace import Workspace

HERE = Path(__file__).resolve().parent
RECIPES = HERE.parents[1] / "datasets"
PLAIN: dict[str, Any] = {"precision": "float32", "views": 0}
WAYS: dict[str, dict[str, Any]] = {"fast": {}, "plain": PLAIN}


def main() -> None:
    """Train both ways, print AP per stage and freeze count, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("facades", type=Path)
    parser.add_argument("--root", type=Path, default=Path("bench"))
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "accuracy.json")
    options = parser.parse_args()
    workspace = Workspace(options.root)
    found: dict[str, dict[str, list[float]]] = {}
    starts: dict[str, list[Path]] = {}
    with Bars() as bars, stop_on_signals() as stop:
        sets = {
            name: curate_recipe(RECIPES / f"facades-{name}.yaml", options.facades, workspace, bars).root
            for name in ("windows", "arch")
        }
        for way, settings in WAYS.items():
            experiment = _windows(f"accuracy-windows-{way}", sets, options, settings)
            for trial, ap50 in _tested(experiment, workspace, stop, bars):
                found.setdefault("windows from scratch", {}).setdefault(way, []).append(ap50)
                starts.setdefault(way, []).append(trial.folder.last_weights.resolve())
        for way, settings in WAYS.items():
            for origin, files in starts.items():
                for seed, file in enumerate(files):
                    name = f"accuracy-arch-{way}-from-{origin}-{seed}"
                    experiment = _arch(name, sets, options, settings, file, seed)
                    for trial, ap50 in _tested(experiment, workspace, stop, bars):
                        arm = found.setdefault(f"arch from {origin} windows, freeze {trial.freeze}", {})
                        arm.setdefault(way, []).append(ap50)
    for name, ways in found.items():
        print(f"{name:36} " + "   ".join(f"{way} {_spread(scores)}" for way, scores in ways.items()))
    write_result(options.out, sys.argv, {"ap50": found, "size": options.size})


def _tested(
    experiment: Experiment, workspace: Workspace, stop: StopRequest, bars: Bars
) -> Iterator[tuple[PlannedTrial, float]]:
    """Every trial with its AP at IoU 0.5 on val and test together."""
    plan = plan_trials(experiment, workspace)
    report = lambda trial, step: bars.show(trial.name, step.iteration, trial.stage.iterations, step_note(step))  # noqa: E731
    for trial, _ in run_trials(experiment, plan, workspace, stop, report):
        tested = [*trial.data.splits["val"], *trial.data.splits["test"]]
        data = load_images(tested, experiment.size, experiment.size, experiment.resize, workspace.images)
        detector = trial.network.build()
        detector.load(trial.folder.last_weights)
        yield trial, evaluate(detector, data, trial.data.classes).ap50


def _windows(name: str, sets: dict[str, Path], options: argparse.Namespace, settings: dict[str, Any]) -> Experiment:
    stage = Stage(name="windows", data="windows", iterations=300, learning_rate_steps={250: 0.1})
    return _experiment(name, sets, options.size, tuple(range(options.seeds)), stage, settings)


def _arch(
    name: str, sets: dict[str, Path], options: argparse.Namespace, settings: dict[str, Any], start: Path, seed: int
) -> Experiment:
    starts = (Start(name="windows", weights=start),)
    steps = {150: 0.1}
    stage = Stage(name="arch", data="arch", starts=starts, freeze=(0, 13), iterations=200, learning_rate_steps=steps)
    return _experiment(name, sets, options.size, (seed,), stage, settings)


def _experiment(
    name: str, sets: dict[str, Path], size: int, seeds: tuple[int, ...], stage: Stage, settings: dict[str, Any]
) -> Experiment:
    data = {stage.data: DataSource(path=sets[stage.data].resolve())}
    return Experiment(name=name, size=size, burn_in=50, seeds=seeds, data=data, stages=(stage,), **settings)


def _spread(scores: list[float]) -> str:
    each = ", ".join(f"{100 * score:.1f}" for score in scores)
    deviation = f" ±{100 * statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    return f"{100 * statistics.mean(scores):.1f}{deviation} % (seeds: {each})"


if __name__ == "__main__":
    main()
