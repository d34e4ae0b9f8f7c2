"""The verb that puts everything about an experiment on one page."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import ExperimentFile, Json, Root, app
from pipeline.cli.overview import examples


@app.command(
    epilog=examples("skylight report experiments/facades.yaml", "skylight report experiments/facades.yaml --out shown")
)
def report(
    experiment: ExperimentFile,
    root: Root = Path(),
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="For a page per experiment; by default report/.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write one page about an experiment that opens without a network: the answer, plots, detections, provenance.

    Reads what lies in runs/, data/ and bundles/ and trains nothing; what is missing is named with the command that
    makes it. skylight train and skylight demo end with it.
    """
    from pipeline.experiment import read_experiment
    from pipeline.progress import Bars
    from pipeline.reporting import report_experiment
    from pipeline.workspace import Workspace

    content = read_experiment(experiment)
    with Bars() as bars:
        page = report_experiment(content, experiment, Workspace(root), bars, out)
    print(json.dumps({"report": str(page)}) if as_json else f"report: {page}")
