"""The command of the drone, `skylight-detect`: a bundle on a source, boxes and times into files."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import List, NoReturn, Optional

import cv2

from deploy.backends import OnnxRuntimeBackend
from deploy.bundle import Bundle, read_bundle
from deploy.errors import UserError, refuse
from deploy.golden import check_golden
from deploy.loop import STAGES, Summary, run
from deploy.outputs import NAMES, Outputs
from deploy.signature import TRUSTED, trusted_keys
from deploy.sources import Source, open_source

_EXAMPLES = """examples:
  skylight-detect --bundle bundles/arch-1 --source flight.mp4 --out out
  skylight-detect --bundle bundles/arch-1 --source photos/ --out out
  skylight-detect --bundle bundles/arch-1 --source 0 --max-frames 500 --no-video --out out
  skylight-detect --bundle bundles/arch-1 --source 0 --trusted keys --golden --model model.fp16.onnx --out out

Where trusted public keys are set up, a bundle that none of them signed is refused.

exit status: 0 done, 2 something you can put right (one line says what), 130 stopped by Ctrl-C (what was done is kept)
"""

_TRUSTED_HELP = "folder of the public keys whose bundles are taken [{}, where that exists]".format(TRUSTED)


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    _silence_opencv()
    try:
        return _detect(arguments)
    except UserError as error:
        print("skylight-detect: {}".format(error), file=sys.stderr)
    except OSError as error:  # a full disk, a folder that may not be written
        print("skylight-detect: {}: {}".format(error.filename, error.strerror or error), file=sys.stderr)
    except KeyboardInterrupt:
        print("skylight-detect: stopped", file=sys.stderr)
        return 130
    return 2


def _silence_opencv() -> None:
    """What goes wrong is said here, in one line; OpenCV and FFmpeg need not say it too."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    logging = getattr(getattr(cv2, "utils", None), "logging", None)  # newer than 4.1.1
    if logging is not None:
        logging.setLogLevel(logging.LOG_LEVEL_SILENT)


class _Parser(argparse.ArgumentParser):
    """Refuses in one line, as everything here does."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, "skylight-detect: {}; see skylight-detect --help\n".format(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="skylight-detect",
        description="Run a bundle on a picture, folder, video, camera or stream.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bundle", required=True, type=Path, help="folder that skylight export made")
    parser.add_argument("--model", metavar="FILE", help="which of the bundle's models runs [its first]")
    parser.add_argument("--trusted", type=Path, metavar="FOLDER", help=_TRUSTED_HELP)
    parser.add_argument("--golden", action="store_true", help="first check that the golden frames give what they must")
    parser.add_argument("--source", required=True, help="picture, folder, video, camera number or rtsp:// address")
    parser.add_argument("--out", type=Path, default=Path("detections"), help="folder for the results [%(default)s]")
    parser.add_argument("--no-video", action="store_true", help="write detections.jsonl only, draw nothing")
    parser.add_argument("--threshold", type=float, help="score threshold instead of the bundle's, between 0 and 1")
    parser.add_argument("--max-frames", type=int, help="stop after so many frames")
    parser.add_argument("--threads", type=int, help="threads for the network [all cores]")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def _detect(arguments: argparse.Namespace) -> int:
    for name in ("max_frames", "threads"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise refuse("--" + name.replace("_", "-"), value, "give a whole number from 1")
    bundle = _read_bundle(arguments)
    backend = _open_backend(bundle, arguments.threads)
    if arguments.golden:
        check_golden(bundle, backend)
    _check_out(arguments.out, arguments.source)
    with open_source(arguments.source) as source:
        is_video = source.kind in ("video", "live")
        outputs = Outputs(arguments.out, bundle.classes, source.fps, is_video, not arguments.no_video)
        return _run(arguments, source, bundle, backend, outputs)


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


def _open_backend(bundle: Bundle, threads: Optional[int]) -> OnnxRuntimeBackend:
    backend = OnnxRuntimeBackend(bundle.model, threads)
    if (backend.width, backend.height, backend.classes) != (bundle.width, bundle.height, len(bundle.classes)):
        found = "{}x{} with {} classes".format(backend.width, backend.height, backend.classes)
        raise refuse(bundle.model, found, "bundle.json says otherwise; export the bundle again")
    return backend


def _check_out(out: Path, source: str) -> None:
    """Refuse to read what the run is going to replace."""
    path = Path(source).resolve()
    for result in (out.resolve() / name for name in NAMES):
        if result.exists() and (result == path or result in path.parents):
            raise refuse(source, "this run would replace it", "give another --out")


def _run(
    arguments: argparse.Namespace, source: Source, bundle: Bundle, backend: OnnxRuntimeBackend, outputs: Outputs
) -> int:
    stop = _Stop()
    progress = _Progress(source.length, arguments.quiet or arguments.json)
    about = {
        "bundle": bundle.name,
        "version": bundle.version,
        "model": bundle.models[0].file,
        "trust": bundle.signature.text,
        "source": arguments.source,
        "backend": backend.name,
    }
    try:
        outputs.header(dict(about, classes=list(bundle.classes), threshold=bundle.score_threshold))
        summary = run(source, bundle, backend, outputs, arguments.max_frames, stop, progress)
        outputs.close()
    except BaseException:
        if source.kind == "live" and outputs.frames:  # what was seen cannot be seen again
            outputs.finish()
        else:
            outputs.discard()
        raise
    finally:
        stop.restore()
        progress.end()
    files = outputs.finish()
    _report(arguments, summary, dict(about, files=[str(file) for file in files]))
    if stop.is_asked:
        print("skylight-detect: stopped; {} holds {} frames".format(arguments.out, summary.frames), file=sys.stderr)
        return 130
    return 0


class _Stop:
    """Whether Ctrl-C or SIGTERM was received; a second one does not wait."""

    def __init__(self) -> None:
        self.is_asked = False
        self._before = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._receive)
            except ValueError:  # not the main thread: somebody else's signals
                break

    def _receive(self, _number: int, _frame: object) -> None:
        if self.is_asked:
            raise KeyboardInterrupt
        self.is_asked = True

    def __call__(self) -> bool:
        return self.is_asked

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class _Progress:
    """A counter on one line of a terminal, and now and then a line in a log."""

    def __init__(self, length: Optional[int], is_quiet: bool) -> None:
        self._length, self._is_quiet = length, is_quiet
        self._is_terminal = sys.stderr.isatty()

    def __call__(self, frames: int) -> None:
        if self._is_quiet or frames % (5 if self._is_terminal else 500):
            return
        of = " of {}".format(self._length) if self._length else ""
        print(
            "{}frame {}{}".format("\r" if self._is_terminal else "", frames, of),
            end="" if self._is_terminal else "\n",
            file=sys.stderr,
            flush=True,
        )

    def end(self) -> None:
        if self._is_terminal and not self._is_quiet:
            print(file=sys.stderr)


def _report(arguments: argparse.Namespace, summary: Summary, about: dict) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
