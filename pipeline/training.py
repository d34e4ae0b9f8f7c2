"""What `skylight train`, `weights`, `evaluate` and `advise` do, with bars, plots and tables. Prints nothing."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.darknet.known import fetch_known, known_weights
from pipeline.experiment import Experiment
from pipeline.files import write_json
from pipeline.interrupt import stop_on_signals
from pipeline.progress import Bars
from pipeline.report.ap_plot import plot_ap
from pipeline.report.table import Arm, arms_of_stage, curves_text, table_text
from pipeline.score.advise import Advice, advise
from pipeline.score.prediction import read_calibration
from pipeline.train.cluster import run_trials_on_ray
from pipeline.train.evaluate import Evaluated, evaluate_network
from pipeline.train.loop import Step
from pipeline.train.pairing import Wish
from pipeline.train.places import Places
from pipeline.train.processes import Processes
from pipeline.train.stages import PlannedTrial, plan_trials
from pipeline.train.sweep import run_trials
from pipeline.train.trial import TrialResult
from pipeline.workspace import Workspace

__all__ = [
    "advise_with_bars",
    "download_weights",
    "evaluate_with_bars",
    "run_plan",
    "step_note",
    "tables_text",
    "train_trials",
    "write_tables",
]


def train_trials(
    experiment: Experiment, workspace: Workspace, bars: Bars, processes: Processes, places: Places | None = None
) -> list[PlannedTrial]:
    """Train what is not finished, with a bar per trial; Ctrl-C saves and raises Interrupted.

    places: several trials at once, on Ray; None trains one after the other in this process.
    """
    if places is not None:
        workspace = Workspace(workspace.root.resolve())  # other processes work in other folders
    plan = plan_trials(experiment, workspace)
    run_plan(experiment, plan, workspace, bars, processes, places)
    return plan


def run_plan(
    experiment: Experiment,
    plan: list[PlannedTrial],
    workspace: Workspace,
    bars: Bars,
    processes: Processes,
    places: Places | None = None,
) -> None:
    """Train what is not finished of a plan; see `train_trials`."""

    def on_step(trial: PlannedTrial, step: Step) -> None:
        bars.show(f"train {trial.name}", step.iteration, trial.stage.iterations, step_note(step))

    def on_decoded(name: str, done: int, total: int) -> None:
        bars.show(f"read {name}", done, total, is_minor=True)

    processes.in_turn(lambda: _fetch_starts(plan, workspace, bars))
    with stop_on_signals() as stop:
        if places is None:
            trained = run_trials(experiment, plan, workspace, stop, on_step, processes, on_decoded)
        else:
            trained = run_trials_on_ray(experiment, plan, workspace, stop, on_step, places)
        for trial, result in trained:
            if result is not None:
                _show_result(trial, result, bars)


def _fetch_starts(plan: Sequence[PlannedTrial], workspace: Workspace, bars: Bars) -> None:
    """Download the published weights that the trials start from, before the first of them begins."""
    for name in dict.fromkeys(trial.start.known for trial in plan):
        if name is not None:
            download_weights(name, workspace.weights, bars)


def step_note(step: Step) -> str:
    """What stands beside a bar: the loss and its parts, the newest AP, the speed."""
    parts = " + ".join(f"{name} {value:.2f}" for name, value in step.parts.items())
    ap = "" if step.ap50 is None else f", AP {100 * step.ap50:.1f} %"
    return f"loss {step.loss:.2f} ({parts}){ap}, {step.images_per_second:.0f} images/s"


def _show_result(trial: PlannedTrial, result: TrialResult, bars: Bars) -> None:
    """Fill the bar of a trial that is finished."""
    note = f"best AP {100 * result.best_ap50:.1f} % at {result.best_iteration}, {result.diagnosis.partition(':')[0]}"
    bars.show(f"train {trial.name}", result.iterations, result.iterations, note)


def write_tables(experiment: Experiment, plan: list[PlannedTrial], workspace: Workspace) -> dict[str, list[Arm]]:
    """Draw AP over iterations of every stage into its folder, and return the figures by stage."""
    tables = {}
    for stage in experiment.stages:
        tables[stage.name] = arms_of_stage(plan, stage.name)
        folder = workspace.stage(experiment.name, stage.name)
        plot_ap(tables[stage.name], f"{experiment.name}: {stage.name}", folder / "ap.png")
    return tables


def tables_text(experiment: Experiment, tables: dict[str, list[Arm]], workspace: Workspace) -> str:
    """The tables for a terminal, and where plots and weights lie."""
    lines = []
    for stage, arms in tables.items():
        folder = workspace.stage(experiment.name, stage)
        lines.append(table_text(arms, f"{experiment.name}, stage {stage}"))
        lines.append(curves_text(arms))
        lines.append(f"plot: {folder / 'ap.png'}; weights: {folder}/*/best.weights\n")
    return "\n".join(lines)


def evaluate_with_bars(wish: Wish, workspace: Workspace, bars: Bars) -> Evaluated:
    """Measure a detector, with a bar over the pictures, and one over the weights where they must be downloaded.

    Raises:
        UserError: what does not belong together, see `read_pair`.
    """

    def report(done: int, total: int) -> None:
        bars.show(f"evaluate {wish.network}", done, total)

    return evaluate_network(wish, workspace, report, bars.download(wish.weights or ""))


def advise_with_bars(experiment: Experiment, stage: str, share: float, workspace: Workspace, bars: Bars) -> Advice:
    """Probe the arms of a stage, with a bar per probe, and write STAGE.json beside the probes for the report.

    Ctrl-C saves and raises Interrupted.
    """

    def on_step(trial: PlannedTrial, step: Step) -> None:
        bars.show(f"probe {trial.name}", step.iteration, trial.stage.iterations, step_note(step))

    with stop_on_signals() as stop:
        advice = advise(experiment, stage, share, read_calibration(), workspace, stop, on_step)
    write_json(workspace.advice(experiment.name, stage), advice.as_dict())
    return advice


def download_weights(name: str, folder: Path, bars: Bars) -> Path:
    """Get published weights to `folder`, with a bar of bytes, unless they are there; returns their path.

    Raises:
        UserError: no weights of that name, or what `download` raises.
    """
    return fetch_known(known_weights(name), folder, bars.download(name))
