"""What `skylight difference` and `skylight score` do, step by step, with bars, files and plots. Prints nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.experiment import Experiment
from pipeline.progress import Bars
from pipeline.report.difference_plots import plot_accuracy, plot_differences
from pipeline.report.pictures import require_plottable
from pipeline.report.scores import accuracy_points, difference_curves, part_of
from pipeline.score.compare import Comparison
from pipeline.score.null import plan_null
from pipeline.score.scores import Scores, finished_trials, network_of, score_trials
from pipeline.score.threshold import write_freeze
from pipeline.train.processes import Processes
from pipeline.train.stages import PlannedTrial, plan_trials
from pipeline.training import run_plan
from pipeline.workspace import Workspace

__all__ = ["ScoredExperiment", "difference_files", "score_experiment"]


def difference_files(compared: Comparison, freeze_file: Path | None, plot: Path | None) -> None:
    """Write what was asked for beside the table: the freeze for an experiment file, the plot.

    Raises:
        UserError: a plot of a name that cannot be written, or a freeze file that is there already; nothing is written.
    """
    if plot is not None:
        require_plottable(plot)
    if freeze_file is not None:
        assert compared.freeze is not None
        about = (
            f"{compared.outline.network}, {compared.before} to {compared.after}: rule {compared.rule} at "
            f"{'folded' if compared.is_folded else 'raw'} layer difference {compared.threshold:g}"
        )
        write_freeze(freeze_file, compared.freeze, about)
    if plot is not None:
        figure, corrected = ("folded", "corrected_folded") if compared.is_folded else ("raw", "corrected")
        rows, name = compared.rows(), compared.after.stem
        plot_differences(
            {name: [[row[figure] for row in rows]]},
            {name: [[row[corrected] for row in rows]]},
            figure,
            f"{compared.outline.network}: {compared.before.name} to {compared.after.name}",
            plot,
        )


@dataclass(frozen=True)
class ScoredExperiment:
    """The scores of an experiment, and where they lie."""

    experiment: Experiment
    workspace: Workspace
    scores: Scores

    @property
    def path(self) -> Path:
        """Of scores.json."""
        return self.workspace.scores(self.experiment.name)

    def write_plots(self, part: str | None, is_folded: bool) -> None:
        """Draw difference.png and freezing.png of every stage into its folder; see `part_of`."""
        for stage in self.scores.stages:
            folder = self.workspace.stage(self.experiment.name, stage)
            title = f"{self.experiment.name}: {stage}"
            chosen = part_of(self.scores, part)
            raw, corrected = difference_curves(self.scores, stage, chosen, is_folded)
            if raw:
                name = "folded" if is_folded else "raw"
                plot_differences(raw, corrected, name, title, folder / "difference.png")
            points = accuracy_points(self.scores, stage)
            if points:
                plot_accuracy(points, title, folder / "freezing.png")


def score_experiment(
    experiment: Experiment,
    workspace: Workspace,
    bars: Bars,
    processes: Processes,
    with_null: bool,
    part: str | None = None,
) -> ScoredExperiment:
    """Score every finished trial and write scores.json, after training the null tasks that are not finished.

    part: what will be drawn, which the network must have; None for what `part_of` chooses.

    Raises:
        UserError: no finished trial, no such part, or what training raises.
        Interrupted: Ctrl-C; the same command goes on.
    """
    plan = plan_trials(experiment, workspace)
    finished = finished_trials(experiment, plan, workspace)
    if part is not None:
        network_of(finished[0][0]).outline.only(part)
    names = {trial.name for trial, _ in finished}
    nulls: Mapping[str, PlannedTrial] = {}
    if with_null:
        derived, nulls = plan_null(experiment, finished, workspace)
        run_plan(derived, list(nulls.values()), workspace, bars, processes)
    scores = score_trials(
        experiment,
        finished,
        nulls,
        [trial.name for trial in plan if trial.name not in names],
        workspace,
        lambda done, total: bars.show("score trials", done, total),
    )
    scored = ScoredExperiment(experiment, workspace, scores)
    scores.write(scored.path)
    return scored
