"""`skylight-detect bundles`: what is installed, newest first, and in which state."""

import argparse
import json
from typing import List

from deploy.life.install import add_store_arguments
from deploy.life.store import Installed, check, list_bundles, read_notes
from deploy.signature import trusted_keys

add_arguments = add_store_arguments


def run(arguments: argparse.Namespace) -> int:
    """Verify every bundle, and print a line for each."""
    trusted = trusted_keys(arguments.trusted)
    starts = read_notes(arguments.store)
    rows = []
    for one in list_bundles(arguments.store):
        count = starts.starts if starts.started == one.folder else 0
        rows.append(dict(one._asdict(), problem=check(arguments.store, one.folder, trusted), starts=count))
        if not arguments.json:
            print("{}: {}".format(one.folder, "; ".join(_state(one, rows[-1]["problem"], count))))
    if arguments.json:
        print(json.dumps(rows))
    elif not rows:
        print("{}: no bundle is installed; skylight-detect install BUNDLE".format(arguments.store))
    return 0


def _state(one: Installed, problem: object, starts: int) -> List[str]:
    words = [word for word, is_so in (("current", one.is_current), ("previous", one.is_previous)) if is_so]
    if starts:
        words.append("started {} times and not seen to last".format(starts))
    if one.failed is not None:
        words.append("FAILED: {}".format(one.failed))
    words.append("verifies" if problem is None else "DOES NOT VERIFY: {}".format(problem))
    return words
