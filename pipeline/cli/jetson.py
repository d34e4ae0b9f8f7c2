"""The verbs of `python -m jetson`: package, image, flash and push. They need nothing of the pipeline."""

import sys
from typing import NoReturn

import typer

from pipeline.cli.app import app
from pipeline.cli.overview import examples

# Every option, --help too, is for the program behind.
_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_THROUGH, epilog=examples("skylight package --board jetson-tx2"))
def package(context: typer.Context) -> None:
    """Write the Debian package of what flies, for a board (python -m jetson package)."""
    _hand_on("package", context)


@app.command(
    context_settings=_THROUGH,
    epilog=examples(
        "skylight image --board jetson-tx2 --bundle bundles/arch-1 --l4t FILE --rootfs FILE --ssh-key FILE"
    ),
)
def image(context: typer.Context) -> None:
    """Make an image for a Jetson of NVIDIA's packages, what flies and a bundle (python -m jetson image)."""
    _hand_on("image", context)


@app.command(context_settings=_THROUGH, epilog=examples("skylight flash --board jetson-tx2 --module P3310 --dry-run"))
def flash(context: typer.Context) -> None:
    """Put an image on a module in recovery mode, clone its partition APP, restore it (python -m jetson flash)."""
    _hand_on("flash", context)


@app.command(context_settings=_THROUGH, epilog=examples("skylight push drone.local bundles/arch-2"))
def push(context: typer.Context) -> None:
    """Put a bundle on drones over SSH, watch it fly, roll back on failure (python -m jetson push)."""
    _hand_on("push", context)


def _hand_on(verb: str, context: typer.Context) -> NoReturn:
    from jetson.__main__ import main as jetson_main

    sys.exit(jetson_main([verb, *context.args]))
