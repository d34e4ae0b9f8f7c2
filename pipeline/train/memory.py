"""How much memory there is, and what to say where it was too little."""

import contextlib
import ctypes
import gc
from pathlib import Path

import torch

from pipeline.errors import UserError, refuse

__all__ = [
    "FREE_SHARE",
    "LackOfMemory",
    "available_memory",
    "keep_freed_memory",
    "refuse_lack_of_memory",
    "return_freed_memory",
]

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


def return_freed_memory() -> None:
    """Give back what this process no longer needs, to Linux and to the GPU."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# What PyTorch and oneDNN say on a processor, where there is no class of error for it.
_LACKS = ("can't allocate memory", "could not create a primitive")


class LackOfMemory(UserError):  # noqa: N818 - named for what it is
    """Too little memory for a batch. subdivisions: the next number of parts that it can be cut into, or None."""

    def __init__(self, batch: int, before: int, to_begin_anew: str) -> None:
        self.subdivisions = next((count for count in range(before + 1, batch + 1) if batch % count == 0), None)
        more = f"subdivisions: {self.subdivisions}, or " if self.subdivisions else ""
        remedy = f"set {more}a smaller batch or size{to_begin_anew}"
        super().__init__(str(refuse("too little memory", f"batch {batch} in {before} subdivisions", remedy)))


def refuse_lack_of_memory(error: RuntimeError, batch: int, subdivisions: int, to_begin_anew: str) -> None:
    """Refuse where a device or the machine had too little memory for a batch; return for any other error.

    to_begin_anew: what else must be done before other settings are taken, as the end of a sentence.

    Raises:
        LackOfMemory: says what to lower.
    """
    is_lack = isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _LACKS)
    if is_lack and not isinstance(error, UserError):
        raise LackOfMemory(batch, subdivisions, to_begin_anew)
