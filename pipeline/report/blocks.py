"""What the page is made of: sections of text, tables, plots and pictures. Knows nothing of HTML, nor of experiments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

__all__ = ["Block", "Facts", "Fold", "Frame", "Frames", "Line", "Plot", "Section", "Table", "Text", "number"]


@dataclass(frozen=True)
class Text:
    """A paragraph; what stands between backticks is code. is_code: lines as they are."""

    kind: ClassVar = "text"
    text: str
    is_code: bool = False


@dataclass(frozen=True)
class Facts:
    """Large figures, each with its name and what is to be known about it."""

    kind: ClassVar = "facts"
    rows: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Table:
    """Rows of words.

    left: so many columns are words, the others figures. bold: a row to be seen first. bar: a column of plain numbers
    that are also drawn, as parts of the largest.
    """

    kind: ClassVar = "table"
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1
    bold: int | None = None
    bar: int | None = None

    @property
    def shares(self) -> tuple[float, ...]:
        """Of every row the part of the largest in the column that is drawn, 0 to 100; empty without such a column."""
        if self.bar is None:
            return ()
        values = [float(row[self.bar]) for row in self.rows]
        return tuple(round(100 * value / (max(values) or 1), 1) for value in values)


@dataclass(frozen=True)
class Line:
    """One line of a plot: a value per x, None where there is none.

    Attributes:
        colour, dash: places in the page's lists; the dash also chooses the marker.
        low, high: the band around it, empty without one.
    """

    name: str
    values: tuple[float | None, ...]
    colour: int
    dash: int
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Plot:
    """Lines over the same x, in order.

    Attributes:
        name: unique on the page. told: what is to be seen, for those who do not see it.
        range: of y; None for what the values need. is_log: y in powers of ten; 0 is then not drawn.
    """

    kind: ClassVar = "plot"
    name: str
    title: str
    told: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    lines: tuple[Line, ...]
    range: tuple[float, float] | None = None
    is_log: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For the page's script."""
        lines = [
            {
                "name": line.name,
                "values": _drawn(line.values, self.is_log),
                "colour": line.colour,
                "dash": line.dash,
                "low": _drawn(line.low, self.is_log),
                "high": _drawn(line.high, self.is_log),
            }
            for line in self.lines
        ]
        keys = ("name", "title", "x_label", "y_label", "range", "is_log")
        return {key: getattr(self, key) for key in keys} | {"x": list(self.x), "lines": lines}

    def table(self) -> Table:
        """The same figures as words."""
        head = (self.x_label, *(line.name for line in self.lines))
        columns = zip(*(line.values for line in self.lines), strict=True)
        rows = tuple((number(x), *map(number, column)) for x, column in zip(self.x, columns, strict=True))
        return Table(f"{self.title}: {self.y_label}", head, rows, left=0)


@dataclass(frozen=True)
class Frame:
    """A picture and what was found on it.

    Attributes:
        jpeg: data URI. width, height: of the coordinates of the boxes.
        boxes: kind (right, wrong, missed, label), words, and xyxy.
        told: the same in words.
    """

    name: str
    jpeg: str
    width: int
    height: int
    boxes: tuple[tuple[str, str, tuple[float, float, float, float]], ...]
    told: str


@dataclass(frozen=True)
class Frames:
    """Pictures side by side."""

    kind: ClassVar = "frames"
    title: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class Fold:
    """What is shown when asked for."""

    kind: ClassVar = "fold"
    title: str
    blocks: "tuple[Block, ...]"


Block = Text | Facts | Table | Plot | Frames | Fold


@dataclass(frozen=True)
class Section:
    """A part of the page. missing: why something is left out, and which command would give it; a sentence each,
    in which what stands between backticks is code."""

    name: str
    title: str
    blocks: tuple[Block, ...] = ()
    missing: tuple[str, ...] = ()


def number(value: float | None) -> str:
    """Four digits at most; nothing for None.

    >>> number(0.000123456), number(300.0)
    ('0.0001235', '300')
    """
    return "" if value is None else f"{value:.4g}"


def _drawn(values: Sequence[float | None], is_log: bool) -> list[float | None]:
    """Rounded to six digits, which no eye tells apart; on a logarithmic axis only what is above 0."""
    return [None if value is None or (is_log and value <= 0) else float(f"{value:.6g}") for value in values]
