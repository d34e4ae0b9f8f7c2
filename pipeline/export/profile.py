"""Where the time of an ONNX file goes: measured here per layer, and estimated for a board by its roofline.

The estimate is the larger of operations by the board's peak and bytes by its memory bandwidth, per layer: a bound that
no engine reaches, for comparing layers and networks. What a board takes is measured on it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jetson.board import Arithmetic, Precision
from pipeline.errors import refuse
from pipeline.export.flops import activation_bytes, flops, moves_nothing, weight_bytes
from pipeline.export.graph import Graph, read_graph
from pipeline.export.measure import Group, measure

__all__ = ["Estimate", "Layer", "Profile", "estimates", "profile"]

_FLOAT_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}
# What a model may hold at once to be run here.
_MOST_BYTES = 8 * 2**30


@dataclass(frozen=True)
class Layer:
    """Nodes that run as one.

    Attributes:
        milliseconds: measured here, median. flops: operations. weights, activations: bytes read and written.
        estimate: milliseconds on the board by its roofline, None without a board or a peak.
        bound: what the estimate follows from.
    """

    name: str
    operators: tuple[str, ...]
    milliseconds: float
    flops: int
    weights: int
    activations: int
    estimate: float | None
    bound: str | None

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        moved = self.weights + self.activations
        return self.flops / moved if moved else 0.0


@dataclass(frozen=True)
class Profile:
    """All of it.

    Attributes:
        precision: of the bytes and of the estimate; what is measured here runs as the file says.
        whole: milliseconds of a run here with every optimisation of ONNX Runtime, median of `runs`.
        convolution_flops: those of convolutions alone, Darknet's BFLOPs. uncounted: operators of unknown shapes.
        weights: bytes of all constants. largest_activation: bytes of the largest tensor that is computed.
    """

    model: str
    board: str | None
    precision: Precision
    machine: str
    runs: int
    whole: float
    layers: tuple[Layer, ...]
    flops: int
    convolution_flops: int
    uncounted: tuple[str, ...]
    weights: int
    largest_activation: int

    @property
    def measured(self) -> float:
        """Sum over the layers, milliseconds."""
        return sum(layer.milliseconds for layer in self.layers)

    @property
    def estimate(self) -> float | None:
        """Sum of the estimates over the layers, milliseconds."""
        found = [layer.estimate for layer in self.layers if layer.estimate is not None]
        return sum(found) if found else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        layers = [asdict(layer) | {"intensity": layer.intensity} for layer in self.layers]
        totals = {"measured_ms": self.measured, "roofline_estimate_ms": self.estimate, "is_measured_on_board": False}
        return asdict(self) | {"layers": layers} | totals


def profile(file: Path, board: Arithmetic | None, precision: Precision | None = None, runs: int = 20) -> Profile:
    """Measure a model here and estimate it for `board` in `precision`, by default its fastest without calibration.

    Raises:
        UserError: no ONNX, not of fixed size, control flow, too large to be run, or a precision the board has not.
    """
    graph = read_graph(file)
    _require_runnable(graph)
    chosen = board.require_precision(precision) if board and precision else board.fastest_precision if board else "fp32"
    measured = measure(graph, runs)
    counts = [(node, flops(node, graph)) for node in graph.model.graph.node]
    computed = [name for node in graph.model.graph.node for name in node.output]
    size = _FLOAT_BYTES[chosen]
    return Profile(
        model=str(file),
        board=board.name if board else None,
        precision=chosen,
        machine=measured.machine,
        runs=measured.runs,
        whole=measured.whole,
        layers=tuple(_layer(group, graph, board, chosen) for group in measured.groups),
        flops=sum(count or 0 for _, count in counts),
        convolution_flops=sum(count or 0 for node, count in counts if node.op_type == "Conv"),
        uncounted=tuple(dict.fromkeys(node.op_type for node, count in counts if count is None)),
        weights=weight_bytes(graph.constants, graph, size),
        largest_activation=max((activation_bytes([name], graph, size) for name in computed), default=0),
    )


@dataclass(frozen=True)
class Estimate:
    """milliseconds: what a board takes at least for one picture, by its roofline, in `precision`."""

    board: str
    precision: Precision
    milliseconds: float


def estimates(file: Path, boards: Sequence[Arithmetic]) -> list[Estimate]:
    """Estimate a model for boards whose peak is known, each in its fastest precision without calibration.

    It is run here once, only to see which nodes run as one: the same file gives the same estimates.

    Raises:
        UserError: see `profile`.
    """
    graph = read_graph(file)
    _require_runnable(graph)
    groups = measure(graph, 1).groups
    found = []
    for board in boards:
        precision = board.fastest_precision
        layers = [_layer(group, graph, board, precision).estimate for group in groups]
        found.append(Estimate(board.name, precision, sum(one for one in layers if one is not None)))
    return found


def _require_runnable(graph: Graph) -> None:
    if graph.problem is not None:
        raise refuse(graph.name, f"onnx says: {graph.problem}", "see skylight export lint")
    if len(graph.graphs) > 1:
        raise refuse(graph.name, "holds control flow, whose time depends on the picture", "see skylight export lint")
    for value in graph.inputs:
        if graph.static_shape(value.name) is None:
            raise refuse(f"{graph.name}: input {value.name}", "is not of fixed size", "see skylight export lint")
    if any(tensor.external_data for tensor in graph.constants.values()):
        raise refuse(graph.name, "has its weights in another file", "see skylight export lint")
    needed = activation_bytes([name for node in graph.nodes for name in node.output], graph, 4)
    if needed > _MOST_BYTES:
        raise refuse(graph.name, f"computes {needed / 2**30:.3g} GiB", f"at most {_MOST_BYTES / 2**30:g} GiB run here")


def _layer(group: Group, graph: Graph, board: Arithmetic | None, precision: Precision) -> Layer:
    size = _FLOAT_BYTES[precision]
    working = [node for node in group.nodes if not moves_nothing(node)]
    inside = {name for node in group.nodes for name in node.output}
    read = dict.fromkeys(name for node in working for name in node.input if name and name not in inside)
    consumed = {name for node in group.nodes for name in node.input}
    written = [name for node in working for name in node.output if name not in consumed]
    operations = sum(flops(node, graph) or 0 for node in group.nodes)
    weights = weight_bytes(read, graph, size)
    activations = activation_bytes([*read, *written], graph, size)
    estimate = bound = None
    if board is not None and board.peak is not None:
        arithmetic = operations / (board.peak.tflops[precision] * 1e12)
        memory = (weights + activations) / (board.peak.bandwidth * 1e9)
        estimate, bound = 1000 * max(arithmetic, memory), "arithmetic" if arithmetic > memory else "memory"
    operators = tuple(node.op_type for node in working) or tuple(node.op_type for node in group.nodes)
    return Layer(group.name, operators, group.milliseconds, operations, weights, activations, estimate, bound)
