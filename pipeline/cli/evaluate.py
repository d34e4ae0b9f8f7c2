"""The verb that measures a detector."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import Json, Root, app, one_of, resize_mode, width_and_height
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
    data: Annotated[Path | None, typer.Option(help="Curated set, or a YOLO folder with data.yaml.")] = None,
    split: Annotated[str, typer.Option(metavar="train|val|test", help="What to measure on.")] = "val",
    size: Annotated[
        str | None, typer.Option(metavar="W[xH]", help="Input in pixels; by default that of the cfg or trial.")
    ] = None,
    resize: Annotated[
        str | None, typer.Option(metavar="stretch|letterbox", help="By default as the weights were trained.")
    ] = None,
    known_masks: Annotated[
        bool, typer.Option("--known-masks", help="Give the cfg the masks that published weights were trained with.")
    ] = False,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """Measure a detector on a set as `darknet detector map` does: AP per class, mAP, precision, recall; COCO's too."""
    from pipeline.progress import Bars
    from pipeline.report.evaluated import evaluation_text
    from pipeline.train.pairing import Wish
    from pipeline.training import evaluate_with_bars
    from pipeline.workspace import Workspace

    wish = Wish(
        network=network,
        weights=weights,
        data=data,
        split=one_of("--split", split, ("train", "val", "test")),
        size=None if size is None else width_and_height(size),
        resize=resize_mode(resize),
        with_known_masks=known_masks,
    )
    with Bars() as bars:
        evaluated = evaluate_with_bars(wish, Workspace(root), bars)
    print(json.dumps(evaluated.as_dict()) if as_json else evaluation_text(evaluated))
