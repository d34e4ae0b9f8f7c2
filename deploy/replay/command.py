"""`skylight-detect replay`: another bundle on the frames of a flight, on the drone itself."""

import argparse
import json
from pathlib import Path

from deploy.flightlog.reading import FlightRecords, find_flight
from deploy.replay.frames import open_detector, replay
from deploy.replay.report import collect, replay_json, replay_text
from deploy.signature import trusted_keys

EXAMPLES = """examples:
  skylight-detect replay /var/lib/skylight/log --bundle bundles/arch-2
  skylight-detect replay /var/lib/skylight/log --flight 12 --bundle bundles/arch-2 --against bundles/arch-1 --out differ
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what can be asked."""
    parser.add_argument("log", type=Path, help="folder of a flight, or of all flights")
    parser.add_argument("--bundle", type=Path, required=True, help="the bundle to try")
    parser.add_argument("--against", type=Path, help="compare with this bundle instead of with the log")
    parser.add_argument("--flight", type=int, help="number of the flight [the newest]")
    parser.add_argument("--video", type=Path, help="what was flown on, for every frame")
    parser.add_argument("--out", type=Path, help="folder for pictures of what differs")
    parser.add_argument("--trusted", type=Path, metavar="FOLDER", help="folder of the public keys that are taken")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run a bundle on the frames of a flight and show what it finds otherwise."""
    keys = trusted_keys(arguments.trusted)
    records = FlightRecords(find_flight(arguments.log, arguments.flight))
    before = open_detector(arguments.against, keys) if arguments.against is not None else None
    after = open_detector(arguments.bundle, keys)
    frames = collect(replay(records, after, arguments.video, before), arguments.out)
    print(json.dumps(replay_json(frames)) if arguments.json else replay_text(frames))
    return 0
