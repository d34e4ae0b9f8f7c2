"""Steps with a record each: what was done with the same inputs is not done again.

    steps/NAME.json     inputs, state (begun, done), when, seconds

A step whose inputs changed, or that broke off and cannot be done twice over, begins again at the step that makes things
new, `anew`. Knows nothing of what steps do.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deploy.errors import UserError
from deploy.files import new_file

__all__ = ["Step", "carry_out", "first_step"]

FOLDER = "steps"


@dataclass(frozen=True)
class Step:
    """A step.

    Attributes:
        about: a few words on what it does.
        inputs: JSON values; with the same ones, and the same before it, it leaves the same files.
        run: does it.
        can_repeat: whether it may run again over what it left when it broke off.
        starts_anew: whether it removes what was there and makes it new.
    """

    name: str
    about: str
    inputs: dict[str, object]
    run: Callable[[], None]
    can_repeat: bool = True
    starts_anew: bool = False


def first_step(steps: list[Step], folder: Path) -> int:
    """Where to begin: the number of the first step that has to be done, len(steps) if none has."""
    for number, (step, inputs) in enumerate(zip(steps, _chained(steps), strict=True)):
        record = _read(folder, step)
        if record is None:
            return number
        if record.get("inputs_sha256") == inputs:
            if record.get("state") == "done":
                continue
            if step.can_repeat or step.starts_anew:
                return number
        return max(index for index in range(number + 1) if steps[index].starts_anew)
    return len(steps)


def carry_out(steps: list[Step], folder: Path, say: Callable[[str], None]) -> None:
    """Do what has to be done; the first step starts anew.

    Raises:
        UserError: a step failed: which, why, and how to go on. Its tree stays.
    """
    first = first_step(steps, folder)
    for step in steps[first:]:
        _path(folder, step).unlink(missing_ok=True)
    chain = _chained(steps)
    for number, step in enumerate(steps):
        where = f"{number + 1}/{len(steps)} {step.name}"
        if number < first:
            say(f"{where}: was done")
            continue
        say(f"{where}: {step.about}")
        begin = time.monotonic()
        _write(folder, step, chain[number], "begun", 0.0)
        try:
            step.run()
        except (UserError, OSError) as error:  # OSError: a disk that fills up while we write ourselves
            found = error if isinstance(error, UserError) or not error.strerror else _told(error)
            on = "correct it and give the same command again: what was done stays done"
            raise UserError(f"step {where}: {found} ({on}; {folder} is as the step left it)") from None
        _write(folder, step, chain[number], "done", time.monotonic() - begin)


def _told(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


def _chained(steps: list[Step]) -> list[str]:
    """For each step, a hash of its inputs and of all before it."""
    hashes, before = [], ""
    for step in steps:
        text = json.dumps([before, step.name, step.inputs], sort_keys=True)
        before = hashlib.sha256(text.encode()).hexdigest()
        hashes.append(before)
    return hashes


def _path(folder: Path, step: Step) -> Path:
    return folder / FOLDER / f"{step.name}.json"


def _read(folder: Path, step: Step) -> dict[str, object] | None:
    """The record of a step; None where there is none, or none that can be read."""
    try:
        record = json.loads(_path(folder, step).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _write(folder: Path, step: Step, inputs_sha256: str, state: str, seconds: float) -> None:
    record = {
        "step": step.name,
        "state": state,
        "inputs": step.inputs,
        "inputs_sha256": inputs_sha256,
        "when": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seconds": round(seconds, 1),
    }
    with new_file(_path(folder, step), 0o600) as path:
        path.write_text(json.dumps(record, indent=1) + "\n")
