"""The parity report of a bundle as a table."""

from typing import Any

from pipeline.report.columns import ruled

__all__ = ["parity_text"]

_FIGURES = ("heads", "score", "box", "ap50", "unmatched")


def parity_text(parity: dict[str, Any]) -> str:
    """A row per runner that was compared with the trained network, each figure with its limit."""
    rows = [["against", "precision", *_FIGURES]]
    for one in parity["comparisons"]:
        figures = [f"{one[name]:.2g} (<= {one['limits'][name]:g})" for name in _FIGURES]
        rows.append([one["against"], one["precision"], *figures])
    about = f"{parity['reference']} on {parity['pictures']} pictures of val, AP@0.5 {100 * parity['ap50']:.1f} %"
    return "\n".join([about, *ruled(rows, left=2), *(f"not compared: {reason}" for reason in parity["left_out"])])
