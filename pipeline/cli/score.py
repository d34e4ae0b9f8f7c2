"""The verbs that say which start and how many frozen layers were worth it."""

import json
from pathlib import Path
from typing import Annotated, cast

import typer

from pipeline.cli.app import ExperimentFile, Json, Root, app, one_of
from pipeline.cli.overview import examples
from pipeline.errors import refuse

_Part = Annotated[
    str | None,
    typer.Option(
        metavar="all|trunk|bottlenecks", help="Which convolutions; bottlenecks: the 48 of a ResNet-50's blocks."
    ),
]


@app.command(
    epilog=examples(
        "skylight difference runs/facades/windows/scratch-f0-s0 runs/facades/arch/windows-f0-s0",
        "skylight difference yolov3-tiny.weights mine.weights --network yolov3-tiny --reinitialised 15,22",
        "skylight difference old.pth new.pth --network resnet18 --plot moved.png",
        "skylight difference runs/facades/windows/scratch-f0-s0 runs/facades/arch/windows-f0-s0 "
        "--threshold 0.01 --rule prefix --write-freeze freeze.yaml",
    )
)
def difference(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="Folder of a trial, or a weights file.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="The same network after training.")],
    network: Annotated[
        str | None, typer.Option(metavar="NAME|CFG", help="Network of files that do not say it themselves.")
    ] = None,
    null: Annotated[
        str | None, typer.Option(metavar="FILE", help="BEFORE trained on for as long on its own data (the null task).")
    ] = None,
    reinitialised: Annotated[
        str | None, typer.Option(metavar="N,N", help="Layers that began at random: marked, not scored.")
    ] = None,
    part: _Part = None,
    folded: Annotated[
        bool, typer.Option("--folded", help="Let the folded difference decide: threshold, correction, plot.")
    ] = False,
    threshold: Annotated[float | None, typer.Option(metavar="X", help="Say what to freeze: see --rule.")] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            metavar="below|prefix|above",
            help="below (default): each layer at or below the threshold; prefix: the layers before the first above it; "
            "above: each layer above it.",
        ),
    ] = None,
    write_freeze: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as an experiment file's freeze.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the difference over the layers.")] = None,
    as_json: Json = False,
) -> None:
    """Say how far each convolution moved between two checkpoints of one network: |1 - cos| of its kernel."""
    from pipeline.report.difference import difference_text
    from pipeline.score.compare import compare, layer_numbers
    from pipeline.score.outline import PARTS
    from pipeline.score.threshold import RULES, Rule
    from pipeline.scoring import difference_files

    if threshold is None and (rule is not None or write_freeze is not None):
        raise refuse("--rule, --write-freeze", "no threshold", "add --threshold, for example 0.01")
    chosen = cast("Rule", one_of("--rule", rule or "below", RULES))
    compared = compare(
        before,
        after,
        network,
        null,
        layer_numbers(reinitialised),
        one_of("--part", part or "all", tuple(PARTS)),
        folded,
        threshold,
        chosen,
    )
    difference_files(compared, write_freeze, plot)
    print(json.dumps(compared.as_dict()) if as_json else difference_text(compared))


@app.command(
    epilog=examples("skylight score experiments/facades.yaml", "skylight score experiments/facades.yaml --no-null")
)
def score(
    experiment: ExperimentFile,
    root: Root = Path(),
    no_null: Annotated[bool, typer.Option("--no-null", help="Do not train the starts on for comparison.")] = False,
    part: _Part = None,
    folded: Annotated[bool, typer.Option("--folded", help="Draw and print the folded difference.")] = False,
    as_json: Json = False,
) -> None:
    """Say what training moved: the layer difference of every finished trial against its start, and over the null task.

    The null task trains each start that is an earlier stage on for as many iterations on that stage's own data: what
    moves then too is training having gone on. Writes runs/EXPERIMENT/scores.json, and a plot of the differences and one
    of AP over frozen layers per stage.
    """
    from pipeline.experiment import read_experiment
    from pipeline.progress import Bars
    from pipeline.report.scores import scores_text
    from pipeline.score.outline import PARTS
    from pipeline.scoring import score_experiment
    from pipeline.train.processes import this_process
    from pipeline.workspace import Workspace

    wanted = None if part is None else one_of("--part", part, tuple(PARTS))
    content = read_experiment(experiment)
    with Bars() as bars:
        scored = score_experiment(content, Workspace(root), bars, this_process(), not no_null, wanted)
    scored.write_plots(wanted, folded)
    print(scored.scores.model_dump_json() if as_json else scores_text(scored.scores, scored.path, wanted, folded))
