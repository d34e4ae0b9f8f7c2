"""How much memory there is, and what to say where it was too little."""

from pathlib import Path

import torch

from pipeline.errors import UserError, refuse

__all__ = ["available_memory", "refuse_lack_of_memory"]


def available_memory() -> int:
    """Bytes that a process may take, as Linux says; on other systems a cautious 4 GiB."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except FileNotFoundError:
        return 4 << 30
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def refuse_lack_of_memory(error: RuntimeError, batch: int, subdivisions: int) -> None:
    """Refuse where a device or the machine had too little memory for a batch; return for any other error."""
    is_lack = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    if isinstance(error, UserError) or not is_lack:
        return
    parts = next((count for count in range(subdivisions + 1, batch + 1) if batch % count == 0), None)
    remedy = f"set subdivisions: {parts}" if parts else "lower size"
    found = f"batch {batch} in {subdivisions} subdivisions"
    raise refuse("too little memory", found, f"{remedy}, or a smaller batch or size; the last checkpoint is kept")
