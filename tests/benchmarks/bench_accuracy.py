"""Whether speed is paid for with accuracy: the same trials in the fast way and in the plain one, over several seeds.

    python tests/benchmarks/bench_accuracy.py FACADES [--root bench] [--seeds 3]

Fast is the default: bfloat16 where the machine has it, features of frozen layers kept for a fixed number of views.
Plain is float32, with a new view for every use and the frozen layers run each time. The weights after the last
iteration are tested on val and test together, so that nothing is chosen by what it is tested on.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from measure import write_result

from pipeline.experiment import DataSource, Experiment, Stage, Start
from pipeline.interrupt import stop_on_signals
from pipeline.progress import Bars
from pipeline.steps import curate_recipe, step_note
from pipeline.train.dataset import load_images
from pipeline.train.evaluate import evaluate
from pipeline.train.stages import plan_trials
from pipeline.train.sweep import run_trials
from pipeline.workspace import Workspace

HERE = Path(__file__).resolve().parent
RECIPES = HERE.parents[1] / "datasets"
WAYS: dict[str, dict[str, Any]] = {"fast": {}, "plain": {"precision": "float32", "views": 0}}


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
    with Bars() as bars, stop_on_signals() as stop:
        sets = {
            name: curate_recipe(RECIPES / f"facades-{name}.yaml", options.facades, workspace, bars).root
            for name in ("windows", "arch")
        }
        for way, settings in WAYS.items():
            experiment = _experiment(f"accuracy-{way}", sets, options.size, options.seeds, settings)
            plan = plan_trials(experiment, workspace)
            report = lambda trial, step: bars.show(trial.name, step.iteration, trial.stage.iterations, step_note(step))  # noqa: E731
            for trial, _ in run_trials(experiment, plan, workspace, stop, report):
                tested = [*trial.data.splits["val"], *trial.data.splits["test"]]
                data = load_images(tested, options.size, options.size, experiment.resize, workspace.images)
                detector = trial.network.build()
                detector.load(trial.folder.last_weights)
                arm = found.setdefault(f"{trial.stage.name}, freeze {trial.freeze}", {})
                arm.setdefault(way, []).append(evaluate(detector, data, trial.data.classes).ap50)
    for name, ways in found.items():
        print(f"{name:20} " + "   ".join(f"{way} {_spread(scores)}" for way, scores in ways.items()))
    write_result(options.out, sys.argv, {"ap50": found, "size": options.size})


def _experiment(name: str, sets: dict[str, Path], size: int, seeds: int, settings: dict[str, Any]) -> Experiment:
    windows = Stage(name="windows", data="windows", iterations=300, learning_rate_steps={250: 0.1})
    arch = Stage(
        name="arch",
        data="arch",
        starts=(Start(name="windows", stage="windows"),),
        freeze=(0, 13),
        iterations=200,
        learning_rate_steps={150: 0.1},
    )
    return Experiment(
        name=name,
        size=size,
        burn_in=50,
        seeds=tuple(range(seeds)),
        data={key: DataSource(path=root.resolve()) for key, root in sets.items()},
        stages=(windows, arch),
        **settings,
    )


def _spread(scores: list[float]) -> str:
    each = ", ".join(f"{100 * score:.1f}" for score in scores)
    deviation = f" ±{100 * statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    return f"{100 * statistics.mean(scores):.1f}{deviation} % (seeds: {each})"


if __name__ == "__main__":
    main()
