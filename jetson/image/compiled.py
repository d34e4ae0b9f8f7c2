"""Compiles the Python of what flies in a root file system, by that system's own interpreter, emulated where it must be.

No other will do: what Python 3.6 reads, a newer one does not write. Knows nothing of what is compiled.
"""

import os
from pathlib import Path

from deploy.errors import UserError, refuse
from jetson.package.build import epoch
from jetson.runner import Command, Runner

__all__ = ["compile_sources"]

_HOME = "usr/lib/skylight"
_PYTHON = "usr/bin/python3"
# Of nothing else may it depend what is compiled; the seed gives sets of constants their order.
_ENVIRONMENT = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "PYTHONHASHSEED=0", f"PYTHONPATH=/{_HOME}")


def compile_sources(root: Path, runner: Runner) -> None:
    """Compile package and libraries, which are installed; a root without Python, where nothing flies, stays as it is.

    The same sources give the same files: Python 3.6 puts the time of a source into what it compiles, so they get one.

    Raises:
        UserError: programs of the root file system do not run here, or it compiles with errors.
    """
    root = root.resolve()  # commands run in it
    if not os.path.lexists(root / _PYTHON):
        return
    for path in sorted((root / _HOME).rglob("*.py")):
        os.utime(path, (epoch(), epoch()), follow_symlinks=False)
    inside = ("env", "-i", *_ENVIRONMENT, "chroot", str(root), f"/{_PYTHON}", "-B")
    try:
        runner.run(Command((*inside, "-c", ""), folder=root, as_root=True))
    except UserError as error:
        raise refuse(root, f"its Python does not run here ({error})", "apt-get install qemu-user-static") from None
    compiling = (*inside, "-m", "deploy.compiled")
    runner.run(Command((*compiling, f"/{_HOME}/deploy"), folder=root, as_root=True))
    if (root / _HOME / "wheels").is_dir():  # not all of them can be
        runner.attempt(Command((*compiling, f"/{_HOME}/wheels"), folder=root, as_root=True))
