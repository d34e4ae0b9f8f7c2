"""What the benchmarks share: running a child and measuring it, and writing a result with the machine it came from."""

import datetime as dt
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.files import write_json

__all__ = ["Measured", "available_memory", "run_measured", "write_result"]


@dataclass(frozen=True)
class Measured:
    """Wall clock in seconds, largest resident memory in bytes, and the last line that the child printed, as JSON."""

    seconds: float
    peak_bytes: int
    said: Any


def run_measured(code: str, arguments: Sequence[object]) -> Measured:
    """Run Python `code` in a process of its own; it measures its own seconds by printing {"seconds": ...} last."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    lines = child.stdout.read().strip().splitlines()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if child.returncode:
        raise SystemExit(f"the measured process ended with {child.returncode}")
    said = json.loads(lines[-1])
    return Measured(said.get("seconds", seconds), usage.ru_maxrss * 1024, said)


def available_memory() -> int:
    """Bytes that a new process may take."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def write_result(path: Path, arguments: Sequence[str], results: dict[str, Any]) -> None:
    """Write what was measured as JSON: the command, the day, the machine and the figures."""
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    command = " ".join(["python", *(_without_folder(word) for word in arguments)])
    about = {
        "command": command,
        "date": dt.date.today().isoformat(),
        "machine": {
            "processor": processor,
            "cores": os.cpu_count(),
            "memory_gib": round(memory / 2**30, 1),
            "python": platform.python_version(),
            "load_average": round(os.getloadavg()[0], 2),
        },
    }
    write_json(path, about | {"results": {key: _plain(value) for key, value in results.items()}})
    print(f"written: {path}")


def _without_folder(word: str) -> str:
    """A path of this machine says nothing to others: its last part does."""
    return Path(word).name if word.startswith("/") else word


def _plain(value: Any) -> Any:
    return asdict(value) if isinstance(value, Measured) else value
