"""Several processes that train one network together, as torchrun starts them; one process is the common case.

Knows nothing about what is trained.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

from pipeline.errors import refuse

__all__ = ["Processes", "joined_processes", "this_process"]

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Processes:
    """rank: number of this process among `count`. device: what it trains on.

    Attributes:
        host_share: of this machine's memory and disk, what this process may take.
        device_share: the same of the device's memory.
    """

    rank: int
    count: int
    device: torch.device
    host_share: float = 1.0
    device_share: float = 1.0

    @property
    def is_first(self) -> bool:
        """Whether this one evaluates, writes files and shows progress."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether it is true in any of them; all must ask together."""
        if self.count == 1:
            return flag
        value = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return bool(value)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean over all of them, value by value, in any shape; all must ask together."""
        if self.count == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.count

    def in_turn(self, work: Callable[[], _Found]) -> _Found:
        """Do what writes files once, in the first process, and what finds them there in the others after it."""
        if self.count > 1 and not self.is_first:
            dist.barrier()
        found = work()
        if self.count > 1 and self.is_first:
            dist.barrier()
        return found

    def share(self, batch: int) -> slice:
        """This process's part of a batch, which `count` must divide."""
        size = batch // self.count
        return slice(self.rank * size, (self.rank + 1) * size)


def this_process() -> Processes:
    """One that trains alone, on the GPU where there is one."""
    return Processes(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """The processes that torchrun started, joined for the time of the block, or this one alone.

    Raises:
        UserError: more processes on this machine than GPUs.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    is_cuda = torch.cuda.is_available()
    if is_cuda and local >= torch.cuda.device_count():
        found = f"process {local} on a machine of {torch.cuda.device_count()} GPUs"
        raise refuse("torchrun", found, "lower --nproc-per-node")
    if is_cuda:
        torch.cuda.set_device(local)
    device = torch.device("cuda", local) if is_cuda else torch.device("cpu")
    if count == 1:
        yield Processes(0, 1, device)
        return
    dist.init_process_group("nccl" if is_cuda else "gloo")
    try:
        yield Processes(dist.get_rank(), count, device, 1 / int(os.environ.get("LOCAL_WORLD_SIZE", count)))
    finally:
        dist.destroy_process_group()
