"""The verbs of export: a bundle, and what is asked of an ONNX file before one is made."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pipeline.cli.app import ExperimentFile, Json, Root, app

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
    epilog="Example: skylight export experiments/facades.yaml",
    help="Make a bundle (skylight export EXPERIMENT), after checking that nothing changed on the way to it.",
)
app.add_typer(export_app, name="export")


@export_app.command(_DEFAULT, epilog="Example: skylight export experiments/facades.yaml")
def make(
    experiment: ExperimentFile,
    root: Root = Path(),
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Private key that signs; by default your only one, if any.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the bundle of an experiment from its best trial, after checking that nothing changed on the way."""
    from pipeline.experiment import read_experiment
    from pipeline.report.bundle import export_text
    from pipeline.report.parity import parity_text
    from pipeline.steps import export_best
    from pipeline.workspace import Workspace

    bundle = export_best(read_experiment(experiment), Workspace(root), key)
    if as_json:
        about = {"bundle": str(bundle.root), "provenance": bundle.provenance, "parity": bundle.parity}
        print(json.dumps(about | {"signed_by": bundle.signature.fingerprint}))
        return
    origin = bundle.provenance
    print(f"{bundle.root}: {origin['stage']}/{origin['trial']}, AP@0.5 on val {100 * origin['best_ap50']:.1f} %")
    print(parity_text(bundle.parity))
    print(export_text(bundle))
