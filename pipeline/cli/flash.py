"""The verb that puts an image on a Jetson, as `python -m jetson` does; it needs nothing of the pipeline."""

import sys

import typer

from pipeline.cli.app import app
from pipeline.cli.overview import examples


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    epilog=examples("skylight flash --board jetson-tx2 --module P3310 --dry-run"),
)
def flash(context: typer.Context) -> None:
    """Put an image on a module in recovery mode, clone its partition APP, restore it (python -m jetson flash)."""
    from jetson.__main__ import main as jetson_main

    sys.exit(jetson_main(["flash", *context.args]))
