"""Precision, recall, AP and F1 of trials over their iterations, as tables and as a picture."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import refuse
from pipeline.report.columns import ruled
from pipeline.report.pictures import COLOURS, DASHES, picture, require_plottable
from pipeline.train.trial import Evaluation, TrialFolder, TrialSettings

__all__ = ["TrialCurve", "curves_rows", "plot_curves", "read_curve", "trial_curves_text"]

_FIGURES = (("precision", "precision"), ("recall", "recall"), ("ap50", "AP"), ("f1", "F1"))


@dataclass(frozen=True)
class TrialCurve:
    """A trial and its evaluations, at least one; it need not be finished. best: the first one with the highest AP."""

    root: Path
    settings: TrialSettings
    evaluations: tuple[Evaluation, ...]

    @property
    def name(self) -> str:
        """Experiment, stage and trial."""
        return f"{self.settings.experiment}/{self.settings.stage}/{self.settings.trial}"

    @property
    def best(self) -> Evaluation:
        """The first of the evaluations with the highest AP."""
        return max(self.evaluations, key=lambda evaluation: evaluation.ap50)


def read_curve(root: Path) -> TrialCurve:
    """Read what a trial measured so far.

    Raises:
        UserError: no folder of a trial, or nothing was measured yet.
    """
    folder = TrialFolder.existing(root)
    settings, _ = folder.read()
    evaluations = folder.evaluations()
    if not evaluations:
        raise refuse(root, "nothing was measured yet", "let it train up to its first evaluation")
    return TrialCurve(root, settings, evaluations)


def trial_curves_text(curves: Sequence[TrialCurve]) -> str:
    """A table per trial; its best row is marked."""
    lines = []
    for curve in curves:
        rows = [["iteration", *(f"{label} %" for _, label in _FIGURES), ""]]
        for evaluation in curve.evaluations:
            cells = [f"{100 * getattr(evaluation, key):.2f}" for key, _ in _FIGURES]
            rows.append([str(evaluation.iteration), *cells, "best AP" if evaluation is curve.best else ""])
        lines += [curve.name, *ruled(rows, left=0), ""]
    lines.append("On val: AP at IoU 0.5, area under the curve; precision, recall and F1 of detections above 0.25.")
    return "\n".join(lines)


def curves_rows(curves: Sequence[TrialCurve]) -> list[dict[str, Any]]:
    """For JSON."""
    return [
        {
            "trial": str(curve.root),
            "best_iteration": curve.best.iteration,
            "evaluations": [asdict(evaluation) for evaluation in curve.evaluations],
        }
        for curve in curves
    ]


def plot_curves(curves: Sequence[TrialCurve], path: Path) -> None:
    """Draw the four figures over the iterations into `path`, a line per trial: its colour, then its dashes.

    Raises:
        UserError: a name that no picture can be written to.
    """
    require_plottable(path)
    with picture(path, (10, 7), rows=2, columns=2) as panels:
        for axes, (key, label) in zip(panels.flat, _FIGURES, strict=True):
            for index, curve in enumerate(curves):
                axes.plot(
                    [evaluation.iteration for evaluation in curve.evaluations],
                    [100 * getattr(evaluation, key) for evaluation in curve.evaluations],
                    color=COLOURS[index % len(COLOURS)],
                    linestyle=DASHES[index // len(COLOURS) % len(DASHES)],
                    marker=".",
                    label=curve.name,
                )
            axes.set(ylabel=f"{label} on val, %", ylim=(0, 100))
            axes.grid(alpha=0.3)
        for axes in panels[1]:
            axes.set_xlabel("iterations")
        panels[0, 0].legend(fontsize="small")
