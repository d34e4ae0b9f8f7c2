"""The workstation that the doctor looks at, each part of which may be a stand-in. Knows no check."""

import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from deploy.life.checks import OK, PROBLEM, WARNING, Check, Outcome, run_program
from pipeline.workspace import Workspace

__all__ = ["Workstation", "amount"]


@dataclass(frozen=True)
class Workstation:
    """What is looked at.

    Attributes:
        workspace: where data/, runs/, bundles/ and cache/ lie.
        files: root of the file system, for what the kernel says.
        python, environment: of the programs of Skylight.
    """

    workspace: Workspace
    files: Path = Path("/")
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def read(self, absolute: str) -> str | None:
        """The text of a file without blanks around it, None where it cannot be read."""
        try:
            return (self.files / absolute.lstrip("/")).read_text(errors="replace").strip()
        except OSError:
            return None

    def which(self, program: str) -> str | None:
        """Where a program is on the path, None where it is not."""
        return shutil.which(program, path=self.environment.get("PATH", os.defpath))

    def run(self, *command: str) -> Outcome:
        """What a program prints, in English."""
        return run_program(command, self.environment | {"LC_ALL": "C"})

    def run_python(self, code: str) -> Outcome:
        """Run code in a Python of its own, where a crash stays; it sees nothing in the folder of whoever calls."""
        return self.run(self.python, "-c", "import sys; sys.path = [path for path in sys.path if path]\n" + code)


def amount(name: str, found: float, least: float, good: float, about: str, remedy: str) -> Check:
    """A check of GiB: a problem below `least`, a warning below `good`."""
    level = PROBLEM if found < least else WARNING if found < good else OK
    value = f"{found:.1f} GiB {about}"
    return Check(name, level, value, "" if level == OK else f"{remedy}; {good:g} GiB are good")
