"""The Python of a Jetson TX2, where this machine has one."""

import os
import shutil
import subprocess
from pathlib import Path


def python36() -> str | None:
    """A Python 3.6 that starts; what a version manager puts on the path may only say that it is not chosen."""
    homes = os.environ.get("PYENV_ROOT", "")
    found = [shutil.which("python3.6"), *map(str, Path(homes or "nowhere").glob("versions/3.6.*/bin/python"))]
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for path in found:
        if path is None:
            continue
        words = (path, "-c", "import venv, ensurepip")
        if subprocess.run(words, env=alone, capture_output=True, timeout=300, check=False).returncode == 0:
            return path
    return None
