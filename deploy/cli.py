"""The command of the drone, `skylight-detect`: reads what is asked, and calls the module that does it."""

import argparse
import importlib
import os
import sys
from typing import Dict, List, NoReturn, Optional, Tuple

from deploy.errors import UserError
from deploy.version import VERSION

# By name: the module, which has `add_arguments(parser)` and `run(arguments)`, and what it does.
COMMANDS: Dict[str, Tuple[str, str]] = {
    "run": ("deploy.run", "a bundle on a picture, folder, video, camera or stream, into files"),
    "fly": ("deploy.fly", "what the service runs: camera to autopilot, as the settings say, for ever"),
    "doctor": ("deploy.life.doctor", "what keeps this machine from flying, and what to do about it"),
    "install": ("deploy.life.install", "a bundle beside the old one: verified, tried, and switched to"),
    "bundles": ("deploy.life.list_bundles", "the installed bundles, and what is known of each"),
    "rollback": ("deploy.life.roll_back", "back to the bundle before"),
    "wheels": ("deploy.wheels", "libraries that the board does not bring, from a folder, without a network"),
    "replay": ("deploy.replay.command", "another bundle on the frames of a flight, and what differs"),
}

_ABOUT = """usage: skylight-detect [COMMAND] OPTIONS

A window detector in flight, from a bundle of skylight export.

commands (run is meant where none is named):
{}

examples:
  skylight-detect --bundle bundles/arch-1 --source flight.mp4 --out out
  skylight-detect fly --settings /etc/skylight/detect.ini

skylight-detect COMMAND --help says more of each, --version which version this is.
exit status: 0 done, 2 something you can put right (one line says what), 130 stopped by Ctrl-C (what was done is kept)
"""


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command; returns its exit status."""
    given = sys.argv[1:] if argv is None else list(argv)
    if given == ["--version"]:
        print("skylight-detect {}".format(VERSION))
        return 0
    if given in ([], ["-h"], ["--help"]):
        print(_help(), end="")
        return 0 if given else 2
    name = given.pop(0) if given[0] in COMMANDS else "run"
    arguments = _parse(name, given)
    if name not in ("doctor", "wheels"):  # these run where OpenCV cannot be imported
        _silence_opencv()
    try:
        status: int = importlib.import_module(COMMANDS[name][0]).run(arguments)
        return status
    except UserError as error:
        print("skylight-detect: {}".format(error), file=sys.stderr)
    except OSError as error:  # a full disk, a folder that may not be written
        place = "" if error.filename is None else "{}: ".format(error.filename)
        print("skylight-detect: {}{}".format(place, error.strerror or error), file=sys.stderr)
    except KeyboardInterrupt:
        print("skylight-detect: stopped", file=sys.stderr)
        return 130
    return 2


class _Parser(argparse.ArgumentParser):
    """Refuses in one line, as everything here does."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, "skylight-detect: {}; see {} --help\n".format(message, self.prog))


def _help() -> str:
    lines = ["  {:<10} {}".format(name, about) for name, (_, about) in COMMANDS.items()]
    return _ABOUT.format("\n".join(lines))


def _parse(name: str, given: List[str]) -> argparse.Namespace:
    module = importlib.import_module(COMMANDS[name][0])
    parser = _Parser(
        prog="skylight-detect {}".format(name),
        description=(module.run.__doc__ or "").strip(),
        epilog=getattr(module, "EXAMPLES", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return parser.parse_args(given)


def _silence_opencv() -> None:
    """What goes wrong is said here, in one line; OpenCV and FFmpeg need not say it too."""
    import cv2

    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    logging = getattr(getattr(cv2, "utils", None), "logging", None)  # newer than 4.1.1
    if logging is not None:
        logging.setLogLevel(logging.LOG_LEVEL_SILENT)


if __name__ == "__main__":
    sys.exit(main())
