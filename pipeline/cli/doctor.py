"""The verb that looks at this machine."""

from pathlib import Path

import typer

from pipeline.cli.app import Json, Root, app
from pipeline.cli.overview import examples

_STATUS = "Exit status: 0 all is well, or warnings alone; 1 a problem; 2 the command was not understood; 130 Ctrl-C."


@app.command(
    epilog=examples("skylight doctor", "skylight doctor --root /mnt/team", "skylight doctor --json", status=_STATUS)
)
def doctor(root: Root = Path(), as_json: Json = False) -> None:
    """Look at everything that keeps this machine from curating, training and exporting. Changes nothing.

    A line for each check: ok, warning or problem, what was found, and what to do. The drone has its own,
    skylight-detect doctor.
    """
    from deploy.life.checks import checks_json, checks_status, checks_text, run_checks
    from pipeline.doctor import CHECKS, Workstation
    from pipeline.workspace import Workspace

    found = run_checks(CHECKS, Workstation(Workspace(root)))
    print(checks_json(found) if as_json else checks_text(found))
    raise typer.Exit(checks_status(found))
