"""What `skylight report` does, with a bar, and how a training ends with it."""

import sys
from pathlib import Path

from pipeline.experiment import Experiment
from pipeline.progress import Bars
from pipeline.report.page import write_report
from pipeline.workspace import Workspace

__all__ = ["report_experiment", "report_or_say"]


def report_experiment(
    experiment: Experiment, file: Path, workspace: Workspace, bars: Bars, out: Path | None = None
) -> Path:
    """Write the page and return its path. out: folder for a page per experiment, by default the workspace's.

    Raises:
        UserError: see `write_report`.
    """

    def report(done: int, total: int) -> None:
        bars.show("detect on val for the report", done, total)

    return write_report(experiment, file, workspace, workspace.report if out is None else out, report)


def report_or_say(experiment: Experiment, file: Path, workspace: Workspace) -> Path | None:
    """Write the page of a training that is finished; what stands against it is one line on standard error.

    Returns:
        Its path, or None where it could not be written: the training stays what it is, whatever fails here.
    """
    try:
        with Bars() as bars:
            return report_experiment(experiment, file, workspace, bars)
    except Exception as error:  # hours of training must not end in an error of its report
        said = " ".join(str(error).split()) or type(error).__name__
        print(f"no report, the training is complete all the same: {said}", file=sys.stderr)
        return None
