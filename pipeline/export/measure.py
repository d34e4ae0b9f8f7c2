"""How long each node of a model takes on this machine, by ONNX Runtime's own profiler. Knows nothing of boards."""

import json
import os
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import refuse
from pipeline.export.graph import Graph, plain_text

__all__ = ["Group", "Measured", "measure"]

_ENDING = "_kernel_time"


@dataclass(frozen=True)
class Group:
    """What ONNX Runtime runs as one: the nodes of the file in it, and the median of its times in milliseconds."""

    name: str
    nodes: tuple[Any, ...]
    milliseconds: float


@dataclass(frozen=True)
class Measured:
    """groups: in the order they run. whole: median of a run without the profiler, with every optimisation, ms."""

    groups: tuple[Group, ...]
    whole: float
    runs: int
    machine: str


def measure(graph: Graph, runs: int) -> Measured:
    """Run a model `runs` times on random pictures, with and without the profiler.

    The profiler sees the graph after fusing, but in its own layout: with ONNX Runtime's blocked layout, which `whole`
    has, nodes could not be told from each other.

    Raises:
        UserError: ONNX Runtime does not load or run it.
    """
    import onnxruntime

    named = _with_names(graph.model)
    content = named.SerializeToString()
    feeds = _feeds(graph)
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.optimized_model_filepath = str(Path(folder) / "fused.onnx")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        session = _session(content, options, graph.name)
        for _ in range(runs + 1):
            _run(session, feeds, graph.name)
        times = _times(Path(session.end_profiling()))
        groups = _groups(named, Path(folder) / "fused.onnx", times)
    whole = _whole(_session(content, onnxruntime.SessionOptions(), graph.name), feeds, runs, graph.name)
    machine = f"{_processor()}, {os.cpu_count()} threads, ONNX Runtime {onnxruntime.__version__}"
    return Measured(groups, whole, runs, machine)


def _session(content: bytes, options: Any, name: str) -> Any:
    import onnxruntime

    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no base class
        raise refuse(name, f"ONNX Runtime cannot load it ({_reason(error)})", "see skylight export lint") from None


def _run(session: Any, feeds: dict[str, np.ndarray], name: str) -> None:
    """Run once; what a stranger's model does wrong may show only here."""
    try:
        session.run(None, feeds)
    except Exception as error:  # as above
        raise refuse(name, f"ONNX Runtime cannot run it ({_reason(error)})", "see skylight export lint") from None


def _reason(error: Exception) -> str:
    return plain_text((str(error).strip().splitlines() or [type(error).__name__])[0], 160)


def _feeds(graph: Graph) -> dict[str, np.ndarray]:
    from onnx import helper

    rng = np.random.default_rng(0)
    feeds = {}
    for value in graph.inputs:
        shape = graph.static_shape(value.name)
        assert shape is not None
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feeds[value.name] = (rng.random(shape) if kind.kind == "f" else np.zeros(shape)).astype(kind)
    return feeds


def _whole(session: Any, feeds: dict[str, np.ndarray], runs: int, name: str) -> float:
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        _run(session, feeds, name)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[1:])


def _times(path: Path) -> dict[str, float]:
    """Median milliseconds by node, in the order of the first run; that one, which warms up, does not count."""
    found: dict[str, list[float]] = defaultdict(list)
    for event in json.loads(path.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith(_ENDING):
            found[event["name"].removesuffix(_ENDING)].append(event["dur"] / 1000)
    return {name: statistics.median(times[1:] or times) for name, times in found.items()}


def _with_names(model: Any) -> Any:
    """A copy in which every node has a name of its own."""
    named = type(model)()
    named.CopyFrom(model)
    seen: set[str] = set()
    for index, node in enumerate(named.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)
    return named


def _groups(model: Any, fused: Path, times: dict[str, float]) -> tuple[Group, ...]:
    """Which nodes of the file each node that ran stands for: those between its inputs and its outputs."""
    import onnx

    optimised = onnx.load(str(fused)).graph
    producers = {name: node for node in model.graph.node for name in node.output}
    known = {name for node in optimised.node for name in node.output}
    known |= {tensor.name for tensor in optimised.initializer} | {value.name for value in optimised.input}
    groups = {}
    for node in optimised.node:
        inside: dict[str, Any] = {}
        pending = [producers[name] for name in node.output if name in producers]
        while pending:
            found = pending.pop()
            inside[found.name] = found
            pending += [producers[name] for name in found.input if name not in known and name in producers]
        in_order = tuple(part for part in model.graph.node if part.name in inside)
        groups[node.name] = Group(node.name, in_order, times.get(node.name, 0.0))
    return tuple(groups[name] for name in times if name in groups)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
