"""The line from photos to a bundle, step by step, as the commands and the demo run it. Prints nothing."""

from deploy.bundle import Bundle
from pipeline.curate import CurationSummary, curate, read_recipe
from pipeline.curated import read_curated_set
from pipeline.errors import refuse
from pipeline.experiment import Experiment
from pipeline.export.bundle import best_trial, export_bundle
from pipeline.interrupt import stop_on_signals
from pipeline.progress import Bars
from pipeline.report.plots import plot_ap
from pipeline.report.table import Arm, arms_of_stage, table_text
from pipeline.train.loop import Step
from pipeline.train.stages import PlannedTrial, Workspace, plan_trials, require_current, run_trials, set_folder

__all__ = ["curate_sets", "curation_text", "export_best", "tables_text", "train_trials", "write_tables"]


def curate_sets(experiment: Experiment, workspace: Workspace, bars: Bars) -> list[CurationSummary]:
    """Make every set that has a recipe; a set that is given by its path is read, so that what is wrong shows now."""
    summaries = []
    for key, source in experiment.data.items():
        if source.recipe is None:
            read_curated_set(set_folder(source, workspace))
            continue
        recipe = read_recipe(source.recipe)

        def report(what: str, done: int, total: int, key: str = key) -> None:
            bars.show(f"curate {key}: {what}", done, total)

        summaries.append(curate(recipe, source.source, set_folder(source, workspace), report))
    return summaries


def train_trials(experiment: Experiment, workspace: Workspace, bars: Bars) -> list[PlannedTrial]:
    """Train what is not finished, with a bar per trial; Ctrl-C saves and raises Interrupted."""
    plan = plan_trials(experiment, workspace)

    def on_step(trial: PlannedTrial, step: Step) -> None:
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
        lines.append(f"plot: {folder / 'ap.png'}; weights: {folder}/*/best.weights\n")
    return "\n".join(lines)


def export_best(experiment: Experiment, workspace: Workspace) -> Bundle:
    """Export what the experiment chose, by default the best trial of a stage."""
    if experiment.export is None:
        raise refuse(f"experiment {experiment.name}", "has no key export", "add export: {stage: ..., name: ...}")
    trial = best_trial(experiment.export, plan_trials(experiment, workspace))
    require_current(experiment, trial)
    return export_bundle(experiment.export, trial, workspace.bundles)


def curation_text(summary: CurationSummary) -> str:
    """Images and boxes left after each rule, and in each split."""
    lines = [f"{summary.root}" + (" (up to date)" if summary.up_to_date else "")]
    lines += [f"  {row.rule:32} {row.images:7} images {row.boxes:8} boxes" for row in summary.remaining]
    lines += [f"  {name:32} {count.images:7} images {count.boxes:8} boxes" for name, count in summary.splits.items()]
    return "\n".join(lines)
