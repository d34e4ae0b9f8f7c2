"""Whether a board will take an ONNX file: every reason against it, with node, operator and remedy.

Works on any file, also of other exporters, without TensorRT. What it asks is in the board's file and in the table of
its parser (`jetson/`); it runs nothing.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jetson.board import Board
from jetson.parser import Parser
from pipeline.errors import refuse
from pipeline.export.graph import Graph, plain_text, read_graph, type_name
from pipeline.export.operators import Finding, node_findings

__all__ = ["Finding", "lint", "require_accepted"]

_LIMITS = {"INT32": (-(2**31), 2**31 - 1), "FP32": (-float(np.finfo(np.float32).max), float(np.finfo(np.float32).max))}


def lint(model: Path | bytes, board: Board) -> tuple[Finding, ...]:
    """What speaks against `model` on `board`: errors first, then warnings, each in the order of the graph.

    Raises:
        UserError: the file is no ONNX model, damaged, or made to take more memory than a model needs.
    """
    graph = read_graph(model)
    parser = board.parser
    found = [
        *_opset_findings(graph, parser),
        *_shape_findings(graph),
        *_type_findings(graph, parser),
        *_weight_findings(graph, parser),
        *_memory_findings(graph, board, len(model) if isinstance(model, bytes) else model.stat().st_size),
        *(finding for node in graph.nodes for finding in node_findings(node, graph, parser)),
    ]
    if graph.problem is not None and not any(finding.severity == "error" for finding in found):
        found.append(_error("model", "", f"onnx says: {graph.problem}", "export it again"))
    return tuple(sorted(found, key=lambda finding: finding.severity != "error"))


def require_accepted(model: Path | bytes, board: Board) -> tuple[Finding, ...]:
    """Return the warnings about `model` on `board`.

    Raises:
        UserError: the board will not take it; the message is the first reason, and how many more there are.
    """
    found = lint(model, board)
    errors = [finding for finding in found if finding.severity == "error"]
    if errors:
        name = "model" if isinstance(model, bytes) else str(model)
        more = f" ({len(errors) - 1} more: skylight export lint)" if len(errors) > 1 else ""
        raise refuse(f"{name} on {board.name}", str(errors[0]), errors[0].remedy + more)
    return found


def _error(operator: str, node: str, reason: str, remedy: str) -> Finding:
    return Finding("error", plain_text(node), operator, reason, remedy)


def _warning(operator: str, node: str, reason: str, remedy: str) -> Finding:
    return Finding("warning", plain_text(node), operator, reason, remedy)


def _opset_findings(graph: Graph, parser: Parser) -> Iterator[Finding]:
    low, high = parser.opset
    if graph.opset is None:
        yield _error("model", "", "imports no default operator set", "export it again")
    elif not low <= graph.opset <= high:
        remedy = f"export with opset {high} or less" if graph.opset > high else f"export with opset {low} or more"
        yield _error("model", "", f"opset {graph.opset}; {parser.name} reads {low} to {high}", remedy)


def _shape_findings(graph: Graph) -> Iterator[Finding]:
    for value in graph.inputs:
        shape = graph.shape(value.name)
        sizes = [size.dim_param or "?" for size in value.type.tensor_type.shape.dim]
        if shape is None:
            yield _error("input", value.name, "has no shape", "export with fixed sizes")
            continue
        for index, size in enumerate(shape):
            if size is None or size <= 0:
                reason = f"dimension {index} ({plain_text(sizes[index])}) is not fixed"
                remedy = "export with fixed sizes (torch: no dynamic_axes; Ultralytics: dynamic=False)"
                yield _error("input", value.name, reason, remedy)
        if len(shape) == 4 and shape[0] is not None and shape[0] > 1:
            reason = f"batch {shape[0]}: the loop has one picture at a time"
            yield _warning("input", value.name, reason, "export with batch 1")
    inputs_are_fixed = all(graph.static_shape(value.name) is not None for value in graph.inputs)
    for value in graph.model.graph.output:
        if inputs_are_fixed and graph.static_shape(value.name) is None:
            reason = "its size depends on what is fed, or cannot be inferred"
            yield _warning("output", value.name, reason, "export with fixed sizes, and leave selections to the decode")


def _type_findings(graph: Graph, parser: Parser) -> Iterator[Finding]:
    """Types of what is fed and of what comes out."""
    allowed = (*parser.types, *parser.io_types)
    for kind, values in (("input", graph.inputs), ("output", graph.model.graph.output)):
        for value in values:
            found = graph.element(value.name)
            if found in parser.casts:
                reason = f"{found}, which {parser.name} reads as {parser.casts[found]}, clamping values"
                finding = _error if kind == "input" else _warning
                yield finding(kind, value.name, reason, f"make it {parser.casts[found]} in the graph")
            elif found is not None and found not in allowed:
                yield _error(kind, value.name, f"{found}; {parser.name} has {', '.join(allowed)}", "cast in the graph")


def _weight_findings(graph: Graph, parser: Parser) -> Iterator[Finding]:
    import onnx

    harmless = _clamped_harmlessly(graph)
    for name, tensor in graph.constants.items():
        element = type_name(tensor.data_type)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield from _external_findings(name, tensor, graph)
        elif element not in parser.casts:
            if element not in (*parser.types, *parser.io_types):
                reason = f"{element}; {parser.name} has {', '.join(parser.types)}"
                yield _error("constant", name, reason, "write it in a type that it has")
        elif _is_clamped(graph.value(name), parser.casts[element]):
            reason = f"{element} beyond {parser.casts[element]}, to which {parser.name} clamps it"
            if name in harmless:
                yield _warning("constant", name, reason, "write the largest INT32: it means the end just as well")
            else:
                yield _error("constant", name, reason, f"write it as {parser.casts[element]}")
        elif element == "FP64":
            reason = f"FP64, which {parser.name} rounds to FP32"
            yield _warning("constant", name, reason, "export in float32, so that what is checked is what runs")


def _is_clamped(values: np.ndarray, into: str) -> bool:
    low, high = _LIMITS[into]
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return bool(finite.size) and bool(finite.min() < low or finite.max() > high)


def _clamped_harmlessly(graph: Graph) -> set[str]:
    """Constants that are only bounds of a Slice: 'to the end' stays that when it is clamped."""
    bounds: set[str] = set()
    others: set[str] = set()
    for node in graph.nodes:
        for index, name in enumerate(node.input):
            (bounds if node.op_type == "Slice" and index in (1, 2) else others).add(name)
    return bounds - others


def _external_findings(name: str, tensor: Any, graph: Graph) -> Iterator[Finding]:
    """Weights in a file of their own: it must lie beside the model and be long enough."""
    given = {entry.key: entry.value for entry in tensor.external_data}
    location = given.get("location", "")
    inside = "put all in one file: onnx.save_model(onnx.load(FILE), OUT)"
    path = PurePosixPath(location)
    if not location or path.is_absolute() or ".." in path.parts or "\\" in location:
        reason = f"its data lie in {plain_text(location) or 'no file'}, outside the folder of the model"
        yield _error("constant", name, reason, inside)
    elif graph.folder is None or not _is_file(graph.folder / location):
        reason = f"its data lie in {plain_text(location)}, which is missing"
        yield _error("constant", name, reason, "copy that file too, or export in one file")
    elif (graph.folder / location).stat().st_size < _number(given.get("offset")) + _number(given.get("length")):
        yield _error("constant", name, f"its data end before {plain_text(location)} does", "export the model again")
    else:
        yield _warning("constant", name, f"its data lie in {plain_text(location)}; a bundle has one file", inside)


def _is_file(path: Path) -> bool:
    """Whether there is a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 20 else 0


def _memory_findings(graph: Graph, board: Board, size: int) -> Iterator[Finding]:
    if board.memory.gib is None:
        return
    locations = {entry.value for t in graph.constants.values() for entry in t.external_data if entry.key == "location"}
    if graph.folder is not None:
        files = [graph.folder / location for location in locations if ".." not in PurePosixPath(location).parts]
        size += sum(path.stat().st_size for path in files if _is_file(path))
    share = size / (board.memory.gib * 2**30)
    reason = f"{size / 2**20:.0f} MiB of weights; {board.name} has {board.memory.gib:g} GiB for everything"
    if share > 0.5:
        yield _error("model", "", reason, "take a smaller network: building an engine needs the weights twice")
    elif share > 0.125:
        yield _warning("model", "", reason, "watch the memory while the engine is built: it needs the weights twice")
