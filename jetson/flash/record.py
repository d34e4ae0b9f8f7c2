"""The record of a flashing: a JSON file that is there from the first command on and says at the end how it went."""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from deploy.files import new_file

__all__ = ["Record", "now"]

SCHEMA = 1


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Record:
    """What was done to one module.

    Attributes:
        serial: of the USB device in recovery mode, None where it shows none.
        ecid: unique number of the chip, as NVIDIA's scripts print it (BR_CID); None where they do not.
        eeprom: what the module's EEPROM says it is, as they print it.
        image_sha256: of the image; file_sha256: of a clone that was made or restored.
        result: "running" until it ended; of a process that was killed it stays so.
    """

    board: str
    module: str
    part: str
    usb_instance: str
    usb_id: str
    serial: str | None
    action: str
    l4t: str
    image: str
    image_sha256: str
    commands: tuple[str, ...]
    log: str
    file: str | None = None
    file_sha256: str | None = None
    ecid: str | None = None
    eeprom: str | None = None
    began: str = field(default_factory=now)
    ended: str | None = None
    result: Literal["running", "done", "failed", "stopped"] = "running"
    error: str | None = None
    schema: int = SCHEMA

    def write(self, path: Path) -> None:
        """Put the record into its file, which appears whole."""
        with new_file(path) as part:
            part.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
