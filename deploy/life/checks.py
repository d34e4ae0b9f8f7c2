"""What a doctor's checks have in common: what a check says, how all are printed, the drone looked at, and how.

The drone is a tree of files, tools on a path and a Python, each of which may be a stand-in. The workstation's doctor
shares what a check is and how children are run. Knows no check.
"""

import json
import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, TypeVar

from deploy.bundle import Bundle

OK, WARNING, PROBLEM = "ok", "warning", "problem"
LEVELS = (OK, WARNING, PROBLEM)

_TOOL_SECONDS = 10
_PYTHON_SECONDS = 60

Looked = TypeVar("Looked")  # what checks look at: a drone's Machine, or a workstation


class Check(NamedTuple):
    """name: of what was looked at. level: one of LEVELS. value: what was found. remedy: what to do, "" where ok."""

    name: str
    level: str
    value: str
    remedy: str = ""


def run_checks(checks: Sequence[Callable[[Looked], List[Check]]], machine: Looked) -> List[Check]:
    """Run every check; one that breaks is a warning of its own, and the others go on."""
    found = []
    for check in checks:
        try:
            found += check(machine)
        except Exception as error:  # a machine in a state that nobody thought of is what a doctor is called for
            name = check.__name__.replace("check_", "")
            value = "could not be looked at: {}: {}".format(type(error).__name__, " ".join(str(error).split())[:160])
            found.append(Check(name, WARNING, value, "look at it by hand, and report this line"))
    return found


def checks_text(found: Sequence[Check]) -> str:
    """A line for each check, and how many there are of each level."""
    width = max(len(check.name) for check in found)
    lines = []
    for check in found:
        remedy = " -> {}".format(check.remedy) if check.remedy else ""
        lines.append("{:8} {:{}}  {}{}".format(check.level, check.name, width, check.value, remedy))
    lines.append(", ".join("{} {}".format(sum(check.level == level for check in found), level) for level in LEVELS))
    return "\n".join(lines)


def checks_json(found: Sequence[Check]) -> str:
    """A list of name, level, value, remedy."""
    return json.dumps([dict(check._asdict()) for check in found])


def checks_status(found: Sequence[Check]) -> int:
    """Exit status: 1 where there is a problem, else 0."""
    return 1 if any(check.level == PROBLEM for check in found) else 0


class Machine(NamedTuple):
    """What is looked at.

    root: of the file system. settings, store: the drone's own paths. trusted: folder of keys, None for the usual one.
    bundle: that flies next, None with the reason in bundle_problem. python, environment: of the drone's programs.
    user: who runs them. architecture: "aarch64". now: seconds since 1970.
    """

    root: Path
    settings: Path
    store: Path
    trusted: Optional[Path]
    bundle: Optional[Bundle]
    bundle_problem: str
    python: str
    environment: Dict[str, str]
    user: str
    architecture: str
    now: float

    def path(self, absolute: str) -> Path:
        """Where an absolute path lies below the root."""
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> Optional[str]:
        """The text of a file without blanks around it, None where it cannot be read."""
        try:
            return self.path(absolute).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def glob(self, pattern: str) -> List[Path]:
        """Files whose absolute path fits."""
        return sorted(self.root.glob(pattern.lstrip("/")))

    @property
    def is_jetson(self) -> bool:
        """Whether Jetson Linux runs here."""
        return self.read("/etc/nv_tegra_release") is not None

    @property
    def board(self) -> Dict[str, Any]:
        """What the bundle says of its board; empty without a bundle."""
        return self.bundle.board if self.bundle is not None else {}

    def wanted(self, library: str) -> str:
        """The version that the board's file names, "" if it names none."""
        return str(self.board.get("versions", {}).get(library, ""))


class Outcome(NamedTuple):
    """How a child ended. status: exit status, or minus the signal; None if it did not start or took too long."""

    status: Optional[int]
    output: str
    error: str

    @property
    def ending(self) -> str:
        """Why it failed, one line."""
        if self.status is None:
            return self.error
        if self.status < 0:
            return "dies by " + signal.Signals(-self.status).name
        lines = self.error.strip().splitlines()
        return lines[-1][:160] if lines else "exit status {}".format(self.status)


def run_program(command: Sequence[str], environment: Dict[str, str], seconds: int = _PYTHON_SECONDS) -> Outcome:
    """Run a program with what it prints kept, for so long at most. Raises nothing."""
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Outcome(None, "", "does not end within {} s".format(seconds))
    except OSError as error:
        return Outcome(None, "", error.strerror or str(error))
    return Outcome(
        done.returncode, done.stdout.decode("utf-8", errors="replace"), done.stderr.decode("utf-8", errors="replace")
    )


def run_python(machine: Machine, code: str) -> Outcome:
    """Run code in a Python of its own, where a crash stays."""
    return run_program([machine.python, "-c", code], machine.environment)


def run_tool(machine: Machine, *command: str) -> Optional[str]:
    """What a tool prints, None where it is missing or fails."""
    program = shutil.which(command[0], path=machine.environment.get("PATH", os.defpath))
    if program is None:
        return None
    outcome = run_program([program] + list(command[1:]), dict(machine.environment, LC_ALL="C"), _TOOL_SECONDS)
    return outcome.output if outcome.status == 0 else None


def may_open(machine: Machine, path: Path) -> bool:
    """Whether `machine.user` may read and write a device, by its owner, group and mode."""
    about = path.stat()
    number, groups = _user(machine)
    if number == 0:
        return True
    if about.st_uid == number:
        return about.st_mode & (stat.S_IRUSR | stat.S_IWUSR) == stat.S_IRUSR | stat.S_IWUSR
    if about.st_gid in groups:
        return about.st_mode & (stat.S_IRGRP | stat.S_IWGRP) == stat.S_IRGRP | stat.S_IWGRP
    return about.st_mode & (stat.S_IROTH | stat.S_IWOTH) == stat.S_IROTH | stat.S_IWOTH


def group_of(machine: Machine, path: Path) -> Optional[str]:
    """The group that a user joins to open a device; None where that would not help, or give away more than it."""
    about = path.stat()
    is_open_to_group = about.st_mode & (stat.S_IRGRP | stat.S_IWGRP) == stat.S_IRGRP | stat.S_IWGRP
    names = [name for name, group, _ in _groups(machine) if group == about.st_gid]
    return names[0] if names and is_open_to_group and about.st_gid != 0 else None


def has_user(machine: Machine, name: str) -> bool:
    """Whether there is a user of that name."""
    return any(line.split(":")[0] == name for line in (machine.read("/etc/passwd") or "").splitlines())


def _user(machine: Machine) -> Tuple[int, Set[int]]:
    """Number and groups of the user; -1 for one who is not there."""
    number = -1
    groups: Set[int] = set()
    for line in (machine.read("/etc/passwd") or "").splitlines():
        fields = line.split(":")
        if fields[0] == machine.user and len(fields) > 3:
            number = int(fields[2])
            groups.add(int(fields[3]))
    groups |= {group for _, group, members in _groups(machine) if machine.user in members}
    return number, groups


def _groups(machine: Machine) -> List[Tuple[str, int, List[str]]]:
    rows = [line.split(":") for line in (machine.read("/etc/group") or "").splitlines()]
    return [(row[0], int(row[2]), row[3].split(",")) for row in rows if len(row) > 3 and row[2].isdecimal()]
