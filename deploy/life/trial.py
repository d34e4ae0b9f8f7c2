"""Whether a bundle flies on this machine: its golden frames are run in a process of their own.

What crashes, hangs or eats the memory there takes nothing else with it. Knows nothing of where bundles are kept.
"""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import List, Optional

from deploy.bundle import read_bundle
from deploy.errors import UserError, refuse
from deploy.events import Events
from deploy.settings import read_settings
from deploy.signature import trusted_keys

# Seconds. An engine for Tiny-YOLOv3 is built first on boards with TensorRT, which takes minutes on the small ones.
TIME_LIMIT = 900
_PATIENCE = 30  # seconds more, should the child's own alarm not end it
_REMEDY = "this bundle does not fly here; export it again for this board"


def run_trial(
    path: Path, trusted: Optional[Path] = None, time_limit: int = TIME_LIMIT, settings: Optional[Path] = None
) -> None:
    """Run the golden frames of the bundle `path` in a child process, in the library that flies it.

    trusted: folder of keys, None for the machine's own. time_limit: seconds. settings: the file whose section
    `network` holds, None for the defaults.
    Raises UserError: they do not give what they must, it took too long, or the child died.
    """
    command = [sys.executable, "-m", "deploy.life.trial", str(path), "--time-limit", str(time_limit)]
    command += ["--trusted", str(trusted)] if trusted is not None else []
    command += ["--settings", str(settings)] if settings is not None else []
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(part for part in paths if part))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    try:
        _, errors = process.communicate(timeout=time_limit + _PATIENCE)
    except subprocess.TimeoutExpired:
        _, errors = b"", b""
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode == 0:
        return
    lines = errors.decode("utf-8", errors="replace").strip().splitlines()
    if process.returncode == 2 and lines:
        raise UserError(lines[-1])
    raise refuse(path, "golden frames: " + _ending(process.returncode, time_limit, lines), _REMEDY)


def _ending(status: int, time_limit: int, lines: List[str]) -> str:
    if status in (-signal.SIGALRM, -signal.SIGKILL):
        return "took longer than {} s, or all memory".format(time_limit)
    if status < 0:
        return "their process died by {}".format(signal.Signals(-status).name)
    return "their process failed ({})".format(lines[-1][:160] if lines else "exit status {}".format(status))


def main(argv: Optional[List[str]] = None) -> int:
    """The child: exit status 0 if all is well, 2 with one line on standard error if not."""
    parser = argparse.ArgumentParser(prog="deploy.life.trial", description="Run the golden frames of a bundle.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--trusted", type=Path)
    parser.add_argument("--time-limit", type=int, default=TIME_LIMIT)
    parser.add_argument("--settings", type=Path)
    arguments = parser.parse_args(argv)
    # numpy and OpenCV, which who only copies bundles may not have
    from deploy.backends import open_networks
    from deploy.drone_settings import SECTIONS

    signal.alarm(arguments.time_limit)  # ends it inside of a library's call too, and where the parent was killed
    try:
        bundle = read_bundle(arguments.bundle, trusted_keys(arguments.trusted))
        network = read_settings(arguments.settings, SECTIONS)["network"]
        networks = open_networks(bundle, network.choice(), Events(None))  # an engine that is built here is kept
        networks.check_golden()
        networks.close()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
