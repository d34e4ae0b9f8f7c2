"""The verb that says whether a board takes an ONNX file."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import Json
from pipeline.cli.export import export_app

__all__ = ["BoardName"]

BoardName = Annotated[str, typer.Option("--board", metavar="NAME|FILE", help="A board of ours, or a file of your own.")]


@export_app.command(epilog="Example: skylight export lint model.onnx --board jetson-tx2")
def lint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="ONNX file, of whatever exporter.")],
    board: BoardName,
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
