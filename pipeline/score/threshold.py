"""From layer differences and a threshold to what an experiment file freezes.

The published work freezes by a threshold t on the layer difference and says neither how to set t nor which side of it
is frozen; hence three rules. `below` and `prefix` keep what hardly moves, `above` is the other reading of the words.
Knows nothing about files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pipeline.errors import refuse
from pipeline.files import write_text
from pipeline.score.difference import LayerDifference
from pipeline.score.outline import Outline

__all__ = ["RULES", "Rule", "freeze_line", "freeze_value", "layer_figures", "write_freeze"]

Rule = Literal["below", "prefix", "above"]
RULES: tuple[Rule, ...] = ("below", "prefix", "above")


def layer_figures(found: Sequence[LayerDifference], is_folded: bool) -> dict[int, float | None]:
    """The largest difference of each layer's convolutions; None for one that was not scored, or not all of it."""
    figures: dict[int, float | None] = {}
    for entry in found:
        layer, figure = entry.convolution.layer, entry.figure(is_folded)
        known = figures.get(layer, 0.0)
        figures[layer] = None if known is None or figure is None else max(known, figure)
    return figures


def freeze_value(
    outline: Outline, figures: Mapping[int, float | None], threshold: float, rule: Rule
) -> int | tuple[int, ...]:
    """What to freeze: a count under `prefix`, else a list of layers; 0 for nothing.

    below: each layer whose difference is at most the threshold. prefix: the layers before the first one whose
    difference is above it. above: each layer whose difference is above it. Layers that were not scored are never
    frozen, and end a prefix: re-initialised ones, and those without a convolution.

    Raises:
        UserError: no layer would be left to train; a threshold that no difference can have.
    """
    if not 0 <= threshold <= 2:
        raise refuse(f"--threshold {threshold:g}", "no layer difference", "give a number from 0 to 2")
    if rule == "prefix":
        ends = (i for i in outline.layers if (figure := figures.get(i)) is None or figure > threshold)
        count = next(ends, None)
        if count is not None:
            return count
        frozen: tuple[int, ...] = outline.layers
    else:
        frozen = tuple(
            i
            for i in outline.layers
            if (figure := figures.get(i)) is not None and (figure > threshold) == (rule == "above")
        )
    if set(frozen) == set(outline.layers):
        side = "above" if rule == "above" else "at most"
        remedy = "give a higher one" if rule == "above" else "give a lower one"
        raise refuse(f"--threshold {threshold:g}", f"every layer's difference is {side} that", remedy)
    return frozen or 0


def freeze_line(value: int | tuple[int, ...]) -> str:
    """`freeze:` as a stage or a start of an experiment file has it."""
    return f"freeze: [{value if isinstance(value, int) else list(value)}]"


def write_freeze(path: Path, value: int | tuple[int, ...], about: str) -> None:
    """Write the value as a line for an experiment file, under a comment that says how it came about.

    Raises:
        UserError: the file is there already.
    """
    if path.exists():
        raise refuse(path, "is there already", "give another name, or remove it")
    write_text(path, f"# {about}\n{freeze_line(value)}\n")
