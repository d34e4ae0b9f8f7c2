"""The parity report of a bundle as a table."""

from typing import Any

from pipeline.report.columns import ruled

__all__ = ["parity_text"]

_FIGURES = ("heads", "score", "box", "ap50", "unmatched")


def parity_text(parity: dict[str, Any]) -> str:
    """A table per size of the input."""
    return "\n".join(_input_text(one) for one in parity["inputs"])


def _input_text(parity: dict[str, Any]) -> str:
    """A row per runner that was compared with the trained network, each figure with its limit."""
    rows = [["against", "precision", *_FIGURES]]
    for one in parity["comparisons"]:
        figures = [f"{one[name]:.2g} (<= {one['limits'][name]:g})" for name in _FIGURES]
        rows.append([one["against"], one["precision"], *figures])
    ap50 = f"AP@0.5 {100 * parity['ap50']:.1f} %"
    number = f"{parity['pictures']} of the {parity['available']}"
    about = f"{parity['reference']} at {parity['input']} on {number} pictures of val, {ap50}"
    step = f"{parity['objects']} objects: one detection more or less can change the AP of a class by"
    return "\n".join(
        [
            about,
            f"{step} {parity['ap50_step']:g}",
            *ruled(rows, left=2),
            *(f"not compared: {reason}" for reason in parity["left_out"]),
        ]
    )
