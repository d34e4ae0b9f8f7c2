"""What the verbs share: the application, options that several have, and how their values are read."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from typer.core import TyperGroup

from pipeline.errors import refuse

if TYPE_CHECKING:
    from pipeline.train.pairing import Resize

__all__ = ["ExperimentFile", "Json", "Root", "app", "one_of", "resize_mode", "width_and_height"]

_HELP = """From a few photos of one window to a detector that flies.

An experiment file says what to do; each stage leaves a folder that the next one reads:

curate: photos and recipe to data/SET, train: to runs/EXPERIMENT, export: to bundles/NAME-VERSION, detect: to boxes.

bundle: where a bundle comes from, whether it is whole and trusted, what differs; keys: which sign it; calibrate: the
camera that it flies with.

replay: what another bundle finds in a flight; log: what a flight was, and its frames worth labelling.

package: a Debian package of what flies; image: NVIDIA's packages with it and a bundle; flash: the image onto a Jetson;
push: a new bundle onto drones in the field, over SSH.

evaluate: how good any network is on a set, anchors: which fit its boxes, weights: what others published to start from.

Before a sweep, plan: which case of transfer this is, advise: which start and freeze count. After it, difference and
score: how far layers moved, curves: figures over iterations.

classify: classifiers of the objects of a set, features: what a layer makes of photos.

Exit status: 0 done, 2 something you can put right (one line says what), 130 stopped by Ctrl-C (what was kept is said).
"""

# The line first, then what is asked before, beside and after it.
_ORDER = (
    *("curate", "train", "export", "bundle", "keys", "calibrate", "detect", "replay", "log"),
    *("package", "image", "flash", "push", "demo"),
    *("plan", "advise", "evaluate", "curves", "difference", "score", "weights", "anchors", "classify", "features"),
)


class _Verbs(TyperGroup):
    """Verbs in the order that they are needed in."""

    def list_commands(self, _context: object) -> list[str]:
        """Every verb has its place; one without is an error of ours."""
        return sorted(self.commands, key=_ORDER.index)


app = typer.Typer(cls=_Verbs, help=_HELP, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

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
