"""Whether an ONNX file can be loaded without harm: it holds operators that our exporters write and no others, and
nothing in it declares more than the file could hold.

Reads the wire format of protobuf, since the drone has no onnx library; field numbers are those of onnx.proto of ONNX
1.19. Knows neither what the operators compute nor whether the model is a good one: that is for the hash, the signature
and the golden frames. Ordinary operators can still ask for much memory, by a wide padding or a long chain.
"""

import mmap
import struct
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from deploy.errors import UserError, refuse
from deploy.protobuf import BrokenError, Field, Span, TooManyError, Walker, signed
from deploy.strict_json import short

# Fields and packed numbers; a YOLO11n has 16,000, a YOLOv9s 36,000.
_FIELD_LIMIT = 250000
# Elements of any one tensor while the model runs: 1 GiB of float32. YOLOv3 at 608 needs 12 million.
_ELEMENT_LIMIT = 1 << 28
_MOST_SIDES = 16  # of a shape, a scale or a padding
_REMEDY = "do not use this bundle; make one with skylight export of this version"

# onnx.proto, TensorProto.DataType: bits per element where that is not at least 8 for certain.
_BITS = {1: 32, 11: 64, 14: 64, 15: 128, 21: 4, 22: 4, 23: 4, 25: 2, 26: 2, 27: 6, 28: 6}
# What exports write: Darknet's layers with each of its activations, Ultralytics' detectors from YOLOv3 to YOLO26, both
# at opsets 11 to 13 and in half precision. The parser of every board knows all of them (`jetson/parsers`). None takes
# its size from a number that is computed while the model runs, and none holds a graph.
OPERATORS = frozenset(
    [
        *("Add", "AveragePool", "Cast", "Clip", "Concat", "Constant", "Conv", "ConvTranspose", "Div", "Elu", "Equal"),
        *("Exp", "Flatten", "Floor", "Gather", "Gemm", "GlobalAveragePool", "Greater", "GreaterOrEqual", "LeakyRelu"),
        *("Less", "MatMul", "MaxPool", "Mul", "Not", "Pad", "Pow", "ReduceMax", "ReduceMean", "ReduceSum", "Relu"),
        *("Reshape", "Resize", "ScatterND", "Sigmoid", "Slice", "Softmax", "Softplus", "Split", "Squeeze", "Sub"),
        *("Tanh", "Transpose", "Unsqueeze", "Where"),
    ]
)
_DOMAINS = ("", "ai.onnx")  # both are the default operator set
# Of these, those whose output is as large as an input says, and which inputs say it: they must be constants.
_SIZED_BY = {"Resize": (2, 3), "Pad": (1,)}

_TEXT_LIMIT = 1000  # bytes of a name


class _Node(NamedTuple):
    kind: str
    inputs: List[str]


def check_onnx(path: Path) -> None:
    """Refuse a file that is no ONNX model, keeps tensors elsewhere, or declares tensors that it cannot hold.

    Raises UserError.
    """
    with path.open("rb") as file:
        if not file.read(1):
            raise refuse(path, "is empty", "export the bundle again")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                _Reader(data).model()
            except BrokenError as error:
                raise refuse(path, "is no ONNX file: {}".format(error), "export the bundle again") from None
            except UserError as error:
                raise refuse(path, error, _REMEDY) from None
            except TooManyError:
                raise refuse(path, "it has more than {} fields".format(_FIELD_LIMIT), _REMEDY) from None


class _Reader:
    """Walks through a model once."""

    def __init__(self, data: Any) -> None:
        self._walker = Walker(data, _FIELD_LIMIT)
        # By name, everything that is called so: nothing here demands that a name is there once.
        self._constants: Dict[str, List[List[float]]] = {}
        self._nodes: List[_Node] = []

    def model(self) -> None:
        graphs = []
        for field in self._walker.fields(self._walker.whole):
            if field.number == 7:
                graphs.append(field.span)
            elif field.number == 25:
                raise UserError("it has functions of its own, which no export writes")
        if not graphs:
            raise BrokenError("it has no graph")
        self._graph(_only(graphs, "graph"))
        self._check_sizes()

    def _graph(self, span: Span) -> None:
        for field in self._walker.fields(span):
            if field.number == 1:
                self._node(field.span)
            elif field.number == 5:
                self._tensor(field.span, None)
            elif field.number == 15:
                raise UserError("it has a sparse tensor, whose size is not bound by the file")
            elif field.number in (11, 12, 13):
                self._value_info(field.span)

    def _node(self, span: Span) -> None:
        inputs, outputs, kind, domain = [], [], "", ""
        attributes = []
        for field in self._walker.fields(span):
            if field.number == 1:
                inputs.append(self._text(field))
            elif field.number == 2:
                outputs.append(self._text(field))
            elif field.number == 4:
                kind = self._text(field)
            elif field.number == 5:
                attributes.append(field.span)
            elif field.number == 7:
                domain = self._text(field)
        _require_known(kind, domain)
        for attribute in attributes:
            self._attribute(attribute, outputs[0] if kind == "Constant" and outputs else None)
        self._nodes.append(_Node(kind, inputs))

    def _attribute(self, span: Span, constant: Optional[str]) -> None:
        tensors = []
        numbers: List[float] = []
        for field in self._walker.fields(span):
            if field.number == 5:
                tensors.append(field.span)
            elif field.number == 10:
                self._tensor(field.span, constant)
            elif field.number in (6, 11):
                raise UserError("it has a graph inside a node, which no export writes")
            elif field.number in (22, 23):
                raise UserError("it has a sparse tensor, whose size is not bound by the file")
            elif field.number in (2, 3, 7, 8) and constant is not None:
                is_integer = field.number in (3, 8)
                found = self._walker.integers(field.value) if is_integer else self._floats(field.span)
                numbers += map(float, found)
        if tensors:
            self._tensor(_only(tensors, "tensor of an attribute"), constant)
        if numbers and constant is not None:
            self._constants.setdefault(constant, []).append(numbers)

    def _tensor(self, span: Span, name: Optional[str]) -> None:
        """name: what the graph calls it, where it is not in the tensor itself."""
        dims: List[int] = []
        kind, own_name, contents = 0, "", []
        for field in self._walker.fields(span):
            if field.number == 1:
                dims += self._walker.integers(field.value)
            elif field.number == 2:
                kind = (
                    field.value & 0xFFFFFFFF if isinstance(field.value, int) else 0
                )  # an int32: a parser drops the rest
            elif field.number == 8:
                own_name = self._text(field)
            elif field.number in (4, 7, 9):
                contents.append(field)
            elif field.number == 13 or field == (14, 1):
                raise UserError("it keeps a tensor in another file")
        name = own_name if name is None else name
        elements = _product(dims, "tensor " + short(name))
        if elements * _BITS.get(kind, 8) > (span[1] - span[0]) * 8:
            found = "tensor {} declares {} elements in {} bytes"
            raise UserError(found.format(short(name), elements, span[1] - span[0]))
        if name:  # an operator's input without a name is one that is left out
            held = [number for field in contents for number in self._numbers(field, kind)]
            # No shape has more sides: an operator that takes this for one is refused.
            self._constants.setdefault(name, []).append(held if elements <= _MOST_SIDES else [float("inf")])

    def _numbers(self, field: Field, kind: int) -> List[float]:
        """What a small tensor holds, if it is of float32 or int64, the two that shapes and scales are made of."""
        if isinstance(field.value, int):
            return [float(signed(field.value))] if kind == 7 and field.number == 7 else []
        begin, end = field.value
        if end - begin > 10 * _MOST_SIDES:
            return []
        if kind == 7 and field.number == 7:
            return [float(number) for number in self._walker.integers(field.value)]
        if kind == 7:
            return list(map(float, struct.unpack_from("<{}q".format((end - begin) // 8), self._walker.data, begin)))
        return self._floats(field.value) if kind == 1 else []

    def _floats(self, span: Span) -> List[float]:
        """Of a repeated float, packed or one by one, and of raw bytes; no more than matter."""
        count = min((span[1] - span[0]) // 4, _MOST_SIDES + 1)
        return list(struct.unpack_from("<{}f".format(count), self._walker.data, span[0]))

    def _value_info(self, span: Span) -> None:
        """ValueInfoProto.type.tensor_type.shape.dim.dim_value"""
        names = [self._text(field) for field in self._walker.inside(span, 1)]
        sizes = self._walker.inside(span, 2, 1, 2, 1, 1)
        _product([field.value for field in sizes if isinstance(field.value, int)], "value " + short("".join(names)))

    def _text(self, field: Field) -> str:
        return self._walker.text(field.span, _TEXT_LIMIT)

    def _check_sizes(self) -> None:
        for node in self._nodes:
            for place in _SIZED_BY.get(node.kind, ()):
                name = node.inputs[place] if place < len(node.inputs) else ""
                if name and name not in self._constants:
                    raise UserError("operator {} takes its size from what is computed".format(node.kind))
                for values in self._constants.get(name, ()) if name else ():
                    total = _magnitude([1 + abs(value) for value in values] if node.kind == "Pad" else values)
                    if not total <= _ELEMENT_LIMIT:
                        raise UserError("operator {} asks for {:.3g} elements".format(node.kind, total))


def _require_known(operator: str, domain: str) -> None:
    """Refuse an operator that no export writes, such as one whose output is as large as the picture says."""
    if domain not in _DOMAINS:
        raise UserError("operator {} is of the set {}, which no export writes".format(short(operator), short(domain)))
    if operator not in OPERATORS:
        raise UserError("operator {} is none that an export writes".format(short(operator)))


def _only(found: List[Span], what: str) -> Span:
    """Protobuf joins a field that is there twice: what is small in its parts may be large together."""
    if len(found) > 1:
        raise UserError("it has a {} twice".format(what))
    return found[0]


def _product(dims: List[int], what: str) -> int:
    """Number of elements; refuses what nothing could hold."""
    total = 1
    for size in dims:
        if size < 0:
            raise UserError("{} has a side of {}".format(what, size))
        total *= max(size, 1)
        if total > _ELEMENT_LIMIT:
            raise UserError("{} declares more than {} elements".format(what, _ELEMENT_LIMIT))
    return 0 if 0 in dims else total


def _magnitude(values: List[float]) -> float:
    """Product of sides or factors; -1 and 0 stand for a side that another input says."""
    total = 1.0
    for value in values:
        total *= abs(value) if abs(value) > 1 else 1.0
    return total
