"""`skylight-detect run`: a bundle on a source, boxes and times into files."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, Optional

from deploy.backends import AUTO, KINDS, Choice, Networks, open_networks
from deploy.bundle import Bundle, read_bundle
from deploy.errors import refuse
from deploy.events import Events
from deploy.frame import Observation
from deploy.loop import STAGES, Loop, LoopSettings, Summary
from deploy.outputs import NAMES, Outputs
from deploy.part import Part
from deploy.signature import TRUSTED, trusted_keys
from deploy.sources import Source, SourceSettings, open_source
from deploy.sources.settings import PACES
from deploy.stop import Stop
from deploy.tracks import Tracker, TrackSettings

EXAMPLES = """examples:
  skylight-detect run --bundle bundles/arch-1 --source flight.mp4 --out out
  skylight-detect run --bundle bundles/arch-1 --source photos/ --out out
  skylight-detect run --bundle bundles/arch-1 --source 0 --max-frames 500 --no-video --out out
  skylight-detect run --bundle bundles/arch-1 --source 0 --trusted keys --golden --model model.fp16.onnx --out out

Where trusted public keys are set up, a bundle that none of them signed is refused.

exit status: 0 done, 2 something you can put right (one line says what), 130 stopped by Ctrl-C (what was done is kept)
"""

_TRUSTED_HELP = "folder of the public keys whose bundles are taken [{}, where that exists]".format(TRUSTED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what can be asked."""
    parser.add_argument("--bundle", required=True, type=Path, help="folder that skylight export made")
    parser.add_argument("--model", metavar="FILE", help="which of the bundle's models runs [its first]")
    parser.add_argument("--trusted", type=Path, metavar="FOLDER", help=_TRUSTED_HELP)
    parser.add_argument("--golden", action="store_true", help="first check that the golden frames give what they must")
    parser.add_argument(
        "--source",
        required=True,
        help="picture, folder, video, camera (csi, 0, /dev/video0), rtsp:// address or gst: and a pipeline",
    )
    text = "of a video: every frame as fast as it can be run, or the newest only, as a camera gives them [%(default)s]"
    parser.add_argument("--pace", choices=PACES, default=PACES[0], help=text)
    parser.add_argument("--out", type=Path, default=Path("detections"), help="folder for the results [%(default)s]")
    parser.add_argument("--no-video", action="store_true", help="write detections.jsonl only, draw nothing")
    parser.add_argument("--threshold", type=float, help="score threshold instead of the bundle's, between 0 and 1")
    parser.add_argument("--max-frames", type=int, help="stop after so many frames")
    text = "what runs the network; auto takes the first that is there [%(default)s]"
    parser.add_argument("--backend", choices=(AUTO,) + KINDS, default=AUTO, help=text)
    parser.add_argument("--threads", type=int, help="threads for the network [all cores]")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(arguments: argparse.Namespace) -> int:
    """Run a bundle on a picture, folder, video, camera or stream, and write what it finds.

    Returns the exit status. Raises UserError for what the options, the bundle or the source have wrong.
    """
    for name in ("max_frames", "threads"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise refuse("--" + name.replace("_", "-"), value, "give a whole number from 1")
    bundle = _read_bundle(arguments)
    events = Events(None if arguments.quiet or arguments.json else sys.stderr)
    choice = Choice(arguments.backend, arguments.threads, model=arguments.model or bundle.models[0].file)
    networks = open_networks(bundle, choice, Events(None))
    try:
        if arguments.golden:
            _check_golden(networks, arguments)
        _check_out(arguments.out, arguments.source)
        settings = SourceSettings(device=arguments.source, pace=arguments.pace, wait=False)
        with open_source(None, settings, bundle.board, events) as source:
            is_video = source.kind in ("video", "live")
            outputs = Outputs(arguments.out, bundle.classes, source.fps, is_video, not arguments.no_video)
            return _run(arguments, source, networks, outputs, events)
    finally:
        networks.close()


def _read_bundle(arguments: argparse.Namespace) -> Bundle:
    """The bundle as the options want it; says aloud where nobody checks who made it."""
    bundle = read_bundle(arguments.bundle, trusted_keys(arguments.trusted))
    if bundle.signature.trusted_as is None and not arguments.quiet and not arguments.json:
        print("{}: {}".format(arguments.bundle, bundle.signature.text), flush=True)
    if arguments.model is not None:
        bundle = bundle.with_model(arguments.model)
    if arguments.threshold is not None:
        if not 0 < arguments.threshold < 1:
            raise refuse("--threshold", arguments.threshold, "give a number between 0 and 1")
        bundle = bundle._replace(score_threshold=arguments.threshold)
    return bundle


def _check_golden(networks: Networks, arguments: argparse.Namespace) -> None:
    for report in networks.check_golden():
        if not arguments.quiet and not arguments.json:
            print(report.text, flush=True)


def _check_out(out: Path, source: str) -> None:
    """Refuse to read what the run is going to replace."""
    path = Path(source).resolve()
    for result in (out.resolve() / name for name in NAMES):
        if result.exists() and (result == path or result in path.parents):
            raise refuse(source, "this run would replace it", "give another --out")


def _run(arguments: argparse.Namespace, source: Source, networks: Networks, outputs: Outputs, events: Events) -> int:
    stop = Stop()
    progress = _Progress(source.length, arguments.quiet or arguments.json)
    bundle = networks.own.bundle
    about = {
        "bundle": bundle.name,
        "version": bundle.version,
        "model": bundle.models[0].file,
        "trust": bundle.signature.text,
        "source": arguments.source,
        "backend": networks.own.backend.name,
    }
    tracker = Tracker(TrackSettings()) if source.kind in ("video", "live") else None
    settings = LoopSettings(frames=arguments.max_frames)
    try:
        outputs.header(dict(about, classes=list(bundle.classes), threshold=bundle.score_threshold))
        summary = Loop(source, networks, [outputs, progress], settings, tracker, events).run(stop)
        outputs.close()
    except BaseException:
        if source.kind == "live" and outputs.frames:  # what was seen cannot be seen again
            outputs.finish()
        else:
            outputs.discard()
        raise
    finally:
        stop.restore()
        progress.close()
    files = outputs.finish()
    _report(arguments, summary, dict(about, files=[str(file) for file in files]))
    if stop.is_asked:
        print("skylight-detect: stopped; {} holds {} frames".format(arguments.out, summary.frames), file=sys.stderr)
        return 130
    return 0


class _Progress(Part):
    """A counter on one line of a terminal, and now and then a line in a log."""

    name = "progress"

    def __init__(self, length: Optional[int], is_quiet: bool) -> None:
        self._frames = 0
        self._length, self._is_quiet = length, is_quiet
        self._is_terminal = sys.stderr.isatty()

    def publish(self, observation: Observation) -> None:
        """Count."""
        self._frames += 1
        if self._is_quiet or self._frames % (5 if self._is_terminal else 500):
            return
        of = " of {}".format(self._length) if self._length else ""
        print(
            "{}frame {}{}".format("\r" if self._is_terminal else "", self._frames, of),
            end="" if self._is_terminal else "\n",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        """End the line."""
        if self._is_terminal and not self._is_quiet:
            print(file=sys.stderr)


def _report(arguments: argparse.Namespace, summary: Summary, about: Dict[str, Any]) -> None:
    if arguments.json:
        print(json.dumps(dict(about, **summary._asdict())))
    if arguments.json or arguments.quiet:
        return
    rate = summary.frames / summary.seconds if summary.seconds else 0.0
    print(
        "{} frames in {:.1f} s ({:.1f}/s), {} dropped, {} detections, {}".format(
            summary.frames, summary.seconds, rate, summary.dropped, summary.detections, about["backend"]
        )
    )
    for stage in STAGES:
        if stage in summary.milliseconds:
            median, slow = summary.milliseconds[stage]
            print("  {:8} {:8.2f} ms median {:8.2f} ms p99".format(stage, median, slow))
    for file in about["files"]:
        print(file)
