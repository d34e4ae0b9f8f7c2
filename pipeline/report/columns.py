"""Rows of words under each other for a terminal. Knows nothing of what they say."""

from collections.abc import Sequence

__all__ = ["ruled"]


def ruled(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of `rows`, a rule under the first one. left: so many columns are set to the left, the others to the right.

    >>> ruled([["name", "AP"], ["Arch", "9.5"]])
    ['name   AP', '---------', 'Arch  9.5']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_set(row[i], widths[i], i < left) for i in range(len(widths))).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    return lines


def _set(word: str, width: int, is_left: bool) -> str:
    return word.ljust(width) if is_left else word.rjust(width)
