"""The verb that measures a detector."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import Json, KnownMasks, ResizeMode, Root, app, wish_of
from pipeline.cli.overview import examples


@app.command(
    epilog=examples(
        "skylight evaluate runs/facades/arch/scratch-f0-s0",
        "skylight evaluate my.cfg --weights my.weights --data data/facades-arch --split test",
        "skylight evaluate yolov3-tiny --weights yolov3-tiny --known-masks --data coco",
    )
)
def evaluate(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="Folder of a trial, a .cfg or .pt file, or a network's name.")
    ],
    weights: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="Weights file, or a name of skylight weights.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Curated set, or a YOLO folder; a trial's own by default.")
    ] = None,
    split: Annotated[str, typer.Option(metavar="train|val|test", help="What to measure on.")] = "val",
    size: Annotated[
        str | None, typer.Option(metavar="W[xH]", help="Input in pixels; by default that of the cfg or trial.")
    ] = None,
    resize: ResizeMode = None,
    known_masks: KnownMasks = False,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """Measure a detector on a set as `darknet detector map` does: AP per class, mAP, precision, recall; COCO's too."""
    from pipeline.progress import Bars
    from pipeline.report.evaluated import evaluation_text
    from pipeline.training import evaluate_with_bars
    from pipeline.workspace import Workspace

    wish = wish_of(network, weights, data, size, resize, known_masks, split)
    with Bars() as bars:
        evaluated = evaluate_with_bars(wish, Workspace(root), bars)
    print(json.dumps(evaluated.as_dict()) if as_json else evaluation_text(evaluated))
