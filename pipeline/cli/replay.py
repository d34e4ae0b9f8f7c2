"""The verbs of the flight log: what was flown, what another bundle would have found, which frames to label."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import Json, app
from pipeline.cli.overview import examples

__all__ = ["log_app"]

log_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples("skylight log show log", "skylight log export log to-label"),
    help="Look at the logs of flights, and take out the frames worth labelling.",
)
app.add_typer(log_app, name="log")

_Log = Annotated[Path, typer.Argument(metavar="LOG", help="Folder of a flight, or of all flights.")]
_Flight = Annotated[
    int | None, typer.Option("--flight", min=1, metavar="N", help="Number of the flight; by default the newest.")
]


@app.command(
    epilog=examples(
        "skylight replay log --bundle bundles/arch-2",
        "skylight replay log/flight-000012 --bundle bundles/arch-2 --against bundles/arch-1 --out differences",
    )
)
def replay(
    log: _Log,
    bundle: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The bundle to try, a folder that skylight export made.")
    ],
    flight: _Flight = None,
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What was flown on: every frame, not only those kept.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Compare with this bundle on the same frames instead of with the log."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="For pictures of what differs, side by side.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a bundle on the frames of a flight and show what it finds otherwise."""
    from deploy.flightlog.reading import FlightRecords, find_flight
    from deploy.replay.frames import open_detector
    from deploy.replay.frames import replay as compare_frames
    from deploy.replay.report import collect, replay_json, replay_text

    records = FlightRecords(find_flight(log, flight))
    before = open_detector(against) if against is not None else None
    frames = collect(compare_frames(records, open_detector(bundle), video, before), out)
    print(json.dumps(replay_json(frames)) if as_json else replay_text(frames))


@log_app.command(epilog=examples("skylight log show log", "skylight log show log --flight 12 --json"))
def show(log: _Log, flight: _Flight = None, as_json: Json = False) -> None:
    """Print what a flight was: bundle, frames, ages, what was sent and kept, events, and what of the log is damaged."""
    from deploy.flightlog.reading import FlightRecords, find_flight
    from deploy.flightlog.summary import flight_summary, flight_text

    about = flight_summary(FlightRecords(find_flight(log, flight)))
    print(json.dumps(about) if as_json else flight_text(about))


@log_app.command(epilog=examples("skylight log export log/flight-000012 to-label"))
def export(
    log: _Log,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder: images/, labels/, data.yaml, picked.csv.")],
    flight: _Flight = None,
    rule: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only frames kept by this rule; repeat for several.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take out the frames worth labelling, with what the detector said as drafts of labels in YOLO rows."""
    from deploy.flightlog.reading import FlightRecords, find_flight
    from pipeline.curate.droneflights import write_kept_frames

    picked = write_kept_frames(out, FlightRecords(find_flight(log, flight)), tuple(rule or ()))
    if as_json:
        print(json.dumps({"folder": str(out), "frames": [candidate.image_id for candidate in picked]}))
        return
    print(f"{out}: {len(picked)} frames with drafts of labels; correct them before they are trained on")
