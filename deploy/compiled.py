"""Compiles what is installed, once: the service may not write there, and without it every start compiles all of it.

python3 -B -m deploy.compiled FOLDER...      what flies, as the package's postinst calls it; an image that is made
skylight-detect wheels                       the libraries that it unpacks

Since Python 3.7 a compiled file holds a hash of its source (PEP 552, checked): it is the same whenever it is made, and
a source that somebody edits is read. Python 3.6 compares the source's time and size; who wants the same file again
gives the sources the same time.
"""

import compileall
import os
import py_compile
import re
import sys
from pathlib import Path
from typing import Any, Dict, List

# 80 MB of pymavlink's sources are dialects, of which deploy/autopilot imports one.
_SKIPPED = re.compile(r"/pymavlink/dialects/(?!v20/common\.py$|(v20/)?__init__\.py$)")
_DEPTH = 20  # folders


def compile_folder(folder: Path) -> bool:
    """Compile every Python file below `folder`, whatever was compiled before; whether all could be.

    A library may hold files of other versions of Python, which cannot; they are passed over.
    """
    how: Dict[str, Any] = {"maxlevels": _DEPTH, "quiet": 2, "force": True, "rx": _SKIPPED}
    modes = getattr(py_compile, "PycInvalidationMode", None)  # new in Python 3.7
    if modes is not None:
        how["invalidation_mode"] = modes.CHECKED_HASH
    before = os.umask(0o022)  # the service is another user
    try:
        return bool(compileall.compile_dir(str(folder), **how))
    finally:
        os.umask(before)


def main(folders: List[str]) -> int:
    """Compile folders; 1 where a file could not be."""
    results = [compile_folder(Path(folder)) for folder in folders]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
