"""What an ONNX file holds, read without the onnx package, which a Jetson does not have.

Reads the few fields that building an engine asks for, by protobuf's wire format; it does not check the model. Field
numbers are those of onnx.proto3: ModelProto.graph 7; GraphProto.node 1, initializer 5, input 11; NodeProto.input 1,
output 2, name 3, op_type 4; TensorProto.data_type 2; ValueInfoProto.type 2, and behind it tensor_type 1, shape 2,
dim 1, dim_value 1.
"""

import hashlib
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence, Set, Tuple, Union

from deploy.errors import refuse

# onnx.proto3, TensorProto.DataType.
_FLOAT16 = 10

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


class Node(NamedTuple):
    """One operator of the graph; inputs and outputs are names of tensors."""

    name: str
    operator: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]


class OnnxFile(NamedTuple):
    """A whole file. sha256: of its bytes, hexadecimal. has_half_weights: whether any initializer is float16.

    input_shape: of the first input; a size that is not fixed is 0.
    """

    path: Path
    content: bytes
    sha256: str
    nodes: Tuple[Node, ...]
    input_shape: Tuple[int, ...]
    has_half_weights: bool


class Step(NamedTuple):
    """A node of any graph: the tensors it reads and makes, and whether it applies learned weights."""

    inputs: Sequence[str]
    outputs: Sequence[str]
    is_weighted: bool


def read_onnx(path: Path) -> OnnxFile:
    """Read an ONNX file.

    Raises UserError where there is none, or where it is cut off, empty or something else.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise refuse(path, error.strerror or str(error), "give an ONNX file") from None
    return parse_onnx(Path(path), content)


def parse_onnx(path: Path, content: bytes) -> OnnxFile:
    """What `read_onnx` does with the bytes; `path` is for messages."""
    try:
        graphs = [value for number, value in _fields(memoryview(content)) if number == 7]
        entries = [entry for graph in graphs for entry in _fields(_view(graph))]
        nodes = tuple(_node(_view(value)) for number, value in entries if number == 1)
        is_half = any(_number(_view(value), 2) == _FLOAT16 for number, value in entries if number == 5)
        shapes = [_shape(_view(value)) for number, value in entries if number == 11]
    except ValueError as error:
        raise refuse(path, "is no whole ONNX file ({})".format(error), "copy or export it again") from None
    if not nodes or not shapes:
        raise refuse(path, "is no ONNX file: it holds no graph", "copy or export it again")
    return OnnxFile(path, content, hashlib.sha256(content).hexdigest(), nodes, shapes[0], is_half)


def is_decode(steps: Sequence[Step]) -> List[bool]:
    """For every step, whether no learned weights are applied after it or in it: what makes boxes of the raw heads.

    Boxes are pixels: half precision has a spacing of 0.25 from 256 on, so this part stays in float32.
    """
    before: Set[str] = set()  # tensors that some weighted step is made of
    result = []
    for step in reversed(steps):
        is_trunk = step.is_weighted or any(name in before for name in step.outputs)
        if is_trunk:
            before.update(step.inputs)
        result.append(not is_trunk)
    return result[::-1]


def _node(data: memoryview) -> Node:
    texts: Dict[int, List[str]] = {1: [], 2: [], 3: [""], 4: [""]}
    for number, value in _fields(data):
        if number in texts:
            texts[number].append(str(_view(value), "utf-8", "replace"))
    return Node(texts[3][-1], texts[4][-1], tuple(texts[1]), tuple(texts[2]))


def _shape(value_info: memoryview) -> Tuple[int, ...]:
    shapes = _inside(_inside(_inside([value_info], 2), 1), 2)
    return tuple(_number(size, 1) for size in _inside(shapes, 1))


def _inside(messages: List[memoryview], wanted: int) -> List[memoryview]:
    return [_view(value) for message in messages for number, value in _fields(message) if number == wanted]


def _number(message: memoryview, wanted: int) -> int:
    found = [value for number, value in _fields(message) if number == wanted and isinstance(value, int)]
    return found[-1] if found else 0


def _view(value: Union[int, memoryview]) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def _fields(data: memoryview) -> Iterator[Tuple[int, Union[int, memoryview]]]:
    """The fields of a message: number, and the integer or the bytes; ValueError where it breaks off."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        if kind == _BYTES:
            length, place = _varint(data, place)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError("a field of kind {}".format(kind))
        if number == 0 or place + length > len(data):
            raise ValueError("{} bytes are missing".format(place + length - len(data)) if number else "field 0")
        yield number, data[place : place + length]
        place += length


def _varint(data: memoryview, place: int) -> Tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 64:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    raise ValueError("breaks off within a number")
