"""The list of published weights, for a terminal and for machines: what they are, and which of them are here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.darknet.known import KNOWN_WEIGHTS
from pipeline.report.columns import ruled

__all__ = ["known_weights_rows", "known_weights_text"]


def known_weights_rows(folder: Path) -> list[dict[str, Any]]:
    """A row per published file. size: bytes; path: where it lies in `folder`, None where it does not."""
    rows = []
    for known in KNOWN_WEIGHTS:
        path = folder / known.file
        rows.append(
            {
                "name": known.name,
                "trained_on": known.trained_on,
                "classes": known.classes,
                "layers": known.layers,
                "resize": known.resize,
                "size": known.size,
                "network": known.network,
                "licence": known.licence,
                "path": str(path) if path.is_file() else None,
            }
        )
    return rows


def known_weights_text(rows: Sequence[dict[str, Any]], folder: Path) -> str:
    """The rows as a table."""
    table = [["name", "trained on", "classes", "layers", "resize", "MB", "here"]]
    for row in rows:
        layers = "all" if row["layers"] is None else f"0 to {row['layers'] - 1}"
        size = "?" if row["size"] is None else f"{row['size'] / 1e6:.1f}"
        is_here = "yes" if row["path"] else "no"
        table.append([row["name"], row["trained_on"], str(row["classes"]), layers, row["resize"], size, is_here])
    return "\n".join([*ruled(table, left=2), f"Here is {folder}; skylight weights NAME downloads one there."])
