"""The verbs that make what goes onto a Jetson, as `python -m jetson` does; they need nothing of the pipeline."""

import sys

import typer

from pipeline.cli.app import app
from pipeline.cli.overview import examples

_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_THROUGH, epilog=examples("skylight package --board jetson-tx2"))
def package(context: typer.Context) -> None:
    """Write the Debian package of what flies, for a board (python -m jetson package)."""
    from jetson.__main__ import main as jetson_main

    sys.exit(jetson_main(["package", *context.args]))


@app.command(
    context_settings=_THROUGH,
    epilog=examples(
        "skylight image --board jetson-tx2 --bundle bundles/arch-1 --l4t FILE --rootfs FILE --ssh-key FILE"
    ),
)
def image(context: typer.Context) -> None:
    """Make an image for a Jetson of NVIDIA's packages, what flies and a bundle (python -m jetson image)."""
    from jetson.__main__ import main as jetson_main

    sys.exit(jetson_main(["image", *context.args]))
