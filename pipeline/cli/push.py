"""The verb that updates drones in the field, as `python -m jetson push` does; it needs nothing of the pipeline."""

import sys

import typer

from pipeline.cli.app import app
from pipeline.cli.overview import examples


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    epilog=examples("skylight push drone.local bundles/arch-2"),
)
def push(context: typer.Context) -> None:
    """Put a bundle on drones over SSH, watch it fly, roll back on failure (python -m jetson push)."""
    from jetson.__main__ import main as jetson_main

    sys.exit(jetson_main(["push", *context.args]))
