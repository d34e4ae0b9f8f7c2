"""The verbs that run a bundle, and the whole line on drawn pictures."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import app
from pipeline.cli.overview import examples


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    epilog=examples("skylight detect --bundle bundles/arch-1 --source flight.mp4 --out out"),
)
def detect(context: typer.Context) -> None:
    """Run a bundle on a picture, folder, video, camera or stream, with what flies alone (skylight-detect)."""
    from deploy.cli import main as detect_main

    sys.exit(detect_main(context.args))


@app.command(epilog=examples("skylight demo --root demo"))
def demo(
    root: Annotated[Path, typer.Option("--root", metavar="FOLDER", help="For all that is made.")] = Path("demo"),
) -> None:
    """The whole line on drawn building fronts, with nothing prepared: draw, curate, train, export, fly past."""
    from pipeline.demo import run_demo

    run_demo(root)
