"""The verbs of export: a bundle, and what is asked of an ONNX file before one is made."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from pipeline.cli.app import Json, KnownMasks, ResizeMode, Root, app, wish_of
from pipeline.cli.overview import examples
from pipeline.errors import refuse

if TYPE_CHECKING:
    from deploy.bundle import Bundle
    from pipeline.experiment import Experiment
    from pipeline.export.bundle import BundleWish
    from pipeline.train.pairing import Wish

__all__ = ["export_app"]

_DEFAULT = "make"


class _WithDefault(TyperGroup):
    """`skylight export EXPERIMENT` is `skylight export make EXPERIMENT`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *self.get_help_option_names(ctx)):
            args = [_DEFAULT, *args]
        return list(super().parse_args(ctx, args))


export_app = typer.Typer(
    cls=_WithDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples("skylight export experiments/facades.yaml", "skylight export make --help"),
    help="Make a bundle, after checking that nothing changed on the way to it: skylight export EXPERIMENT, which is "
    "skylight export make EXPERIMENT, whose help has all options. Look at ONNX files for a board.",
)
app.add_typer(export_app, name="export")


@export_app.command(
    _DEFAULT,
    epilog=examples(
        "skylight export experiments/facades.yaml --board jetson-tx2",
        "skylight export runs/facades/arch/windows-f13-s0 --board jetson-tx2 --extra-size 288",
        "skylight export yolo11n --weights best.pt --data data/facades-arch --size 416 --name arch",
    ),
)
def make(
    subject: Annotated[
        str,
        typer.Argument(metavar="EXPERIMENT|NETWORK", help="Experiment file; folder of a trial, .cfg, .pt, or a name."),
    ],
    board: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="By default the experiment's, else workstation.")
    ] = None,
    weights: Annotated[str | None, typer.Option(metavar="FILE|NAME", help="Weights of a network.")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Set to compare a network on; a trial's own by default.")
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="W[xH]", help="Input of a network, in pixels.")] = None,
    resize: ResizeMode = None,
    known_masks: KnownMasks = False,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of a network's bundle; by default that of --data, else of the trial."),
    ] = None,
    version: Annotated[str | None, typer.Option(metavar="VERSION", help="Of a network's bundle; by default 1.")] = None,
    half: Annotated[bool, typer.Option("--fp16", help="Add the model in half precision (TensorRT-RTX).")] = False,
    extra_size: Annotated[
        list[int] | None,
        typer.Option(metavar="PIXELS", help="Add the model at this size, to fall back to; repeat for several."),
    ] = None,
    calibration: Annotated[
        int | None,
        typer.Option(min=0, max=500, metavar="N", help="Put N pictures of train in, for INT8; by default none."),
    ] = None,
    parity_pictures: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Compare on N pictures of val, 0 for all; by default 256."),
    ] = None,
    score_threshold: Annotated[
        float | None,
        typer.Option(min=0.001, max=0.999, metavar="X", help="That the drone flies with; by default 0.25."),
    ] = None,
    nms_threshold: Annotated[
        float | None, typer.Option(min=0.001, max=0.999, metavar="X", help="The same for NMS; by default 0.45.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Private key that signs; by default your only one, if any.")
    ] = None,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """Make a bundle: of the best trial of an experiment, or of any network with its weights.

    The board must take the model, and everyone here who can run it must find what the trained network finds: ONNX
    Runtime, OpenCV for Darknet's networks, TensorRT on a GPU. Nothing is written where one does not.
    """
    from pipeline.exporting import export_best, export_network
    from pipeline.interrupt import say_what_is_kept
    from pipeline.progress import Bars
    from pipeline.workspace import Workspace

    workspace = Workspace(root)
    with Bars() as bars, say_what_is_kept("no bundle was written; the same command begins again"):
        if subject.endswith((".yaml", ".yml")):
            _refuse_for_experiment(
                {"--weights": weights, "--data": data, "--size": size, "--resize": resize, "--name": name}
                | {"--known-masks": known_masks, "--version": version, "--fp16": half, "--extra-size": extra_size}
                | {"--calibration": calibration, "--parity-pictures": parity_pictures}
                | {"--score-threshold": score_threshold, "--nms-threshold": nms_threshold}
            )
            bundle = export_best(_experiment(subject), workspace, bars, key, board)
        else:
            wish = wish_of(subject, weights, data, size, resize, known_masks)
            given = {
                "calibration": calibration,
                "parity_pictures": parity_pictures,
                "score_threshold": score_threshold,
                "nms_threshold": nms_threshold,
            }
            about = _about(wish, board, name, version, half, extra_size, given)
            bundle = export_network(wish, about, workspace, bars, key)
    _print(bundle, as_json)


def _experiment(file: str) -> "Experiment":
    from pipeline.experiment import read_experiment

    return read_experiment(Path(file))


def _about(
    wish: "Wish",
    board: str | None,
    name: str | None,
    version: str | None,
    half: bool,
    sizes: list[int] | None,
    given: dict[str, Any],
) -> "BundleWish":
    """What the options say of the bundle. given: fields of it by name, None where the option was left out."""
    from jetson.board import read_board
    from pipeline.export.bundle import BundleWish

    about = BundleWish(
        name=name or (Path(wish.network) if wish.data is None else wish.data.resolve()).name,
        version=version or "1",
        board=read_board(board or "workstation"),
        precisions=("fp32", "fp16") if half else ("fp32",),
        sizes=tuple(sizes or ()),
    )
    return replace(about, **{field: value for field, value in given.items() if value is not None})


def _refuse_for_experiment(options: dict[str, Any]) -> None:
    for option, value in options.items():
        if value is not None and value is not False:
            raise refuse(option, "is for a network with its weights", "an experiment's file says it, in its key export")


def _print(bundle: "Bundle", as_json: bool) -> None:
    from pipeline.report.bundle import export_text
    from pipeline.report.parity import parity_text

    if as_json:
        about = {"bundle": str(bundle.root), "provenance": bundle.provenance, "parity": bundle.parity}
        print(json.dumps(about | {"signed_by": bundle.signature.fingerprint}))
        return
    origin = bundle.provenance
    trial = f": {origin['stage']}/{origin['trial']}" if "trial" in origin else ""
    print(f"{bundle.root}{trial}, for {bundle.board['name']}")
    print(parity_text(bundle.parity))
    print(export_text(bundle))
