"""Replay on the drone itself: `python3 -m deploy.replay_command LOG --bundle NEW`."""

import argparse
import json
import sys
from pathlib import Path
from typing import List, Optional

from deploy.backends import OnnxRuntimeBackend
from deploy.bundle import read_bundle
from deploy.errors import UserError
from deploy.flightlog.reading import FlightRecords, find_flight
from deploy.replay import Detect, bundle_detector, replay
from deploy.replay_report import collect, replay_json, replay_text
from deploy.signature import trusted_keys


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="replay", description="Run a bundle on the frames of a flight.")
    parser.add_argument("log", type=Path, help="folder of a flight, or of all flights")
    parser.add_argument("--bundle", type=Path, required=True, help="the bundle to try")
    parser.add_argument("--against", type=Path, help="compare with this bundle instead of with the log")
    parser.add_argument("--flight", type=int, help="number of the flight [the newest]")
    parser.add_argument("--video", type=Path, help="what was flown on, for every frame")
    parser.add_argument("--out", type=Path, help="folder for pictures of what differs")
    parser.add_argument("--trusted", type=Path, metavar="FOLDER", help="folder of the public keys that are taken")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_args(argv)
    try:
        records = FlightRecords(find_flight(arguments.log, arguments.flight))
        before = _detector(arguments.against, arguments.trusted) if arguments.against is not None else None
        after = _detector(arguments.bundle, arguments.trusted)
        frames = collect(replay(records, after, arguments.video, before), arguments.out)
    except UserError as error:
        print("replay: {}".format(error), file=sys.stderr)
        return 2
    print(json.dumps(replay_json(frames)) if arguments.json else replay_text(frames))
    return 0


def _detector(folder: Path, trusted: Optional[Path]) -> Detect:
    bundle = read_bundle(folder, trusted_keys(trusted))
    return bundle_detector(bundle, OnnxRuntimeBackend(bundle.model))


if __name__ == "__main__":
    sys.exit(main())
