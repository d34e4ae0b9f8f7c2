"""What the verbs share: the application, options that several have, and how their values are read."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pipeline.cli.overview import EXIT_STATUS, Overview
from pipeline.errors import refuse

if TYPE_CHECKING:
    from pipeline.train.pairing import Resize, Wish

__all__ = [
    "DataSet",
    "ExperimentFile",
    "Json",
    "KnownMasks",
    "ResizeMode",
    "Root",
    "app",
    "one_of",
    "resize_mode",
    "width_and_height",
    "wish_of",
]

_HELP = """From a few photos of one window to a detector that flies.

skylight VERB --help says more, with examples; --json is for machines.
"""

app = typer.Typer(
    cls=Overview,
    help=_HELP,
    epilog=EXIT_STATUS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from jetson.package.version import version

        print(f"skylight {version()}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Options before the verb."""


ExperimentFile = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="Experiment file (.yaml).")]
DataSet = Annotated[Path, typer.Argument(metavar="DATA", help="Curated set, or a YOLO folder with data.yaml.")]
KnownMasks = Annotated[
    bool, typer.Option("--known-masks", help="Give the cfg the masks that published weights were trained with.")
]
ResizeMode = Annotated[
    str | None, typer.Option("--resize", metavar="stretch|letterbox", help="By default as the weights were trained.")
]
Root = Annotated[Path, typer.Option("--root", metavar="FOLDER", help="For data/, runs/, bundles/ and cache/.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> str:
    """Return the value of an option.

    Raises:
        UserError: it is none of those allowed.
    """
    if value not in allowed:
        raise refuse(f"{option} {value}", "unknown", f"allowed: {', '.join(allowed)}")
    return value


def resize_mode(value: str | None) -> "Resize | None":
    """Return the value of --resize; None where it was not given.

    Raises:
        UserError: there is no such mode.
    """
    from deploy.resize import RESIZE_MODES

    return None if value is None else cast("Resize", one_of("--resize", value, RESIZE_MODES))


def width_and_height(text: str) -> tuple[int, int]:
    """Read the value of --size: width and height in pixels, from 416 or 416x256.

    Raises:
        UserError: it is neither.
    """
    parts = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text, re.ASCII)
    width, height = (int(parts[1]), int(parts[2] or parts[1])) if parts else (0, 0)
    if not width or not height:
        raise refuse(f"--size {text}", "no size in pixels", "give for example 416 or 416x256")
    return width, height


def wish_of(
    network: str,
    weights: str | None,
    data: Path | None,
    size: str | None,
    resize: str | None,
    with_known_masks: bool,
    split: str = "val",
) -> "Wish":
    """What the options of a verb that takes a network with its weights ask for.

    Raises:
        UserError: a size, a resize mode or a split that is none.
    """
    from pipeline.train.pairing import Wish

    return Wish(
        network=network,
        weights=weights,
        data=data,
        split=one_of("--split", split, ("train", "val", "test")),
        size=None if size is None else width_and_height(size),
        resize=resize_mode(resize),
        with_known_masks=with_known_masks,
    )
