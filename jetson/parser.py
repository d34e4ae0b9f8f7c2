"""What an ONNX parser reads: operators, their types and the limits that a graph shows. Knows nothing of graphs.

A table belongs to a version of a parser and is shared by the boards that have it: `jetson/parsers/*.yaml`.
"""

import functools
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deploy.errors import refuse
from jetson.settings import read_yaml

__all__ = ["ANY_TYPE", "Parser", "Restriction", "parser_names", "read_parser"]

_FOLDER = Path(__file__).parent / "parsers"

# In place of types: whatever type the parser knows.
ANY_TYPE = "any"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Restriction(_Model):
    """Limits of one operator. Inputs are called as in the ONNX operator's definition.

    Attributes:
        constant: inputs that must be an initialiser or the output of a Constant.
        constant_if_float: the same where the operator computes on floating point.
        zero: inputs that must be constant and 0.
        spatial: how many dimensions the first input may have after batch and channel.
        allowed: the values that an attribute may have, each element of it where it is a list.
        without: attributes that may not be there.
        outputs: how many outputs may be used.
        unchecked: a limit that only the parser itself can check.
    """

    constant: tuple[str, ...] = ()
    constant_if_float: tuple[str, ...] = ()
    zero: tuple[str, ...] = ()
    spatial: tuple[int, ...] = ()
    allowed: dict[str, tuple[str | int, ...]] = {}
    without: tuple[str, ...] = ()
    outputs: int | None = None
    unchecked: str | None = None


class Parser(_Model):
    """A version of an ONNX parser.

    Attributes:
        engine: what runs the parsed graph.
        opset: lowest and highest version of the default operator set.
        casts: types that are read as another, with values clamped into it.
        types: that a tensor may have after the casts; io_types: that inputs and outputs may have besides.
        domains: operator sets, beyond the default one, that are built in.
        operators: names by the types that they compute on, separated by blanks, or "any".
        unsupported: operators that the parser's own table lists as not supported.
        plugins: operators that only a plugin of the engine knows.
    """

    name: str
    engine: Literal["tensorrt", "onnxruntime"]
    opset: tuple[int, int]
    casts: dict[str, str] = {}
    types: tuple[str, ...]
    io_types: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    operators: Annotated[dict[str, tuple[str, ...]], Field(min_length=1)]
    unsupported: tuple[str, ...] = ()
    restrictions: dict[str, Restriction] = {}
    plugins: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_each_once(self) -> "Parser":
        names = [name for group in self.operators.values() for name in group]
        twice = sorted({name for name in names if names.count(name) > 1 or name in self.unsupported})
        if twice:
            raise ValueError(f"operators: {twice[0]} stands there twice")
        unknown = sorted(set(self.restrictions) - set(names))
        if unknown:
            raise ValueError(f"restrictions: {unknown[0]} is none of operators")
        return self

    @functools.cached_property
    def _types_by_operator(self) -> dict[str, tuple[str, ...]]:
        return {
            name: self.types if types == ANY_TYPE else tuple(types.split())
            for types, names in self.operators.items()
            for name in names
        }

    def reads(self, operator: str) -> bool:
        """Whether `operator`, of the default operator set, is in the table."""
        return operator in self._types_by_operator

    def types_of(self, operator: str) -> tuple[str, ...]:
        """Types that an operator of the table computes on."""
        return self._types_by_operator[operator]

    def restriction(self, operator: str) -> Restriction:
        """Limits of an operator; none where the table names none."""
        return self.restrictions.get(operator, _NO_RESTRICTION)


_NO_RESTRICTION = Restriction()


def parser_names() -> tuple[str, ...]:
    """Names of the tables that are shipped."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


@functools.cache
def read_parser(name: str) -> Parser:
    """Read the table of a parser by the name of its file.

    Raises:
        UserError: no such parser, or what is wrong with its file.
    """
    if name not in parser_names():
        raise refuse(f"parser {name}", "unknown", f"allowed: {', '.join(parser_names())}")
    return read_yaml(_FOLDER / f"{name}.yaml", Parser)
