"""What the verbs share: the application, options that several have, and how their values are read."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pipeline.cli.overview import EXIT_STATUS, Overview
from pipeline.errors import refuse

if TYPE_CHECKING:
    from pipeline.train.pairing import Resize

__all__ = ["ExperimentFile", "Json", "Root", "app", "one_of", "resize_mode", "width_and_height"]

_HELP = """From a few photos of one window to a detector that flies.

An experiment file says what to do. skylight VERB --help says more, with examples; --json prints results for machines.
"""

app = typer.Typer(
    cls=Overview,
    help=_HELP,
    epilog=EXIT_STATUS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ExperimentFile = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="Experiment file (.yaml).")]
Root = Annotated[Path, typer.Option("--root", help="Folder for data/, runs/, bundles/ and cache/.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> str:
    """Return the value of an option, which must be one of those allowed."""
    if value not in allowed:
        raise refuse(f"{option} {value}", "unknown", f"allowed: {', '.join(allowed)}")
    return value


def resize_mode(value: str | None) -> "Resize | None":
    """Return the value of --resize; None where it was not given."""
    from deploy.resize import RESIZE_MODES

    return None if value is None else cast("Resize", one_of("--resize", value, RESIZE_MODES))


def width_and_height(text: str) -> tuple[int, int]:
    """Read a size in pixels, 416 or 416x256."""
    parts = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text, re.ASCII)
    width, height = (int(parts[1]), int(parts[2] or parts[1])) if parts else (0, 0)
    if not width or not height:
        raise refuse(f"--size {text}", "no size in pixels", "give for example 416 or 416x256")
    return width, height
