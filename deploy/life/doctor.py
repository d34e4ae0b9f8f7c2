"""`skylight-detect doctor`: looks at everything that keeps a drone from flying, and says what to do.

A line for each check: ok, warning or problem, what was found, and the remedy. It changes nothing, and goes on whatever
it finds. The checks themselves are in check_software.py, check_machine.py and check_flight.py.
"""

import argparse
import getpass
import os
import platform
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

from deploy.bundle import Bundle, read_bundle
from deploy.errors import UserError
from deploy.life.check_flight import check_bundle, check_engine, check_keys, check_service, check_settings
from deploy.life.check_machine import check_cameras, check_disk, check_memory, check_power, check_serial, check_time
from deploy.life.check_software import check_libraries, check_network, check_numpy, check_opencv, check_python
from deploy.life.checks import Check, Machine, checks_json, checks_status, checks_text, run_checks
from deploy.life.store import CURRENT, STORE
from deploy.settings import SETTINGS
from deploy.signature import TRUSTED, trusted_keys

USER = "skylight"

CHECKS: Tuple[Callable[[Machine], List[Check]], ...] = (
    check_python,
    check_numpy,
    check_opencv,
    check_network,
    check_libraries,
    check_cameras,
    check_serial,
    check_power,
    check_memory,
    check_disk,
    check_time,
    check_keys,
    check_settings,
    check_bundle,
    check_engine,
    check_service,
)


def diagnose(machine: Machine) -> List[Check]:
    """Run every check."""
    return run_checks(CHECKS, machine)


def look_at(
    root: Path = Path("/"),
    settings: Path = SETTINGS,
    store: Path = STORE,
    trusted: Optional[Path] = None,
    user: Optional[str] = None,
    environment: Optional[Dict[str, str]] = None,
) -> Machine:
    """This machine. root: another tree of files in its place, below which settings and store lie then."""
    root = root.resolve()
    settings, store = _below(root, settings), _below(root, store)
    machine = Machine(
        root=root,
        settings=settings,
        store=store,
        trusted=trusted,
        bundle=None,
        bundle_problem="",
        python=sys.executable,
        environment=dict(os.environ) if environment is None else environment,
        user=user or "",
        architecture=platform.machine(),
        now=time.time(),
    )
    bundle, problem = _read_current(machine)
    passwd = machine.read("/etc/passwd") or ""
    usual = USER if any(line.startswith(USER + ":") for line in passwd.splitlines()) else getpass.getuser()
    return machine._replace(bundle=bundle, bundle_problem=problem, user=user or usual)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.description = "Look at everything that keeps this machine from flying. Changes nothing."
    parser.epilog = "exit status: 0 all is well, or warnings alone; 1 a problem; 2 the command was not understood"
    parser.add_argument("--settings", type=Path, default=SETTINGS, metavar="FILE", help="settings [%(default)s]")
    parser.add_argument("--store", type=Path, default=STORE, help="folder of the installed bundles [%(default)s]")
    parser.add_argument("--trusted", type=Path, metavar="FOLDER", help="trusted public keys [{}]".format(TRUSTED))
    text = "who runs the loop [{}, where there is such a user, else you]".format(USER)
    parser.add_argument("--user", help=text)
    parser.add_argument("--root", type=Path, default=Path("/"), help="look at the files below this folder [/]")
    parser.add_argument("--json", action="store_true", help="print a list of name, level, value, remedy")


def run(arguments: argparse.Namespace) -> int:
    """Diagnose and print; 1 where there is a problem."""
    machine = look_at(arguments.root, arguments.settings, arguments.store, arguments.trusted, arguments.user)
    found = diagnose(machine)
    print(checks_json(found) if arguments.json else checks_text(found))
    return checks_status(found)


def _below(root: Path, path: Path) -> Path:
    """Where a path of the drone lies below another root; one that was given inside of it stays."""
    if root == Path("/") or root in path.parents:
        return path
    return root / str(path).lstrip("/")


def _read_current(machine: Machine) -> Tuple[Optional[Bundle], str]:
    keys = machine.trusted
    if keys is None and machine.path(str(TRUSTED)).exists():
        keys = machine.path(str(TRUSTED))
    current = machine.store / CURRENT
    if not current.exists():
        return None, "{}: no bundle is installed".format(machine.store)
    try:
        return read_bundle(current, trusted_keys(keys) if keys is not None else None), ""
    except UserError as error:
        return None, str(error)
    except OSError as error:
        return None, "{}: {}".format(current, error.strerror or error)
