"""What an ONNX file holds, read without the onnx package, which a Jetson does not have.

Reads the few fields that building an engine asks for; it does not check the model. Field numbers are those of
onnx.proto3: ModelProto.graph 7; GraphProto.node 1, initializer 5, input 11; NodeProto.input 1, output 2, name 3,
op_type 4; TensorProto.data_type 2; ValueInfoProto.type 2, and behind it tensor_type 1, shape 2, dim 1, dim_value 1.
"""

import hashlib
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

from deploy.errors import refuse
from deploy.protobuf import BrokenError, Span, TooManyError, Walker

# onnx.proto3, TensorProto.DataType.
_FLOAT16 = 10

_FIELD_LIMIT = 2000000
_TEXT_LIMIT = 1 << 16  # bytes of a name


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
    """What `read_onnx` does with the bytes; `path` is for messages.

    Raises UserError where they are no whole ONNX file.
    """
    walker = Walker(content, _FIELD_LIMIT)
    try:
        entries = walker.inside(walker.whole, 7)
        entries = [entry for graph in entries for entry in walker.fields(graph.span)]
        nodes = tuple(_node(walker, entry.span) for entry in entries if entry.number == 1)
        is_half = any(_number(walker, entry.span, 2) == _FLOAT16 for entry in entries if entry.number == 5)
        shapes = [_shape(walker, entry.span) for entry in entries if entry.number == 11]
    except BrokenError as error:
        raise refuse(path, "is no whole ONNX file ({})".format(error), "copy or export it again") from None
    except TooManyError:
        raise refuse(path, "has more than {} fields".format(_FIELD_LIMIT), "export the network again") from None
    if not nodes or not shapes:
        raise refuse(path, "is no ONNX file: it holds no graph", "copy or export it again")
    return OnnxFile(path, content, hashlib.sha256(content).hexdigest(), nodes, shapes[0], is_half)


def _node(walker: Walker, span: Span) -> Node:
    texts: Dict[int, List[str]] = {1: [], 2: [], 3: [""], 4: [""]}
    for field in walker.fields(span):
        if field.number in texts:
            texts[field.number].append(walker.text(field.span, _TEXT_LIMIT))
    return Node(texts[3][-1], texts[4][-1], tuple(texts[1]), tuple(texts[2]))


def _shape(walker: Walker, value_info: Span) -> Tuple[int, ...]:
    sizes = walker.inside(value_info, 2, 1, 2, 1)
    return tuple(_number(walker, size.span, 1) for size in sizes)


def _number(walker: Walker, span: Span, wanted: int) -> int:
    found = [field.value for field in walker.fields(span) if field.number == wanted and isinstance(field.value, int)]
    return found[-1] if found else 0
