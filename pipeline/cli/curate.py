"""The verb that makes data sets."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import Json, Root, app
from pipeline.cli.overview import examples
from pipeline.errors import refuse


@app.command(
    epilog=examples(
        "skylight curate experiments/facades.yaml",
        "skylight curate datasets/facades.yaml --source facades --cross-check",
        "skylight curate datasets/facades.yaml --source facades --review",
    )
)
def curate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Recipe or experiment file (.yaml).")],
    source: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Photos and boxes, for a recipe.")] = None,
    root: Root = Path(),
    cross_check: Annotated[
        bool, typer.Option("--cross-check", help="First train networks that judge labels they never saw.")
    ] = False,
    review: Annotated[
        bool, typer.Option("--review", help="Look at the photos in FiftyOne; tag keep, drop or fix.")
    ] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="PORT", help="Where the review is served.")] = 5151,
    explain: Annotated[
        str | None, typer.Option(metavar="IMAGE_ID", help="Tell why an image is in the set or not.")
    ] = None,
    flight: Annotated[
        Path | None,
        typer.Option(metavar="LOG", help="First take frames worth labelling from a flight: its log."),
    ] = None,
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What the flight log is about, if it was moved.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, metavar="N", help="How many frames of the flight.")] = 40,
    as_json: Json = False,
) -> None:
    """Make the curated set of a recipe, or every one of an experiment: data/SET, for Ultralytics and Darknet alike."""
    from pipeline.curating import add_flight, curation_text, explanations, recipes_of, run_curation
    from pipeline.interrupt import say_what_is_kept
    from pipeline.progress import Bars
    from pipeline.workspace import Workspace

    recipes = recipes_of(file, source)
    workspace = Workspace(root)
    if explain is not None:
        print(explanations(recipes, explain, workspace))
        return
    kept = (
        f"what was measured and fetched is kept in {workspace.cache}, as are sets that are whole; run it again to go on"
    )
    with Bars() as bars, say_what_is_kept(kept):
        if flight is not None:
            if len(recipes) != 1:
                raise refuse("--flight", f"{file} names {len(recipes)} recipes", "give the one recipe it is for")
            add_flight(recipes[0][0], flight, video, frames, workspace, bars)
        summaries = run_curation(
            recipes, workspace, bars, cross_check=cross_check, review_port=port if review else None
        )
    if as_json:
        print(json.dumps([asdict(summary) | {"root": str(summary.root)} for summary in summaries]))
        return
    for summary in summaries:
        print(curation_text(summary))
