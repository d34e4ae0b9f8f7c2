"""Where trials run on Ray: the machines, the part of one that a trial is given, and the connection to them.

Knows nothing about trials.
"""

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.errors import refuse

__all__ = ["Places", "Share", "connected", "share_with_room", "trials_here"]

_REMEDY = "give auto, HOST:PORT or ray://HOST:PORT of a cluster, which ray start --head starts"
_OBJECT_STORE = 100 << 20  # bytes; hardly anything goes through it


@dataclass(frozen=True)
class Places:
    """Where trials run.

    Attributes:
        address: of a cluster (`auto`, `host:port`, `ray://host:port`); None starts Ray here and ends it afterwards.
        workers: trials at once; by default one here, and in a cluster as many as there is room for.
        cpus: that a trial is given, and so its threads; by default an equal part of this machine, in a cluster one.
        gpus: that a trial is given, up to one; by default an equal part of this machine's, in a cluster one where a
            node has any. 0 trains on the CPU.
    """

    address: str | None = None
    workers: int | None = None
    cpus: int | None = None
    gpus: float | None = None

    def share(self, has_gpu: bool) -> "Share":
        """What each trial is given. has_gpu: whether a node of the cluster has one."""
        workers = self.workers or 1
        here = torch.cuda.device_count()
        gpus: float = has_gpu if self.address else 1 / -(-workers // here) if here else 0
        cpus = 1 if self.address else max(1, (os.cpu_count() or 1) // workers)
        return Share(cpus if self.cpus is None else self.cpus, gpus if self.gpus is None else self.gpus)


@dataclass(frozen=True)
class Share:
    """What a trial is given, as in `Places`."""

    cpus: int
    gpus: float

    def fits(self, resources: dict[str, float]) -> int:
        """How many such trials a node with these resources runs at once."""
        by_gpu = resources.get("GPU", 0) // self.gpus if self.gpus else float("inf")
        return int(min(resources.get("CPU", 0) // self.cpus, by_gpu))


def trials_here(share: Share) -> int:
    """How many trials may run on this node at once."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    resources: dict[str, float] = next((node["Resources"] for node in ray.nodes() if node["NodeID"] == here), {})
    return max(1, share.fits(resources))


def share_with_room(places: Places) -> Share:
    """What each trial is given; refused where no node has it."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    share = places.share(any(node.get("GPU", 0) for node in nodes))
    if not any(share.fits(resources) for resources in nodes):
        found = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise refuse(
            f"a trial with {share.cpus} CPUs and {share.gpus:g} GPUs",
            f"no node has room for it ({found})",
            "lower --cpus-per-trial or --gpus-per-trial, or add nodes",
        )
    return share


def _require_answer(address: str) -> None:
    """Refuse an address where nobody listens at once; Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise refuse(f"--address {address}", f"no answer ({error})", _REMEDY) from None


@contextmanager
def connected(places: Places) -> Iterator[None]:
    """Ray, silent, inside the block. Its own handler of SIGTERM is not kept.

    Raises:
        UserError: no cluster at the address.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns of a change to come
    before = signal.getsignal(signal.SIGTERM)
    import ray

    if places.address is None:
        share = places.share(False)
        where: dict[str, Any] = {
            "address": "local",
            "num_cpus": share.cpus * (places.workers or 1),
            "num_gpus": torch.cuda.device_count() if share.gpus else 0,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE,
        }
    else:
        where = {"address": places.address}
        _require_answer(places.address)
    try:
        ray.init(**where, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, RuntimeError, ValueError) as error:
        found = " ".join(str(error).split()) or type(error).__name__
        raise refuse(f"--address {places.address}", found[:200], _REMEDY) from None
    signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray.shutdown()
