"""The command `skylight`: one verb per stage. What a verb does lies in its package, loaded when it is called."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.errors import UserError
from pipeline.interrupt import Interrupted

if TYPE_CHECKING:
    from pipeline.curate import CurationSummary
    from pipeline.experiment import Experiment
    from pipeline.progress import Bars
    from pipeline.train.stages import PlannedTrial, Workspace

__all__ = ["app", "main"]

_HELP = """From a few photos of one window to a detector that flies.

An experiment file says what to do; each stage leaves a folder that the next one reads:

curate: photos and recipe to data/SET, train: to runs/EXPERIMENT, export: to bundles/NAME-VERSION, detect: to boxes.

Exit status: 0 done, 2 something you can put right (one line says what), 130 stopped by Ctrl-C (what was kept is said).
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

_ExperimentFile = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="Experiment file (.yaml).")]
_Root = Annotated[Path, typer.Option("--root", help="Folder for data/, runs/ and bundles/.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def main() -> None:
    """Run the command line; what the user can put right is one line and exit status 2."""
    try:
        app()
    except UserError as error:
        _fail(str(error), 2)
    except Interrupted as stopped:
        _fail(f"stopped: {stopped}", 130)
    except KeyboardInterrupt:
        _fail("stopped at once; what was complete is kept", 130)
    except BrokenPipeError:
        sys.exit(1)


@app.command(epilog="Example: skylight curate experiments/facades.yaml")
def curate(experiment: _ExperimentFile, root: _Root = Path(), as_json: _Json = False) -> None:
    """Make every curated set of an experiment: data/SET, for Ultralytics and Darknet alike."""
    from pipeline.experiment import read_experiment
    from pipeline.progress import Bars
    from pipeline.train.stages import Workspace

    content = read_experiment(experiment)
    with Bars() as bars:
        summaries = list(_curate_all(content, Workspace(root), bars))
    if as_json:
        print(json.dumps([_curation_json(summary) for summary in summaries]))
        return
    for summary in summaries:
        print(_curation_text(summary))


@app.command(epilog="Example: skylight train experiments/facades.yaml")
def train(experiment: _ExperimentFile, root: _Root = Path(), as_json: _Json = False) -> None:
    """Train every trial of an experiment; trials that are finished stay, one that was broken off goes on."""
    from pipeline.experiment import read_experiment
    from pipeline.progress import Bars
    from pipeline.train.stages import Workspace

    content = read_experiment(experiment)
    workspace = Workspace(root)
    with Bars() as bars:
        plan = _train_all(content, workspace, bars)
    _report(content, plan, workspace, as_json)


@app.command(epilog="Example: skylight export experiments/facades.yaml")
def export(experiment: _ExperimentFile, root: _Root = Path(), as_json: _Json = False) -> None:
    """Make the bundle of an experiment from its best trial, after checking that nothing changed on the way."""
    from pipeline.experiment import read_experiment
    from pipeline.train.stages import Workspace

    bundle = _export(read_experiment(experiment), Workspace(root))
    if as_json:
        print(json.dumps({"bundle": str(bundle.root), "provenance": bundle.provenance, "parity": bundle.parity}))
        return
    origin = bundle.provenance
    print(f"{bundle.root}: {origin['stage']}/{origin['trial']}, AP@0.5 on val {100 * origin['best_ap50']:.1f} %")
    print("PyTorch against ONNX Runtime: " + ", ".join(f"{key} {value:g}" for key, value in bundle.parity.items()))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    epilog="Example: skylight detect --bundle bundles/arch-1 --source flight.mp4 --out out",
)
def detect(context: typer.Context) -> None:
    """Run a bundle on a picture, folder, video, camera or stream, with what flies alone (skylight-detect)."""
    from deploy.cli import main as detect_main

    sys.exit(detect_main(context.args))


@app.command(epilog="Example: skylight demo --root demo")
def demo(root: Annotated[Path, typer.Option("--root", help="Folder for all that is made.")] = Path("demo")) -> None:
    """The whole line on drawn building fronts, with nothing prepared: draw, curate, train, export, fly past."""
    from pipeline.demo import run_demo

    run_demo(root)


def _fail(message: str, status: int) -> None:
    print(f"skylight: {message}", file=sys.stderr)
    sys.exit(status)


def _curate_all(experiment: "Experiment", workspace: "Workspace", bars: "Bars") -> "list[CurationSummary]":
    from pipeline.curate import curate as make_set
    from pipeline.curate import read_recipe
    from pipeline.curated import read_curated_set
    from pipeline.train.stages import set_folder

    summaries = []
    for key, source in experiment.data.items():
        if source.recipe is None:
            read_curated_set(set_folder(source, workspace))
            continue
        recipe = read_recipe(source.recipe)

        def report(what: str, done: int, total: int, key: str = key) -> None:
            bars.show(f"curate {key}: {what}", done, total)

        summaries.append(make_set(recipe, source.source, set_folder(source, workspace), report))
    return summaries


def _train_all(experiment: "Experiment", workspace: "Workspace", bars: "Bars") -> "list[PlannedTrial]":
    from pipeline.interrupt import stop_on_signals
    from pipeline.train.loop import Step
    from pipeline.train.stages import plan_trials, run_trials

    plan = plan_trials(experiment, workspace)

    def on_step(trial: "PlannedTrial", step: Step) -> None:
        ap = "" if step.ap50 is None else f", AP {100 * step.ap50:.1f} %"
        note = f"loss {step.loss:.2f}{ap}, {step.images_per_second:.0f} images/s"
        bars.show(f"train {trial.name}", step.iteration, trial.stage.iterations, note)

    with stop_on_signals() as stop:
        for trial, result in run_trials(experiment, plan, stop, on_step=on_step):
            bars.show(
                f"train {trial.name}",
                trial.stage.iterations,
                trial.stage.iterations,
                f"best AP {100 * result.best_ap50:.1f} % at {result.best_iteration}",
            )
    return plan


def _report(experiment: "Experiment", plan: "list[PlannedTrial]", workspace: "Workspace", as_json: bool) -> None:
    from dataclasses import asdict

    from pipeline.report.plots import plot_ap
    from pipeline.report.table import arms_of_stage, table_text

    tables: dict[str, Any] = {}
    for stage in experiment.stages:
        arms = arms_of_stage(plan, stage.name)
        tables[stage.name] = [asdict(arm) for arm in arms]
        folder = workspace.stage(experiment.name, stage.name)
        plot_ap(arms, f"{experiment.name}: {stage.name}", folder / "ap.png")
        if not as_json:
            print(table_text(arms, f"{experiment.name}, stage {stage.name}"))
            print(f"plot: {folder / 'ap.png'}; weights: {folder}/*/best.weights\n")
    if as_json:
        print(json.dumps(tables))


def _export(experiment: "Experiment", workspace: "Workspace") -> Any:
    from pipeline.errors import refuse
    from pipeline.export.bundle import best_trial, export_bundle
    from pipeline.train.stages import plan_trials

    if experiment.export is None:
        raise refuse(f"experiment {experiment.name}", "has no key export", "add export: {stage: ..., name: ...}")
    trial = best_trial(experiment.export, plan_trials(experiment, workspace))
    return export_bundle(experiment.export, trial, workspace.bundles)


def _curation_json(summary: "CurationSummary") -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(summary), "root": str(summary.root)}


def _curation_text(summary: "CurationSummary") -> str:
    lines = [f"{summary.root}" + (" (up to date)" if summary.up_to_date else "")]
    lines += [f"  {row.rule:32} {row.images:7} images {row.boxes:8} boxes" for row in summary.remaining]
    lines += [f"  {name:32} {count.images:7} images {count.boxes:8} boxes" for name, count in summary.splits.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
