"""Whether an ONNX file can be loaded without harm: it holds operators that our exporters write and no others, and
nothing in it declares more than the file could hold.

Reads the wire format of protobuf, since the drone has no onnx library; field numbers are those of onnx.proto of ONNX
1.19. Knows neither what the operators compute nor whether the model is a good one: that is for the hash, the signature
and the golden frames. Ordinary operators can still ask for much memory, by a wide padding or a long chain.
"""

import mmap
import struct
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from deploy.errors import UserError, refuse
from deploy.strict_json import short

# Fields and numbers read; a YOLO11n has 43,000, a YOLOv3 36,000.
_FIELD_LIMIT = 500000
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

_Value = Union[int, Tuple[int, int]]  # a number, or where the bytes begin and end


class _Node(NamedTuple):
    kind: str
    inputs: List[str]


def check_onnx(path: Path) -> None:
    """Refuse a file that is no ONNX model, keeps tensors elsewhere, or declares tensors that it cannot hold."""
    with path.open("rb") as file:
        if not file.read(1):
            raise refuse(path, "is empty", "export the bundle again")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                _Reader(data).model()
            except _BrokenError as error:
                raise refuse(path, "is no ONNX file: {}".format(error), "export the bundle again") from None
            except UserError as error:
                raise refuse(path, error, _REMEDY) from None


class _BrokenError(Exception):
    """The bytes are no protobuf of a model."""


class _Reader:
    """Walks through a model once."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self._fields = 0
        # By name, everything that is called so: nothing here demands that a name is there once.
        self._constants: Dict[str, List[List[float]]] = {}
        self._nodes: List[_Node] = []

    def model(self) -> None:
        graphs = []
        for number, value in self._message((0, len(self._data))):
            if number == 7:
                graphs.append(_span(value))
            elif number == 25:
                raise UserError("it has functions of its own, which no export writes")
        if not graphs:
            raise _BrokenError("it has no graph")
        self._graph(_only(graphs, "graph"))
        self._check_sizes()

    def _graph(self, span: Tuple[int, int]) -> None:
        for number, value in self._message(span):
            if number == 1:
                self._node(_span(value))
            elif number == 5:
                self._tensor(_span(value), None)
            elif number == 15:
                raise UserError("it has a sparse tensor, whose size is not bound by the file")
            elif number in (11, 12, 13):
                self._value_info(_span(value))

    def _node(self, span: Tuple[int, int]) -> None:
        inputs, outputs, kind, domain = [], [], "", ""
        attributes = []
        for number, value in self._message(span):
            if number == 1:
                inputs.append(self._text(value))
            elif number == 2:
                outputs.append(self._text(value))
            elif number == 4:
                kind = self._text(value)
            elif number == 5:
                attributes.append(_span(value))
            elif number == 7:
                domain = self._text(value)
        _require_known(kind, domain)
        for attribute in attributes:
            self._attribute(attribute, outputs[0] if kind == "Constant" and outputs else None)
        self._nodes.append(_Node(kind, inputs))

    def _attribute(self, span: Tuple[int, int], constant: Optional[str]) -> None:
        tensors = []
        numbers: List[float] = []
        for number, value in self._message(span):
            if number == 5:
                tensors.append(_span(value))
            elif number == 10:
                self._tensor(_span(value), constant)
            elif number in (6, 11):
                raise UserError("it has a graph inside a node, which no export writes")
            elif number in (22, 23):
                raise UserError("it has a sparse tensor, whose size is not bound by the file")
            elif number in (2, 3, 7, 8) and constant is not None:
                numbers += map(float, self._integers(value)) if number in (3, 8) else self._floats(_span(value))
        if tensors:
            self._tensor(_only(tensors, "tensor of an attribute"), constant)
        if numbers and constant is not None:
            self._constants.setdefault(constant, []).append(numbers)

    def _tensor(self, span: Tuple[int, int], name: Optional[str]) -> None:
        """name: what the graph calls it, where it is not in the tensor itself."""
        dims: List[int] = []
        kind, own_name, contents = 0, "", []
        for number, value in self._message(span):
            if number == 1:
                dims += self._integers(value)
            elif number == 2:
                kind = value & 0xFFFFFFFF if isinstance(value, int) else 0  # an int32: a parser drops the rest
            elif number == 8:
                own_name = self._text(value)
            elif number in (4, 7, 9):
                contents.append((number, value))
            elif number == 13 or (number == 14 and value == 1):
                raise UserError("it keeps a tensor in another file")
        name = own_name if name is None else name
        elements = _product(dims, "tensor " + short(name))
        if elements * _BITS.get(kind, 8) > (span[1] - span[0]) * 8:
            found = "tensor {} declares {} elements in {} bytes"
            raise UserError(found.format(short(name), elements, span[1] - span[0]))
        if name:  # an operator's input without a name is one that is left out
            held = [number for key, value in contents for number in self._numbers(key, value, kind)]
            # No shape has more sides: an operator that takes this for one is refused.
            self._constants.setdefault(name, []).append(held if elements <= _MOST_SIDES else [float("inf")])

    def _numbers(self, field: int, value: _Value, kind: int) -> List[float]:
        """What a small tensor holds, if it is of float32 or int64, the two that shapes and scales are made of."""
        if isinstance(value, int):
            return [float(_signed(value))] if kind == 7 and field == 7 else []
        if value[1] - value[0] > 10 * _MOST_SIDES:
            return []
        if kind == 7 and field == 7:
            return [float(number) for number in self._integers(value)]
        if kind == 7:
            count = (value[1] - value[0]) // 8
            return list(map(float, struct.unpack_from("<{}q".format(count), self._data, value[0])))
        return self._floats(value) if kind == 1 else []

    def _floats(self, span: Tuple[int, int]) -> List[float]:
        """Of a repeated float, packed or one by one, and of raw bytes; no more than matter."""
        count = min((span[1] - span[0]) // 4, _MOST_SIDES + 1)
        return list(struct.unpack_from("<{}f".format(count), self._data, span[0]))

    def _value_info(self, span: Tuple[int, int]) -> None:
        """ValueInfoProto.type.tensor_type.shape.dim.dim_value"""
        name, dims = "", []
        for number, value in self._message(span):
            if number == 1:
                name = self._text(value)
            elif number == 2:
                for shape in self._inside(_span(value), 1, 2):
                    dims += [size for size in self._inside(shape, 1, 1) if isinstance(size, int)]
        _product(dims, "value " + short(name))

    def _inside(self, span: Tuple[int, int], *path: int) -> List[Any]:
        found: List[Any] = [span]
        for number in path:
            found = [value for part in found for key, value in self._message(_span(part)) if key == number]
        return found

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

    def _text(self, value: _Value) -> str:
        begin, end = _span(value)
        return bytes(self._data[begin : min(end, begin + 1000)]).decode("utf-8", "replace")

    def _integers(self, value: _Value) -> List[int]:
        """Of a repeated int64, packed or one by one."""
        if isinstance(value, int):
            return [_signed(value)]
        place, end = value
        found = []
        while place < end:
            number, place = self._varint(place, end)
            found.append(_signed(number))
        return found

    def _message(self, span: Tuple[int, int]) -> Iterator[Tuple[int, _Value]]:
        """Numbers of the fields of a message, and their values."""
        place, end = span
        while place < end:
            self._count()
            key, place = self._varint(place, end)
            wire = key & 7
            if wire == 0:
                value, place = self._varint(place, end)
                yield key >> 3, value
                continue
            if wire == 2:
                length, place = self._varint(place, end)
            elif wire in (1, 5):
                length = 8 if wire == 1 else 4
            else:
                raise _BrokenError("a field of kind {} at byte {}".format(wire, place))
            if length > end - place:
                raise _BrokenError("it breaks off at byte {}".format(place))
            yield key >> 3, (place, place + length)
            place += length

    def _varint(self, place: int, end: int) -> Tuple[int, int]:
        self._count()
        value = 0
        for shift in range(0, 70, 7):
            if place >= end:
                raise _BrokenError("it breaks off at byte {}".format(place))
            byte = self._data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, place
        raise _BrokenError("a number has no end at byte {}".format(place))

    def _count(self) -> None:
        self._fields += 1
        if self._fields > _FIELD_LIMIT:
            raise UserError("it has more than {} fields".format(_FIELD_LIMIT))


def _span(value: _Value) -> Tuple[int, int]:
    if isinstance(value, int):
        raise _BrokenError("a number where something else belongs")
    return value


def _require_known(operator: str, domain: str) -> None:
    """Refuse an operator that no export writes, such as one whose output is as large as the picture says."""
    if domain not in _DOMAINS:
        raise UserError("operator {} is of the set {}, which no export writes".format(short(operator), short(domain)))
    if operator not in OPERATORS:
        raise UserError("operator {} is none that an export writes".format(short(operator)))


def _only(found: List[Tuple[int, int]], what: str) -> Tuple[int, int]:
    """Protobuf joins a field that is there twice: what is small in its parts may be large together."""
    if len(found) > 1:
        raise UserError("it has a {} twice".format(what))
    return found[0]


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


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
