"""What the table of a parser says of one node: operator, types, constant inputs, attributes. Knows nothing of files."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from jetson.parser import Parser, Restriction
from pipeline.export.graph import Graph, plain_text

__all__ = ["Finding", "Severity", "node_findings"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """Something in a model that a board will not take, or that someone should know.

    Attributes:
        node, operator: where it is; empty for the model as a whole, operator "input" and so on for what is no node.
    """

    severity: Severity
    node: str
    operator: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        where = " ".join(part for part in (self.operator, self.node) if part)
        return f"{where}: {self.reason}" if where else self.reason


# Which tensor an operator computes on, where it is not the first input.
_COMPUTES_ON: dict[str, tuple[Literal["input", "output"], int]] = {
    "Where": ("input", 1),
    "OneHot": ("input", 2),
    **dict.fromkeys(("Constant", "ConstantOfShape", "Cast", "CastLike", "EyeLike"), ("output", 0)),
    **dict.fromkeys(("RandomNormal", "RandomUniform"), ("output", 0)),
}
_FLOATS = ("FP32", "FP16", "BF16", "FP64")
_NMS = ("NonMaxSuppression", "EfficientNMS", "BatchedNMS", "NMS_TRT")
_CONTROL = ("If", "Loop", "Scan")
_INSTEAD = {
    "Mod": "write x - floor(x / y) * y, or compute it before the export",
    "NonZero": "leave the selection to the decode after the network",
    "OneHot": "compare with a constant range (Equal, Cast)",
    "Reciprocal": "divide 1 by it (Div)",
    "Range": "give constants to it, or make it a constant grid before the export",
    "HardSwish": "write x * HardSigmoid(x), as exports up to opset 13 do",
    "Mish": "write x * Tanh(Softplus(x)), as exports up to opset 17 do",
    "GridSample": "resize with Resize, or sample before the network",
    "LayerNormalization": "export with opset 16 or less, which writes it in ReduceMean, Sub, Pow, ...",
}


def node_findings(node: Any, graph: Graph, parser: Parser) -> Iterator[Finding]:
    """Everything that the parser's table has against a node."""
    complain = _Complaint(node, graph.name)
    yield from _in_principle(node, complain)
    domain = "" if node.domain == "ai.onnx" else node.domain
    if node.op_type in parser.plugins or node.op_type.endswith("_TRT"):
        yield complain("only a TensorRT plugin has it", "write it in ONNX's own operators; engines here load no plugin")
    elif domain not in ("", *parser.domains):
        reason = f"operator set {plain_text(domain)} is unknown to {parser.name}"
        yield complain(reason, "write it in ONNX's own operators")
    elif domain == "" and not parser.reads(node.op_type):
        says = "does not support it" if node.op_type in parser.unsupported else "does not know it"
        yield complain(f"{parser.name} {says}", _INSTEAD.get(node.op_type, "write it in operators that it has"))
    elif domain == "":
        yield from _type_findings(node, graph, parser, complain)
        yield from _limit_findings(node, graph, parser.restriction(node.op_type), parser, complain)


class _Complaint:
    """Makes findings about one node."""

    def __init__(self, node: Any, model: str) -> None:
        self._name, self._operator = plain_text(node.name or ", ".join(node.output)), plain_text(node.op_type)

    def __call__(self, reason: str, remedy: str, severity: Severity = "error") -> Finding:
        return Finding(severity, self._name, self._operator, reason, remedy)


def _in_principle(node: Any, complain: _Complaint) -> Iterator[Finding]:
    """What no drone takes, whatever the parser can do."""
    if node.op_type.startswith(_NMS):
        reason = "NMS inside the graph: how many boxes come out depends on the picture"
        yield complain(reason, "export without NMS (Ultralytics: nms=False); the loop does its own")
    if node.op_type in _CONTROL and node.domain in ("", "ai.onnx"):
        reason = "control flow: how long it takes depends on the picture"
        yield complain(reason, "export by tracing at one size, so that the exporter folds it away")


def _type_findings(node: Any, graph: Graph, parser: Parser, complain: _Complaint) -> Iterator[Finding]:
    side, index = _COMPUTES_ON.get(node.op_type, ("input", 0))
    names = node.input if side == "input" else node.output
    found = graph.element(names[index]) if index < len(names) else None
    if found is None:
        return
    read_as = parser.casts.get(found, found)
    allowed = parser.types_of(node.op_type)
    if read_as not in allowed:
        reason = f"computes on {found}; {parser.name} has it for {', '.join(allowed)}"
        yield complain(reason, f"cast to {allowed[0]} before it")


def _limit_findings(
    node: Any, graph: Graph, limits: Restriction, parser: Parser, complain: _Complaint
) -> Iterator[Finding]:
    inputs = _inputs_by_name(node, graph)
    computes_on = graph.element(node.input[0]) if node.input else None
    constant = (*limits.constant, *limits.zero, *(limits.constant_if_float if computes_on in _FLOATS else ()))
    for name in constant:
        if name in inputs and inputs[name] not in graph.constants:
            remedy = _INSTEAD.get(node.op_type, "fold what computes it into an initialiser (onnxsim, or fixed sizes)")
            yield complain(f"input {name} is computed; {parser.name} needs a constant", remedy)
    for name in limits.zero:
        if inputs.get(name) in graph.constants and np.any(graph.value(inputs[name])):
            yield complain(f"{name} is not 0, which {parser.name} needs", "quantise symmetrically")
    shape = graph.shape(node.input[0]) if node.input else None
    if limits.spatial and shape is not None and len(shape) - 2 not in limits.spatial:
        dimensions = " or ".join(map(str, limits.spatial))
        yield complain(f"has {len(shape) - 2} spatial dimensions; {parser.name} takes {dimensions}", "add or drop some")
    if limits.outputs is not None and sum(map(bool, node.output)) > limits.outputs:
        yield complain(f"{parser.name} gives only the first {limits.outputs} of its outputs", "drop the others")
    yield from _attribute_findings(node, limits, parser, complain)
    if limits.unchecked is not None:
        yield complain(f"not checked here: {limits.unchecked}", "see what the parser says on the board", "warning")


def _attribute_findings(node: Any, limits: Restriction, parser: Parser, complain: _Complaint) -> Iterator[Finding]:
    from onnx import helper

    for attribute in node.attribute:
        if attribute.name in limits.without:
            yield complain(f"{parser.name} does not read {attribute.name}", "give a tensor as value")
        if attribute.name not in limits.allowed:
            continue
        value = helper.get_attribute_value(attribute)
        elements = list(value) if isinstance(value, list | tuple) else [value]
        allowed = limits.allowed[attribute.name]
        for element in elements:
            plain = element.decode("utf-8", "replace") if isinstance(element, bytes) else element
            if plain not in allowed:
                reason = (
                    f"{attribute.name} is {plain_text(str(plain))}; {parser.name} has {', '.join(map(str, allowed))}"
                )
                yield complain(reason, f"use {attribute.name} {allowed[0]}")
                break


def _inputs_by_name(node: Any, graph: Graph) -> dict[str, str]:
    """Names of tensors by what the operator's definition calls the inputs; those left out are not there."""
    import onnx

    try:
        schema = onnx.defs.get_schema(node.op_type, max_inclusive_version=graph.opset or 1, domain="")
    except onnx.defs.SchemaError:
        return {}
    return {formal.name: name for formal, name in zip(schema.inputs, node.input, strict=False) if name}
