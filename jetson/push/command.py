"""The command `push`: reads what is asked, updates one drone after another, and says how each ended."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from deploy.bundle import read_bundle
from deploy.errors import refuse
from deploy.signature import TRUSTED, trusted_keys
from jetson.push.address import Address, read_address
from jetson.push.connection import Connection
from jetson.push.copy import sftp_lines, state_words
from jetson.push.questions import (
    JOURNAL,
    RESET,
    RESTART,
    STAGING,
    STOP,
    STORE,
    Place,
    install_words,
    look_words,
    ready_words,
    remove_words,
    rollback_words,
)
from jetson.push.update import EVERY, STATUS, Outcome, Plan, Update
from jetson.runner import Runner

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """examples:
  skylight push drone.local bundles/arch-2
  skylight push pilot@10.0.0.11 pilot@10.0.0.12 bundles/arch-2 --identity ~/.ssh/drones --keep-going
  skylight push drone.local bundles/arch-2 --dry-run

exit status, of several drones the worst: 0 it flies the bundle; 1 the bundle failed and the drone flies what it flew;
2 refused, nothing was changed; 3 the drone was changed and it is not known what it flies (one line says more); 130
stopped by Ctrl-C (where the drone stands is said)
"""
_WORST = (130, 3, 1, 2, 0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("hosts", nargs="+", metavar="[USER@]HOST", help="drones, updated one after another")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that skylight export made")
    parser.add_argument("--user", help="user there, where HOST names none")
    parser.add_argument("--port", type=int, help="port of SSH")
    parser.add_argument("--identity", type=Path, metavar="FILE", help="private key")
    parser.add_argument("-o", "--option", action="append", default=[], metavar="KEY=VALUE", help="for ssh_config(5)")
    parser.add_argument("--trusted", type=Path, metavar="FOLDER", help=f"keys trusted here [{TRUSTED}, if there]")
    parser.add_argument("--watch", type=float, default=60, metavar="SECONDS", help="of flying well [%(default)s]")
    parser.add_argument("--ready", type=float, default=300, metavar="S", help="at most until READY [%(default)s]")
    parser.add_argument("--store", default=STORE, help="bundles on the drone [%(default)s]")
    parser.add_argument("--staging", default=STAGING, help="folder there to copy into [%(default)s]")
    parser.add_argument("--page", type=int, default=8080, metavar="PORT", help="of the drone's page [%(default)s]")
    parser.add_argument("--keep-going", action="store_true", help="go on with the next drone after a failure")
    parser.add_argument("--log", type=Path, metavar="FILE", help="add every command and its output to a file")
    parser.add_argument("--dry-run", action="store_true", help="verify, print the exact commands, and reach no drone")
    parser.add_argument("--json", action="store_true", help="print how it ended as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Update drones in the field: verify, copy, install beside, restart, watch, take back what does not fly well."""
    addresses = _addresses(arguments)
    plan = _plan(arguments)
    out = sys.stderr if arguments.json else sys.stdout
    print(f"{plan.folder}: whole; {plan.bundle.signature.text}", file=out, flush=True)
    if arguments.dry_run:
        print("\n".join(_dry_run(address, plan) for address in addresses))
        return 0
    outcomes: list[Outcome] = []
    try:
        with _log(arguments.log) as log:
            _each(addresses, plan, Runner(log), outcomes, arguments.keep_going, out)
    finally:
        if arguments.json:
            print(json.dumps([asdict(outcome) for outcome in outcomes]))
    found = {STATUS[outcome.result] for outcome in outcomes}
    return next(status for status in _WORST if status in found)


def _each(
    addresses: list[Address], plan: Plan, runner: Runner, outcomes: list[Outcome], keeps_going: bool, out: TextIO
) -> None:
    for number, address in enumerate(addresses):
        update = Update(Connection(address, runner), plan, _shown(address, out))
        try:
            outcome = update.run()
        except KeyboardInterrupt:
            outcomes.append(update.outcome)
            print(f"{address.name}: stopped; {update.outcome.stands}", file=sys.stderr)
            raise
        outcomes.append(outcome)
        _tell(outcome, out)
        left = addresses[number + 1 :]
        if STATUS[outcome.result] and left and not keeps_going:
            print(f"not touched: {', '.join(one.name for one in left)}", file=sys.stderr)
            return


def _tell(outcome: Outcome, out: TextIO) -> None:
    """Where the drone stands, and, where that is not well, why in one line and in its own words."""
    if STATUS[outcome.result] == 0:
        about = f", seen well for {outcome.watched:.0f} s" if outcome.watched else " already"
        print(f"{outcome.host}: {outcome.stands}{about}", file=out, flush=True)
        return
    for line in outcome.said:
        print(f"{outcome.host}| {line}", file=sys.stderr)
    reason = outcome.reason.removeprefix(f"{outcome.host}: ")
    stands = "" if outcome.result == "refused" and outcome.stands == "not touched" else f" ({outcome.stands})"
    print(f"jetson push: {outcome.host}: {outcome.result}: {reason}{stands}", file=sys.stderr)


def _addresses(arguments: argparse.Namespace) -> list[Address]:
    common = (arguments.user, arguments.port, arguments.identity, tuple(arguments.option))
    addresses = [read_address(host, *common) for host in arguments.hosts]
    for number, address in enumerate(addresses):
        if address in addresses[:number]:
            raise refuse(address.name, "is named twice", "name every drone once")
    return addresses


def _plan(arguments: argparse.Namespace) -> Plan:
    """The bundle is read, and with that verified, once."""
    for option, low in (("watch", 1), ("ready", 1)):
        value = getattr(arguments, option)
        if not low <= value <= 3600:
            raise refuse(f"--{option} {value:g}", "is out of range", f"allowed: {low} to 3600 seconds")
    if not 1 <= arguments.page <= 65535:
        raise refuse(f"--page {arguments.page}", "is no port", "allowed: 1 to 65535")
    for option in ("store", "staging"):
        path = getattr(arguments, option)
        if not path.startswith("/") or path.rstrip("/") == "" or "\n" in path:
            raise refuse(f"--{option} {path!r}", "is no full path", "give a folder on the drone, from /")
    bundle = read_bundle(arguments.bundle, trusted_keys(arguments.trusted))
    place = Place(arguments.store.rstrip("/"), arguments.staging.rstrip("/"), arguments.page)
    return Plan(bundle, place, arguments.watch, arguments.ready)


def _dry_run(address: Address, plan: Plan) -> str:
    """Every command for a drone, in order, as a person would type it."""
    place, pieces = plan.place, plan.pieces
    names = tuple(piece.name for piece in pieces)
    batch = sftp_lines(pieces, {}, place.incoming)

    def there(*commands: tuple[str, ...]) -> list[str]:
        return [shlex.join(address.ssh(words)) for words in commands]

    lines = [f"# {address.name}: what is there and allowed", *there(ready_words(place), look_words(place))]
    lines += ["# copy, what is missing of it, with rsync", *there(state_words(pieces, place))]
    lines += [f"cd {shlex.quote(str(plan.root))}", shlex.join(address.rsync(names, place.incoming))]
    lines += ["# or, where one of the two has no rsync", shlex.join(address.sftp(Path("BATCH"))), "# with as BATCH"]
    lines += [f"#   {line}" for line in batch.splitlines()]
    lines += ["# verify there, golden frames, switch", *there(install_words(place), remove_words(place))]
    lines += ["# fly it", *there(RESTART), f"# look, every {EVERY:.0f} s, until it flew well for {plan.seconds:.0f} s"]
    lines += there(look_words(place))
    lines += ["# if it does not", *there(JOURNAL, STOP, rollback_words(place), RESET, RESTART, look_words(place))]
    return "\n".join(lines)


def _shown(address: Address, out: TextIO) -> Callable[[str], None]:
    """Shows a line of what goes on, of this drone."""
    return lambda text: print(f"{address.name}: {text}", file=out, flush=True)


def _log(path: Path | None) -> TextIO:
    if path is None:
        return Path("/dev/null").open("w", encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a", encoding="utf-8")
