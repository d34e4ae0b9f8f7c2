"""The verbs that look at an ONNX file for a board: whether it is taken, and where its time goes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pipeline.cli.app import Json, one_of
from pipeline.cli.export import export_app
from pipeline.cli.overview import examples
from pipeline.errors import refuse

if TYPE_CHECKING:
    from jetson.board import Arithmetic, Precision

_BOARD = "A board of ours, or a file of your own."


@export_app.command(epilog=examples("skylight export lint model.onnx --board jetson-tx2"))
def lint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="ONNX file, of whatever exporter.")],
    board: Annotated[str, typer.Option("--board", metavar="NAME|FILE", help=_BOARD)],
    as_json: Json = False,
) -> None:
    """Say whether a board takes an ONNX file: every reason against it, with node, operator and remedy.

    Exit status 2 if there is an error; warnings alone are 0.
    """
    from dataclasses import asdict

    from jetson.board import read_board
    from pipeline.export.lint import lint as findings_of
    from pipeline.report.export import lint_text

    chosen = read_board(board)
    findings = findings_of(file, chosen)
    accepted = all(finding.severity != "error" for finding in findings)
    if as_json:
        content = {"file": str(file), "board": chosen.name, "accepted": accepted}
        print(json.dumps(content | {"findings": [asdict(finding) for finding in findings]}))
    else:
        print(lint_text(file, chosen, findings))
    if not accepted:
        raise typer.Exit(2)


@export_app.command(
    epilog=examples(
        "skylight export profile model.onnx --board jetson-tx2",
        "skylight export profile bundles/arch-1 --board jetson-xavier-nx --precision int8",
    )
)
def profile(
    source: Annotated[Path, typer.Argument(metavar="FILE|BUNDLE", help="ONNX file, or the folder of a bundle.")],
    board: Annotated[
        str | None, typer.Option("--board", metavar="NAME|FILE", help=f"{_BOARD} By default the bundle's.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="fp32|fp16|int8", help="Of the estimate; by default fp16 where there is one.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, max=10000, metavar="N", help="How often it is run here.")] = 20,
    as_json: Json = False,
) -> None:
    """Say where the time of a network goes: per layer measured here, and estimated for a board from its peak figures.

    The estimate is the roofline: the larger of operations by the board's peak and bytes by its bandwidth. It is no
    measurement; that is made on the board.
    """
    from deploy.bundle import read_bundle
    from deploy.manifest import PRECISIONS
    from jetson.board import arithmetic_of, read_board
    from pipeline.export.profile import profile as profile_of
    from pipeline.report.export import profile_text

    file = source
    chosen: Arithmetic | None = None if board is None else read_board(board)
    if source.is_dir():
        bundle = read_bundle(source)
        file, chosen = bundle.model, chosen or arithmetic_of(bundle.board)
    if precision is not None and chosen is None:
        raise refuse("--precision", "no board", "add --board: what is measured here runs as the file says")
    wanted = None if precision is None else cast("Precision", one_of("--precision", precision, PRECISIONS))
    found = profile_of(file, chosen, wanted, runs)
    print(json.dumps(found.as_dict()) if as_json else profile_text(found))
