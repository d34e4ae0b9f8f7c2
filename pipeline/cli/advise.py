"""The verbs that say which start and how many frozen layers, before the sweep."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import DataSet, ExperimentFile, Json, ResizeMode, Root, app, resize_mode
from pipeline.cli.overview import examples


@app.command(
    epilog=examples(
        "skylight plan data/facades-arch --start runs/facades/windows/scratch-f0-s0",
        "skylight plan data/facades-arch --start yolov3-tiny.conv.15 --size 224",
    )
)
def plan(
    data: DataSet,
    start: Annotated[
        str, typer.Option(metavar="TRIAL|FILE|NAME", help="Trial, weights file, or a name of skylight weights.")
    ],
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|CFG", help="What a weights file is of; by default yolov3-tiny. A trial says it itself."
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=32, metavar="PIXELS", help="Side of the input; by default that of the trial, or 416."),
    ] = None,
    resize: ResizeMode = None,
    learning_rate: Annotated[float, typer.Option(min=0, metavar="RATE", help="Of a training from scratch.")] = 0.001,
    large: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Photos from which a target counts as large; by default 1000."),
    ] = None,
    similar: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="X", help="Similarity from which it counts as similar; by default 0.5."),
    ] = None,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """Say which of the four classic cases of transfer this is, and what to freeze, by measurement and without training.

    DATA is the target. Small or large: photos in its train split. Similar or different: what the start's batch norm
    sees in them.
    """
    from pipeline.curated import read_curated_set
    from pipeline.progress import Bars
    from pipeline.report.plan import plan_text
    from pipeline.score.plan import LARGE, SIMILAR, make_plan
    from pipeline.score.start import read_start
    from pipeline.workspace import Workspace

    workspace = Workspace(root)
    target = read_curated_set(data)
    with Bars() as bars:
        bar = bars.download(start)
        begun = read_start(start, network, size, resize_mode(resize), target.classes, workspace, bar)
        made = make_plan(
            target,
            begun,
            learning_rate,
            LARGE if large is None else large,
            SIMILAR if similar is None else similar,
            workspace.images,
            lambda what, done, total: bars.show(f"read {what}", done, total, is_minor=True),
        )
    print(json.dumps(made.as_dict()) if as_json else plan_text(made))


@app.command(
    epilog=examples(
        "skylight advise experiments/facades.yaml", "skylight advise experiments/facades.yaml --stage arch --share 0.05"
    )
)
def advise(
    experiment: ExperimentFile,
    stage: Annotated[str | None, typer.Option(metavar="NAME", help="Which one; by default the last.")] = None,
    share: Annotated[
        float, typer.Option(min=0.01, max=1, metavar="X", help="Of the sweep's cost, what may be spent.")
    ] = 0.1,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """Say which start and freeze count to use for a stage, from short probes instead of the whole sweep.

    Earlier stages must be trained. What was probed already is not probed again.
    """
    from pipeline.experiment import read_experiment
    from pipeline.progress import Bars
    from pipeline.report.advice import advice_text
    from pipeline.training import advise_with_bars
    from pipeline.workspace import Workspace

    content = read_experiment(experiment)
    with Bars() as bars:
        advice = advise_with_bars(content, stage or content.stages[-1].name, share, Workspace(root), bars)
    print(json.dumps(advice.as_dict()) if as_json else advice_text(advice))
