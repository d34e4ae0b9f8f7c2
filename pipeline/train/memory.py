"""How much memory there is, and what to say where it was too little."""

import contextlib
import ctypes
from pathlib import Path

import torch

from pipeline.errors import UserError, refuse

__all__ = ["FREE_SHARE", "available_memory", "keep_freed_memory", "refuse_lack_of_memory"]

# Of what is free on a device, in memory or on a disk, what pictures or features may take; the network needs the rest.
FREE_SHARE = 0.4

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def available_memory() -> int:
    """Bytes that a process may take, as Linux says; on other systems a cautious 4 GiB."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except FileNotFoundError:
        return 4 << 30
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, instead of asking Linux for the same pages at every iteration.

    By itself glibc returns large blocks at once, and every iteration waits for them to be mapped and zeroed anew. Does
    nothing with other C libraries.
    """
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def refuse_lack_of_memory(error: RuntimeError, batch: int, subdivisions: int) -> None:
    """Refuse where a device or the machine had too little memory for a batch; return for any other error."""
    is_lack = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    if isinstance(error, UserError) or not is_lack:
        return
    parts = next((count for count in range(subdivisions + 1, batch + 1) if batch % count == 0), None)
    remedy = f"set subdivisions: {parts}" if parts else "lower size"
    found = f"batch {batch} in {subdivisions} subdivisions"
    raise refuse("too little memory", found, f"{remedy}, or a smaller batch or size; the last checkpoint is kept")
