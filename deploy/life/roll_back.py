"""`skylight-detect rollback`: the bundle before flies again, from the next start."""

import argparse
import json

from deploy.errors import refuse
from deploy.life.install import add_store_arguments
from deploy.life.store import CURRENT, linked, list_bundles, lock_store, roll_back
from deploy.signature import trusted_keys

_REASON = "taken back by hand"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    text = "folder name of the bundle, as skylight-detect bundles lists it [the previous one]"
    parser.add_argument("folder", nargs="?", metavar="BUNDLE", help=text)
    add_store_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Switch, and mark what flew until now: it is not taken by itself again, until it is installed again."""
    store = arguments.store
    if not store.is_dir():
        raise refuse(store, "no bundle is installed", "skylight-detect install BUNDLE")
    with lock_store(store):
        before = linked(store, CURRENT)
        known = [one.folder for one in list_bundles(store)]
        if arguments.folder is not None and (arguments.folder not in known or arguments.folder == before):
            found = "flies already" if arguments.folder == before else "is not installed"
            raise refuse(arguments.folder, found, "allowed: " + ", ".join(name for name in known if name != before))
        folder = roll_back(store, trusted_keys(arguments.trusted), _REASON, arguments.folder)
    if arguments.json:
        print(json.dumps({"folder": folder, "before": before}))
        return 0
    print("{}: current, instead of {}".format(store / folder, before or "none"))
    print("flies from the next start: sudo systemctl restart skylight-detect")
    return 0
